"""NAD, neural attention distillation (Li et al., ICLR 2021).

A copy of the model that is fine-tuned on clean samples teaches the model where to look.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from loss.attention import attention, attention_distance
from model import Network
from model.taps import Tap, find_taps, tapped
from repair.repair import Repair, Repaired, refuse_not_finite
from utils.console import progress
from utils.section import Section
from utils.streams import Purpose

STREAMS: dict[str, tuple[Purpose, Purpose]] = {
    "teacher": ("teacher-order", "teacher-augment"),
    "student": ("repair-order", "repair-augment"),
}


class AttentionDistillation(Repair):
    """Fine-tunes a teacher, then trains the student on labels and on the teacher's attention."""

    class Settings(Section):
        """Defaults: the published code's; its paper has 10 epochs.

        Images are augmented as `transform.train` says. The published code also cuts a hole out,
        which is `cutout` there: `methods.nad` of `config/cifar10/badnets.yaml` has it. `betas`:
        weights of the attention at the last resolutions of the network, the deepest at the end; a
        network with fewer uses the last ones. `learning_rates`: the first before the first of
        `milestones` (epochs), and so on; of teacher and student.
        """

        teacher_epochs: int = Field(default=10, ge=0)
        num_epochs: int = Field(default=20, ge=1)
        betas: list[float] = Field(default=[500.0, 1000.0, 1000.0], min_length=1)
        power: float = Field(default=2.0, gt=0)
        batch_size: int = Field(default=64, ge=2)
        learning_rates: list[float] = Field(default=[0.1, 0.01, 0.0001], min_length=1)
        milestones: list[int] = Field(default=[2, 20])
        momentum: float = Field(default=0.9, ge=0, lt=1)
        weight_decay: float = Field(default=1e-4, ge=0)

        @model_validator(mode="after")
        def _one_rate_more(self) -> AttentionDistillation.Settings:
            if len(self.learning_rates) != len(self.milestones) + 1:
                raise ValueError("learning_rates: one more than milestones is expected")
            if sorted(self.milestones) != self.milestones:
                raise ValueError("milestones: epochs in ascending order are expected")
            return self

        def learning_rate(self, epoch: int) -> float:
            """Return the rate of the 0-based `epoch`."""
            return self.learning_rates[sum(epoch >= end for end in self.milestones)]

    def repair(self, network: Network) -> Repaired:
        """Return the student."""
        taps = find_taps(network, *self.setting.test_chain.output_size, len(self.settings.betas))
        teacher = copy.deepcopy(network)
        rows = self.train("teacher", teacher, None, taps)
        teacher.requires_grad_(False).eval()
        student = copy.deepcopy(network)
        rows += self.train("student", student, teacher, taps)
        return Repaired(student, rows, {"taps": [tap.name for tap in taps]})

    def train(
        self, stage: str, network: Network, teacher: Network | None, taps: list[Tap]
    ) -> list[dict[str, Any]]:
        """Train `network` on the clean samples, perhaps by a teacher; return the log."""
        settings, rows = self.settings, []
        optimizer = torch.optim.SGD(
            network.parameters(),
            lr=settings.learning_rate(0),
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0,
        )
        epochs = settings.num_epochs if teacher is not None else settings.teacher_epochs
        order, augment = STREAMS[stage]
        for epoch in progress(range(epochs), stage, unit="epoch"):
            optimizer.param_groups[0]["lr"] = settings.learning_rate(epoch)
            network.train()
            losses = []
            for views, labels in self.setting.batches(settings.batch_size, order, augment, epoch):
                loss = self.loss(network, teacher, taps, views, labels)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            total = torch.stack(losses).mean()
            refuse_not_finite(total, "nad", epoch)
            rows.append({"epoch": epoch, "stage": stage, "loss": float(total)})
        return rows

    def loss(
        self,
        network: Network,
        teacher: Network | None,
        taps: list[Tap],
        views: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """Return cross entropy plus the weighted distances of attention, a scalar.

        One forward of each network; the teacher's is in eval mode and moves nothing.
        """
        if teacher is None:
            with self.setting.engine.autocast():
                logits = network(views)
            return functional.cross_entropy(logits, labels)
        names = [tap.name for tap in taps]
        with ExitStack() as stack:
            ours = stack.enter_context(tapped(network, names))
            theirs = stack.enter_context(tapped(teacher, names))
            with torch.no_grad(), self.setting.engine.autocast():
                teacher(views)
            with self.setting.engine.autocast():
                logits = network(views)
            loss = functional.cross_entropy(logits, labels)
            betas = self.settings.betas[-len(taps) :]
            for beta, tap, own, other in zip(betas, taps, ours, theirs, strict=True):
                maps = [attention(f, tap.channel_axis, self.settings.power) for f in (own, other)]
                loss = loss + beta * attention_distance(*maps)
        return loss
