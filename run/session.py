"""All that a running experiment consists of, and how it is saved and restored."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from config.schema import Config, TransformSection
from data.build import dataset_name
from data.dataset.decode import Frame
from data.poison import TrainingSet, Truth
from data.review import Review
from data.transform import Chain
from defense import Defense, Pools
from model import Network
from run.checkpoint import FORMAT, Progress, restore_network, save_checkpoint
from run.folder import RunFolder
from run.measure import Score, evaluate, pool_quality
from run.product import Description, FrameSection
from run.resume import Resumption
from run.versions import git_commit, versions
from utils.console import percent, say
from utils.device import Engine, device_name

# What differs between two runs that are otherwise the same bit for bit.
TIME_COLUMNS = ("seconds", "images_per_second")


@dataclass
class Session:
    """One experiment, from its configuration to its place in the schedule."""

    config: Config
    seed: int
    folder: RunFolder
    frame: Frame | None
    training: TrainingSet
    truth: Truth
    seeds: torch.Tensor
    review: Review
    seeds_checked: bool
    network: Network
    optimizer: Optimizer
    scheduler: LRScheduler | None
    engine: Engine
    test_chain: Chain
    defense: Defense
    fingerprints: dict[str, str]
    progress: Progress
    holds_out: bool = False  # ACC is measured on verified samples that training never sees
    epoch_began: float = field(default_factory=time.perf_counter)  # seconds
    last_score: Score | None = None  # of the last `evaluate`
    earlier: Path | None = None  # where an earlier run of this name was moved

    def restore(self, start: Resumption) -> None:
        """Load the weights of a checkpoint and, if it is to be trained on, everything else."""
        assert start.state is not None and start.path is not None
        state = start.state
        restore_network(self.network, state, start.path)
        if "format" not in state:
            return
        before, now = state.get("processes", 1), self.engine.world.size
        if before != now:
            say(f"{before} process(es) before, {now} now: not bit-identical to an unbroken run")
        self.optimizer.load_state_dict(state["optimizer_state_dict"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler_state_dict"])
        self.progress = Progress.from_state(state)
        if self.progress.totals is not None:
            self.progress.totals = self.progress.totals.to(self.engine.device)

    def save(self, best: bool = False) -> None:
        """Write a checkpoint and, from its rows, the log; of several processes, the first does."""
        if not self.engine.world.is_first:
            return
        scheduler = None if self.scheduler is None else self.scheduler.state_dict()
        save_checkpoint(
            self.folder.checkpoints,
            {
                "format": FORMAT,
                **self.progress.as_state(),
                "result": self.progress.rows[-1] if self.progress.rows else {},
                "model_state_dict": self.network.state_dict(),
                "optimizer_state_dict": self.optimizer.state_dict(),
                "scheduler_state_dict": scheduler,
                "config": self.config.as_yaml(),
                "seed": self.seed,
                "processes": self.engine.world.size,
                "fingerprints": self.fingerprints,
            },
            best,
        )
        if self.progress.rows:
            self.folder.write_log(self.progress.rows)

    def evaluate(self) -> Score:
        """Return ACC and ASR of the network as it is."""
        batch = self.config.speed.evaluation_batch
        self.last_score = evaluate(self.network, self.truth, self.test_chain, self.engine, batch)
        return self.last_score

    def readable_score(self, acc: float | None, asr: float | None) -> dict[str, str]:
        """Return ACC and, where it is known, ASR for people, by column title."""
        attacked = {"ASR": percent(asr)} if self.config.truth_known else {}
        return {"ACC": percent(acc), **attacked}

    def describe_split(self, epoch: int, pools: Pools) -> dict[str, Any]:
        """Return the part of the log row that is known once `epoch` is split."""
        row: dict[str, Any] = {"epoch": epoch, "stage": self.defense.stage(epoch)}
        row |= dict.fromkeys(self.defense.loss_names)
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        weight = self.defense.unlabelled_weight(epoch)
        if weight is not None:
            row["lambda_u"] = weight
        self.progress.history.note(row["stage"], pools)
        row["clean_pool"] = int(pools.clean.sum())
        if self.config.truth_known:
            quality = pool_quality(pools, self.truth)
            row |= {"poisoned_in_clean_pool": quality.poisoned_in_clean_pool}
            row |= {"tpr": quality.tpr, "fpr": quality.fpr, "auroc": quality.auroc}
        return row

    def start_clock(self) -> None:
        """Start to measure the epoch's time, or what is left of it after an interruption."""
        self.epoch_began = time.perf_counter()

    def stop_clock(self) -> float:
        """Return the epoch's seconds so far, those before an interruption included."""
        now = time.perf_counter()
        self.progress.seconds += now - self.epoch_began
        self.epoch_began = now
        return self.progress.seconds

    def complete_row(self, training_seconds: float, steps_timed: int) -> dict[str, Any]:
        """Return the finished epoch's log row: losses, and, when it is time, ACC and ASR.

        Args:
            training_seconds: that `steps_timed` steps took.
            steps_timed: those since the start or the last interruption.
        """
        assert self.progress.totals is not None
        row = dict(self.progress.row)
        means = (self.progress.totals / self.defense.steps_per_epoch).tolist()
        row |= dict(zip(self.defense.loss_names, means, strict=True))
        epochs_done = self.progress.epoch + 1
        is_last = epochs_done == self.config.num_epochs
        tested = is_last or epochs_done % self.config.test_interval == 0
        score = self.evaluate() if tested else Score(None, None)
        row["acc"] = score.acc
        if self.config.truth_known:
            row["asr"] = score.asr
        row["seconds"] = round(self.stop_clock(), 3)
        speed = steps_timed * self.defense.images_per_step / max(training_seconds, 1e-9)
        row["images_per_second"] = round(speed, 1)
        return row

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Count the epoch as done, and save."""
        state = self.progress
        best = row["acc"] is not None and row["acc"] > state.best_acc
        if best:
            state.best_acc, state.best_epoch = row["acc"], state.epoch
        if self.scheduler is not None:
            self.scheduler.step()
        state.rows.append(row)
        state.epoch, state.step, state.seconds = state.epoch + 1, 0, 0.0
        state.clean, state.totals, state.row = None, None, {}
        self.save(best)

    def result(self, score: Score) -> dict[str, Any]:
        """Return the content of `result.json`; all figures are of the last epoch."""
        backdoor, state = self.config.backdoor, self.progress
        return {
            "defense": self.config.defense,
            "dataset": self.config.dataset,
            **({} if backdoor is None else {"attack": backdoor.attack.name}),
            "epochs": state.epoch,
            "acc": score.acc,
            **({} if backdoor is None else {"asr": score.asr}),
            "seconds": round(sum(row["seconds"] for row in self.progress.rows), 1),
            "device": device_name(self.engine.device),
            "engine": str(self.engine),
            "seed": self.seed,
            "training_samples": len(self.training),
            **self._known_truth(),
            "seeds_checked": self.seeds_checked,
            "best_acc": None if state.best_epoch < 0 else state.best_acc,
            "best_epoch": None if state.best_epoch < 0 else state.best_epoch,
            "fingerprints": self.fingerprints,
            "git_commit": git_commit(),
            "versions": versions(),
        }

    def describe_model(self, score: Score, verdict: dict[str, Any] | None) -> Description:
        """Return what `model.json` says of the network as it is."""
        transform = self.config.transform
        normalize = transform.test.remaining.normalize
        assert self.frame is not None  # `load_data` sees to it
        return Description(
            network=self.config.network,
            classes=list(self.training.classes),
            input_size=list(self.test_chain.output_size),
            mean=normalize.mean,
            std=normalize.std,
            frame=FrameSection(size=self.frame.size, shorter_side=self.frame.shorter_side),
            transform=TransformSection(pre=transform.pre, test=transform.test),
            acc=score.acc,
            verdict=verdict,
            dataset=dataset_name(self.config)[0],
            epochs=self.progress.epoch,
            data_fingerprint=self.fingerprints["data"],
            git_commit=git_commit(),
            versions=versions(),
        )

    def manifest(self) -> dict[str, Any]:
        """Return what the run was made of, sample by sample."""
        backdoor, files = self.config.backdoor, self.training.files
        seeds = self.seeds.tolist()
        held_out = self.truth.clean_test.files if self.holds_out else None
        return {
            "seed": self.seed,
            "dataset": self.config.dataset,
            "classes": list(self.training.classes),
            "fingerprints": self.fingerprints,
            **({} if backdoor is None else {"attack": backdoor.attack.name}),
            **self._known_truth(indices=True),
            "seeds_checked": self.seeds_checked,
            "seed_indices": seeds,
            **({} if files is None else {"seed_files": [files[index] for index in seeds]}),
            **({} if held_out is None else {"held_out_files": list(held_out)}),
            "versions": versions(),
            "git_commit": git_commit(),
            "device": device_name(self.engine.device),
            "engine": str(self.engine),
        }

    def _known_truth(self, indices: bool = False) -> dict[str, Any]:
        """Return how many samples are poisoned, perhaps which; nothing where nobody knows."""
        if not self.config.truth_known:
            return {}
        poisoned = torch.nonzero(self.truth.poisoned).flatten().tolist()
        known: dict[str, Any] = {"poisoned_samples": len(poisoned)}
        return known | ({"poisoned_indices": poisoned} if indices else {})
