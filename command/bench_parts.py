"""The parts of a run, each timed in three ways, turn by turn in one process."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch.utils.data import DataLoader

from command.conventional import ConventionalStep, PilDataset, pil_chain
from command.roofline import Load, least_seconds, loads_of, map_copies, step_loads, totals
from command.timing import Timing, Work, in_turns, matrix_product
from defense import Setting
from defense.virtual import train_only
from loss import build_criterion
from model.place import place_network
from run.measure import predictions
from run.session import Session
from training.draws import EpochDraws
from training.learner import Learner
from training.mixmatch import MixMatch, images_in_step
from training.record import record_losses
from training.supervised import Supervised
from training.torch_parts import build_optimizer
from utils.engine import Engine

WORKERS = min(4, os.cpu_count() or 1)  # of each conventional loader
CONVENTIONAL, REFERENCE, FAST = "conventional", "reference", "fast"
PRODUCT, COPY = "matrix product", "copy of a map"


@dataclass(frozen=True)
class Part:
    """One part of a run, timed in every way.

    Attributes:
        name: for the table.
        images: that one repetition works on (forwards of single images in a MixMatch step).
        steps: optimiser steps in one repetition; 0 where there are none.
        timings: by way, and of what both peaks are measured with.
        loads: arithmetic and bytes of one repetition, by operation; empty where not the point.
        product_flops, copy_bytes: of the work that the peaks are measured with.
    """

    name: str
    images: int
    steps: int
    timings: Mapping[str, Timing]
    loads: Sequence[Load] = ()
    product_flops: float = 0.0
    copy_bytes: float = 0.0

    @property
    def peaks(self) -> tuple[float, float]:
        """FLOP/s of large matrix products, and bytes/s of copies, in turn with this part."""
        products, copies = self.timings[PRODUCT].median, self.timings[COPY].median
        return self.product_flops / products, self.copy_bytes / copies

    def share(self, way: str) -> float:
        """Return the arithmetic rate of `way` as a share of the matrix products' (medians)."""
        return totals(self.loads).flops / self.timings[way].median / self.peaks[0]

    def roof_share(self, way: str) -> float:
        """Return the least time that this part can take as a share of the time of `way`."""
        return least_seconds(self.loads, *self.peaks) / self.timings[way].median

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

    def measure(
        self, name: str, works: Mapping[str, Work], images: int, steps: int = 0,
        loads: Sequence[Load] = (),
    ) -> Part:  # fmt: skip
        """Return the timings of `works`, each of which handles so many images."""
        if not loads:
            return Part(name, images, steps, in_turns(works, self.device, self.repeats))
        dtype = torch.bfloat16 if self.fast.bf16 else torch.float32
        product, flops = matrix_product(self.device, dtype)
        copies, moved = map_copies(self.device)
        works = {**works, PRODUCT: product, COPY: copies}
        timings = in_turns(works, self.device, self.repeats)
        return Part(name, images, steps, timings, loads, flops, moved)

    @property
    def element(self) -> int:
        """Bytes of a number in a feature map of the fast way."""
        return 2 if self.fast.bf16 else 4

    def mixmatch(self) -> Part:
        """Time the training step, its data included."""
        works = {CONVENTIONAL: self.conventional_step()}
        for name, engine in ((REFERENCE, self.reference), (FAST, self.fast)):
            works[name] = self.own_step(engine)
        batch = self.config.semi.loader.batch_size
        size = self.session.defense.setting.ground.chain.output_size
        loads = self.steps * step_loads(self.session.network, size, batch, self.element)
        images = images_in_step(batch) * self.steps
        return self.measure("MixMatch step", works, images, self.steps, loads)

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
        size = self.session.defense.setting.ground.chain.output_size
        loads = loads_of(self.session.network, size, self.samples, self.element)
        return self.measure("record pass", works, self.samples, loads=loads)

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
