"""The benchmark of `--bench`: one table and one JSON file.

Three ways of each part of a run, turn by turn in one process: `conventional` (what such code
usually does: PIL, `DataLoader` workers, eager fp32, a wait for every loss), `reference` (this
project's plain path) and `fast` (its default).
"""

from __future__ import annotations

import copy
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from command.conventional import ConventionalStep, PilDataset, pil_chain
from command.timing import Timing, Work, in_turns, matrix_product, peak_host_bytes
from defense import Setting
from defense.asd import META_SPLIT, stage_of
from defense.virtual import train_only
from loss import build_criterion
from model.place import place_network
from run.measure import predictions
from run.session import Session
from run.versions import git_commit, versions
from training.draws import EpochDraws
from training.learner import Learner
from training.mixmatch import MixMatch
from training.record import record_losses
from training.supervised import Supervised
from training.torch_parts import build_optimizer
from utils.console import say, table
from utils.device import device_name
from utils.engine import Engine
from utils.files import PROJECT, write_text

FOLDER = PROJECT / "results" / "bench"
REPEATS = 7  # of every measurement
WORKERS = min(4, os.cpu_count() or 1)  # of each conventional loader
CONVENTIONAL, REFERENCE, FAST = "conventional", "reference", "fast"
PRODUCT = "matrix product"


@dataclass(frozen=True)
class Part:
    """One part of a run, timed in every way.

    Attributes:
        name: for the table.
        images: that one repetition works on (forwards of single images in a MixMatch step).
        steps: optimiser steps in one repetition; 0 where there are none.
        flops: arithmetic of one repetition, in FLOP; 0 where it is not the point.
        timings: by way, and of the matrix products.
        product_flops: arithmetic of the matrix products timed in turn with them, in FLOP; 0
            without any.
    """

    name: str
    images: int
    steps: int
    flops: float
    timings: Mapping[str, Timing]
    product_flops: float = 0.0

    def share(self, way: str) -> float:
        """Return the arithmetic rate of `way` as a share of the matrix products' (medians)."""
        product = self.product_flops / self.timings[PRODUCT].median
        return self.flops / self.timings[way].median / product

    def speed_up(self) -> float | None:
        """Return how many times faster the fast way is than the conventional one."""
        if CONVENTIONAL not in self.timings:
            return None
        return self.timings[CONVENTIONAL].median / self.timings[FAST].median


