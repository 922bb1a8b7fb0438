"""Small real runs of the methods with stages, for their tests."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch

import ASD
from command.arguments import parse_arguments
from data.review import Review
from defense import Defense, Knowledge
from run.setup import set_up
from tests.conftest import DIGITS, RESNET, TINY
from utils.interrupt import Interrupt

ABL = (
    "defense=abl",
    "abl.isolation_epochs=2",
    "abl.fine_tuning_epochs=2",
    "abl.unlearning_epochs=2",
    "abl.milestones=[1]",
    "abl.fraction=0.05",
    "loader.batch_size=64",
)
DBD = (
    "defense=dbd",
    "dbd.contrastive.epochs=2",
    "dbd.contrastive.batch_size=64",
    "dbd.contrastive.views={random_horizontal_flip: {p: 0.5}}",
    "dbd.warm_up.epochs=2",
    "dbd.warm_up.batch_size=64",
    "dbd.mixmatch_epochs=2",
)
METHODS = {"abl": ABL, "dbd": DBD}


def arguments_for(method: str, storage: Any, *more: str) -> list[str]:
    """Return the command line of a run of seconds."""
    given = ["--config", str(DIGITS), "--gpu", "cpu", "--name", method, *TINY, *METHODS[method]]
    return [*given, f"storage_dir={storage}", *more]


def prepared(method: str, storage: Any, *more: str) -> Any:
    """Return the defence of such a run, before its first epoch."""
    given = arguments_for(method, storage, RESNET, "speed.reference=true", *more)
    return ASD.prepare(set_up(parse_arguments(given), Interrupt())).defense


def reviewed(defense: Defense, clean: list[int], poisoned: list[int]) -> None:
    """Let a person have said that samples are clean or poisoned."""
    review = Review(
        torch.tensor(clean, dtype=torch.int64), torch.tensor(poisoned, dtype=torch.int64)
    )
    knowledge = Knowledge(defense.setting.knowledge.seeds, review)
    defense.setting = replace(defense.setting, knowledge=knowledge)


def twin(defense: Any) -> Any:
    """Return a copy of the network as it is now, for a plain restatement."""
    return copy.deepcopy(defense.setting.learner.network)


def plain_views(chain: Any, images: torch.Tensor, index: torch.Tensor, draws: Any) -> torch.Tensor:
    """Return views in the usual memory order."""
    return chain.view(images, index, draws).contiguous()
