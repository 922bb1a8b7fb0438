"""All that a running experiment consists of, and how it is saved and restored."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.schema import Config
from data.poison import TrainingSet, Truth
from data.transform import Chain
from defense import Defense, Pools
from model import Network
from run.checkpoint import Progress, save_checkpoint
from run.folder import RunFolder
from run.material import Material
from run.measure import Score, evaluate, pool_quality
from run.restore import (
    restore_average,
    restore_method,
    restore_network,
    restore_optimizer,
    restore_progress,
    to_device,
)
from run.resume import Resumption
from run.setup import Setup
from run.state import FORMAT
from training.ground import Ground
from training.learner import Learner
from utils.console import percent, say
from utils.engine import Engine

# What differs between two runs that are otherwise the same bit for bit.
TIME_COLUMNS = ("seconds", "images_per_second")


@dataclass
class Session:
    """One experiment, from its configuration to its place in the schedule.

    Attributes:
        setup: configuration, device, folder, where it starts from.
        material: its data, and the truth, for what measures.
        ground, learner: what a step stands on, and what it changes.
        defense: the method that splits and trains.
        test_chain: how an image is seen in evaluation.
        progress: the place in the schedule.
        epoch_began: clock time in seconds.
        last_score: of the last `evaluate`.
        earlier: where an earlier run of this name was moved.
    """

    setup: Setup
    material: Material
    ground: Ground
    learner: Learner
    defense: Defense
    test_chain: Chain
    progress: Progress = field(default_factory=Progress)
    epoch_began: float = field(default_factory=time.perf_counter)
    last_score: Score | None = None
    earlier: Path | None = None

    @property
    def config(self) -> Config:
        """The whole configuration."""
        return self.setup.config

    @property
    def folder(self) -> RunFolder:
        """Where the run leaves its files."""
        return self.setup.folder

    @property
    def engine(self) -> Engine:
        """How and where it computes."""
        return self.ground.engine

    @property
    def training(self) -> TrainingSet:
        """All samples with their given labels, on the device."""
        return self.ground.training

    @property
    def truth(self) -> Truth:
        """What no method reads."""
        return self.material.truth

    @property
    def network(self) -> Network:
        """The network that learns."""
        return self.learner.network

    @property
    def model(self) -> Network:
        """What is tested and handed out: the network, or its average."""
        return self.learner.model_for("test")

    def restore(self, start: Resumption) -> None:
        """Load the weights of a checkpoint and, if it is to be trained on, everything else."""
        assert start.state is not None and start.path is not None
        state = start.state
        restore_network(self.network, state, start.path)
        if "format" not in state:
            if self.learner.average is not None:  # it has none of its own
                self.learner.average.network.load_state_dict(self.network.state_dict())
            return
        before, now = state.get("processes", 1), self.engine.world.size
        if before != now:
            say(f"{before} process(es) before, {now} now: not bit-identical to an unbroken run")
        if not start.only_evaluate:
            optimizer, scheduler = self.learner.optimizer, self.learner.scheduler
            taken = self.defense.learner_steps(state["epoch"], state["step"])
            if taken:  # the rate is that of the last step, and is compared
                self.learner.before_step(taken - 1, self.defense.learner_steps_in_all)
                epochs = state["epoch"] - self.defense.learner_from
                restore_optimizer(optimizer, scheduler, state, start.path, epochs)
        restore_average(self.learner.average, state, start.path)
        restore_method(self.defense, state, start.path)
        samples, losses = len(self.training), len(self.defense.loss_names)
        self.progress = restore_progress(
            state, start.path, samples, losses, self.defense.steps_in(state["epoch"])
        )
        to_device(self.progress, self.engine.device)

    def save(self, best: bool = False) -> None:
        """Write a checkpoint and, from its rows, the log; of several processes, the first does."""
        if not self.engine.world.is_first:
            return
        scheduler = None if self.learner.scheduler is None else self.learner.scheduler.state_dict()
        average, chosen = self.learner.average, self.material.chosen
        save_checkpoint(
            self.folder.checkpoints,
            {
                "format": FORMAT,
                **self.progress.as_state(),
                "result": self.progress.rows[-1] if self.progress.rows else {},
                "model_state_dict": self.network.state_dict(),
                "optimizer_state_dict": self.learner.optimizer.state_dict(),
                "scheduler_state_dict": scheduler,
                "average_state_dict": None if average is None else average.state_dict(),
                "defense_state_dict": self.defense.state_dict(),
                "config": self.config.as_yaml(),
                "seed": self.setup.streams.seed,
                "processes": self.engine.world.size,
                "fingerprints": self.material.fingerprints,
                **({} if chosen is None else {"seeds": chosen}),
            },
            best,
        )
        if self.progress.rows:
            self.folder.write_log(self.progress.rows)

    def evaluate(self) -> Score:
        """Return ACC and ASR of the network as it is."""
        batch = self.config.speed.evaluation_batch
        self.last_score = evaluate(self.model, self.truth, self.test_chain, self.engine, batch)
        return self.last_score

    def readable_score(self, acc: float | None, asr: float | None) -> dict[str, str]:
        """Return ACC and, where it is known, ASR for people, by column title."""
        attacked = {"ASR": percent(asr)} if self.config.truth_known else {}
        return {"ACC": percent(acc), **attacked}

    def describe_split(self, epoch: int, pools: Pools) -> dict[str, Any]:
        """Return the part of the log row that is known once `epoch` is split."""
        row: dict[str, Any] = {"epoch": epoch, "stage": pools.stage or self.defense.stage(epoch)}
        row |= dict.fromkeys(self.defense.loss_names)
        row["learning_rate"] = self.defense.learning_rate(epoch)
        weight = self.defense.unlabelled_weight(epoch)
        if weight is not None:
            row["lambda_u"] = weight
        self.progress.history.note(row["stage"], pools)
        row["clean_pool"] = int(pools.clean.sum())
        row |= pools.figures
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
        defense, epoch = self.defense, self.progress.epoch
        means = (self.progress.totals / defense.steps_in(epoch)).tolist()
        measured = dict(zip(defense.loss_names, means, strict=True))
        row |= {name: measured[name] for name in defense.losses_in(epoch)}
        score = self.evaluate() if self.config.is_tested(epoch) else Score(None, None)
        row["acc"] = score.acc
        if self.config.truth_known:
            row["asr"] = score.asr
        row["seconds"] = round(self.stop_clock(), 3)
        speed = steps_timed * defense.images_in_step(epoch) / max(training_seconds, 1e-9)
        row["images_per_second"] = round(speed, 1)
        return row

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Count the epoch as done, and save."""
        state = self.progress
        best = row["acc"] is not None and row["acc"] > state.best_acc
        if best:
            state.best_acc, state.best_epoch = row["acc"], state.epoch
        if self.learner.scheduler is not None and state.epoch >= self.defense.learner_from:
            self.learner.scheduler.step()
        state.rows.append(row)
        state.epoch, state.step, state.seconds = state.epoch + 1, 0, 0.0
        state.clean, state.totals, state.row = None, None, {}
        self.save(best)