class Bench:
    """Times the parts of the run that `session` stands for.

    Args:
        session: prepared, on its device.
        repeats: of every measurement.
    """

    def __init__(self, session: Session, repeats: int) -> None:
        self.session, self.repeats = session, repeats
        self.config, self.fast = session.config, session.engine
        self.device = session.engine.device
        self.reference = Engine(self.device)
        on_gpu = self.device.type == "cuda"
        self.samples = min(len(session.training), 50_000 if on_gpu else 2_000)
        self.steps = 20 if on_gpu else 1

    def setting(self, engine: Engine) -> Setting:
        """Return the run's setting with a network and an optimiser of its own."""
        network = copy.deepcopy(self.session.network)
        place_network(network, engine)
        optimizer = build_optimizer(self.config.optimizer, network.parameters())
        setting = self.session.defense.setting
        ground = replace(setting.ground, engine=engine)
        return replace(setting, ground=ground, learner=Learner(network, optimizer))

    def measure(self, name: str, works: Mapping[str, Work], images: int, **more: Any) -> Part:
        """Return the timings of `works`, each of which handles so many images."""
        steps, flops, product_flops = more.get("steps", 0), more.get("flops", 0.0), 0.0
        if flops:
            dtype = torch.bfloat16 if self.fast.bf16 else torch.float32
            product, product_flops = matrix_product(self.device, dtype)
            works = {**works, PRODUCT: product}
        timings = in_turns(works, self.device, self.repeats)
        return Part(name, images, steps, flops, timings, product_flops)

    def mixmatch(self) -> Part:
        """Time the training step, its data included."""
        works = {CONVENTIONAL: self.conventional_step()}
        for name, engine in ((REFERENCE, self.reference), (FAST, self.fast)):
            works[name] = self.own_step(engine)
        batch = self.config.semi.loader.batch_size
        flops = self.steps * step_flops(self.setting(self.reference), batch)
        images = 5 * batch * self.steps
        return self.measure("MixMatch step", works, images, steps=self.steps, flops=flops)

    def conventional_step(self) -> Work:
        """Return `steps` conventional steps."""
        setting, training = self.setting(self.reference), self.session.training
        learner = setting.learner
        step = ConventionalStep(
            self.config, training.images, training.labels, learner.network, learner.optimizer,
            self.device, WORKERS,
        )  # fmt: skip
        return lambda: [step() for _ in range(self.steps)]

    def own_step(self, engine: Engine) -> Work:
        """Return `steps` steps of this project."""
        setting = self.setting(engine)
        clean = torch.arange(len(setting.ground.training)) % 2 == 0
        draws = EpochDraws(setting.ground, setting.config.semi, clean.to(self.device), 0)
        temperature = self.config.semi.mixmatch.temperature
        learner = setting.learner
        mixmatch = MixMatch(learner.network.train(), learner.optimizer, engine, temperature)
        batches = draws.batches(0)

        def work() -> None:
            for _ in range(self.steps):
                batch, mix = next(batches)
                mixmatch.step(batch, mix, 1.0)

        return work

    def record(self) -> Part:
        """Time the pass that measures every sample's loss."""
        works: dict[str, Work] = {CONVENTIONAL: self.conventional_record()}
        for name, engine in ((REFERENCE, self.reference), (FAST, self.fast)):
            works[name] = self.own_record(engine)
        flops = self.samples * forward_flops(self.setting(self.reference))
        return self.measure("record pass", works, self.samples, flops=flops)

    def conventional_record(self) -> Work:
        """Return a pass in batches of the YAML's loader, eager fp32, waiting for each loss."""
        setting, training = self.setting(self.reference), self.session.training
        count, criterion = self.samples, build_criterion(self.config.split.criterion)
        images = PilDataset(
            training.images[:count], training.labels[:count], pil_chain(self.config), 1
        )
        loader = DataLoader(images, self.config.loader.batch_size, num_workers=WORKERS)

        def work() -> list[list[float]]:
            setting.learner.network.eval()
            losses = []
            with torch.no_grad():
                for views, labels in loader:
                    logits = setting.learner.network(views.to(self.device))
                    losses.append(criterion.per_sample(logits, labels.to(self.device)).tolist())
            return losses

        return work

    def own_record(self, engine: Engine) -> Work:
        """Return this project's pass."""
        setting, count = self.setting(engine), self.samples
        training = self.session.training
        part = replace(training, images=training.images[:count], labels=training.labels[:count])
        criterion = build_criterion(self.config.split.criterion)
        ground, network = replace(setting.ground, training=part), setting.learner.network
        stream = ground.streams.torch
        return lambda: record_losses(network, ground, criterion, stream("record-augment"))

    def virtual(self) -> Part:
        """Time steps of the virtual model."""
        works = {
            name: self.virtual_step(engine)
            for name, engine in ((REFERENCE, self.reference), (FAST, self.fast))
        }
        batch = self.config.loader.batch_size
        return self.measure("virtual-model step", works, batch * self.steps, steps=self.steps)

    def virtual_step(self, engine: Engine) -> Work:
        """Return `steps` steps of the virtual model."""
        setting, meta = self.setting(engine), self.config.meta
        ground, network = setting.ground, setting.learner.network
        layers = train_only(network, meta.layers or network.meta_layers)
        optimizer = build_optimizer(meta.optimizer, layers)
        criterion = build_criterion(meta.criterion)
        supervised = Supervised(ground, network.train(), optimizer, criterion)
        batch = min(self.config.loader.batch_size, len(ground.training))
        order = torch.arange(batch, device=self.device)
        draws = ground.chain.draw(batch, ground.streams.torch("virtual-augment"))
        draws = draws.to(self.device)
        return lambda: [list(supervised.steps(order, draws, batch)) for _ in range(self.steps)]

    def test(self) -> Part:
        """Time the classification of test images."""
        images = self.session.truth.clean_test.images[: self.samples]
        batch, chain = self.config.speed.evaluation_batch, self.session.test_chain

        def way(engine: Engine) -> Work:
            network = self.setting(engine).learner.network
            return lambda: predictions(network, images, chain, engine, batch)

        works = {REFERENCE: way(self.reference), FAST: way(self.fast)}
        return self.measure("test pass", works, len(images))

    def data(self) -> Part:
        """Time drawing, augmenting and normalising, against one process with PIL."""
        ground, training = self.setting(self.fast).ground, self.session.training
        count = min(self.samples, 2_000)
        pil = PilDataset(
            training.images[:count], training.labels[:count], pil_chain(self.config), 1
        )
        batch = self.config.semi.loader.batch_size

        def ours() -> None:
            draws = ground.chain.draw(count, ground.streams.torch("augment")).to(self.device)
            order = torch.randperm(count, generator=ground.streams.torch("order"))
            order = order.to(self.device)
            for start in range(0, count - batch + 1, batch):
                part = slice(start, start + batch)
                ground.chain.view(training.images, order[part], draws[part])

        works = {CONVENTIONAL: lambda: [pil[k] for k in range(count)], FAST: ours}
        return self.measure("data path", works, count)


def forward_flops(setting: Setting) -> float:
    """Return the arithmetic of one image's forward, in FLOP, counted by PyTorch."""
    network = copy.deepcopy(setting.learner.network).to("meta").eval()
    height, width = setting.ground.chain.output_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, height, width, device="meta"))
    return float(counter.get_total_flops())


def step_flops(setting: Setting, batch: int) -> float:
    """Return the arithmetic of a MixMatch step, in FLOP.

    Two forwards, and three forwards with backward; the backward has two products for each of the
    forward, save for the gradient into the images, which nobody needs.
    """
    network: nn.Module = copy.deepcopy(setting.learner.network).to("meta")
    height, width = setting.ground.chain.output_size
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(2, 3, height, width, device="meta")).sum().backward()
    both = counter.get_total_flops() / 2
    return float(batch * (2 * forward_flops(setting) + 3 * both))


def run_bench(session: Session) -> Path:
    """Time all parts, print the table, and write the JSON file; return its path."""
    bench = Bench(session, REPEATS)
    say(f"benchmark on {session.engine}; median of {REPEATS}, spread: half the quartile range")
    say("in brackets: the share of the rate of large matrix products, timed in turn")
    makers: list[Callable[[], Part]] = [
        bench.mixmatch, bench.record, bench.virtual, bench.test, bench.data,
    ]  # fmt: skip
    parts = []
    for make in makers:
        parts.append(make())
        say(f"{parts[-1].name}: done")
    say(table([row for part in parts for row in rows_of(part)], headers="keys"))
    seconds = {name: projected(session, parts, name) for name in (REFERENCE, FAST)}
    for name, total in seconds.items():
        say(f"the whole schedule, {name}: {total / 3600:.2f} h projected")
    path = FOLDER / f"{session.folder.path.name}-{slug(session.engine)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = report(session, parts, seconds)
    write_text(path, json.dumps(content, indent=2) + "\n")
    say(f"written to {path}")
    return path


def rows_of(part: Part) -> list[dict[str, str]]:
    """Return the table's rows of one part, a row a way."""
    rows = []
    for name, timing in part.timings.items():
        if name == PRODUCT:
            continue
        row = {"part": part.name, "way": name, "ms": f"{1000 * timing.median:.4g}"}
        row["spread"] = f"{100 * timing.spread:.0f} %"
        row["images/s"] = f"{part.images / timing.median:,.0f}"
        row["steps/s"] = f"{part.steps / timing.median:.3g}" if part.steps else ""
        rate = part.flops / timing.median
        row["GFLOP/s"] = f"{rate / 1e9:.0f} ({100 * part.share(name):.0f} %)" if rate else ""
        gain = part.speed_up() if name == FAST else None
        row["speed-up"] = f"{gain:.1f}x" if gain else ""
        rows.append(row)
    return rows


def projected(session: Session, parts: list[Part], way: str) -> float:
    """Return the seconds that the whole run would take, from the parts."""
    config, count = session.config, len(session.training)
    speed = {part.name: part.timings[way].median for part in parts if way in part.timings}
    each = {part.name: speed[part.name] / part.images for part in parts if part.name in speed}
    epochs = range(config.num_epochs)
    meta = sum(stage_of(epoch, config.global_) == META_SPLIT for epoch in epochs)
    truth = session.truth
    tested = len(truth.clean_test) + len(truth.triggered_test or [])
    batch = config.semi.loader.batch_size
    steps = config.num_epochs * config.semi.mixmatch.train_iteration
    return (
        steps * 5 * batch * each["MixMatch step"]
        + (config.num_epochs + meta) * count * each["record pass"]
        + meta * config.meta.epoch * count * each["virtual-model step"]
        + config.num_epochs // config.test_interval * tested * each["test pass"]
    )


def report(session: Session, parts: list[Part], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return the content of the JSON file."""
    gpu = session.engine.device.type == "cuda"
    return {
        "config": session.folder.path.name,
        "engine": str(session.engine),
        "device": device_name(session.engine.device),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "workers": WORKERS,
        "commit": git_commit(),
        "versions": versions(),
        "projected_seconds": dict(seconds),
        "peak_host_bytes": peak_host_bytes(),
        "peak_device_bytes": torch.cuda.max_memory_allocated() if gpu else None,
        "parts": [
            {**asdict(part), "timings": {k: v.seconds for k, v in part.timings.items()}}
            for part in parts
        ],
    }


def slug(engine: Engine) -> str:
    """Return the device's name as a part of a file name."""
    return "".join(c if c.isalnum() else "-" for c in device_name(engine.device).lower()).strip("-")
