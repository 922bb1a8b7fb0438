"""Small whole checkpoints, as a run writes them, for the tests of their reading."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from run.checkpoint import Progress
from run.state import FORMAT

SAMPLES, LOSSES = 12, 3
MALICIOUS_FORMS = ("pickle", "torch", "torch-legacy")


def small_network() -> nn.Module:
    """Return a network with weights, statistics and a count."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))


def small_optimizer(network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of most configurations, as one fused kernel."""
    return torch.optim.Adam(network.parameters(), lr=0.01, fused=True)


def small_schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a schedule whose state has a nested value."""
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])


def row(epoch: int) -> dict[str, Any]:
    """Return a finished epoch's row of the log."""
    known = {"epoch": epoch, "stage": "class-aware", "loss": 0.5, "loss_x": 0.25, "loss_u": 0.125}
    known |= {"learning_rate": 0.01, "lambda_u": 1.5, "clean_pool": 6, "acc": 0.5}
    return known | {"asr": None, "seconds": 1.5, "images_per_second": 100.0}


def whole_state(epoch: int = 2, step: int = 0) -> dict[str, Any]:
    """Return the state after so many epochs, and so many steps of the next."""
    network = small_network()
    optimizer = small_optimizer(network)
    schedule = small_schedule(optimizer)
    for _ in range(epoch):
        network(torch.ones(2, 3, 3, 3)).sum().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        next(network.parameters()).fill_(float(epoch))
    progress = Progress(
        epoch=epoch, rows=[row(each) for each in range(epoch)], best_acc=0.5, best_epoch=epoch - 1
    )
    if step:
        unfinished = {k: v for k, v in row(epoch).items() if k not in ("acc", "asr", "seconds")}
        progress.clean, progress.totals = torch.arange(SAMPLES) < 6, torch.ones(LOSSES)
        progress.row, progress.step, progress.seconds = unfinished, step, 0.5
    if epoch:
        progress.history.epochs = epoch
        progress.history.polluted = torch.zeros(SAMPLES, dtype=torch.int16)
        progress.history.losses = {"class-aware": torch.rand(SAMPLES)}
        progress.history.reductions = [torch.rand(SAMPLES)]
    return {
        "format": FORMAT,
        **progress.as_state(),
        "result": progress.rows[-1] if progress.rows else {},
        "model_state_dict": network.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": schedule.state_dict(),
        "config": {"num_epochs": 9, "defense": "asd"},
        "seed": 7,
        "processes": 1,
        "fingerprints": {"data": "d", "poison": "p", "seeds": "s"},
    }


class Malicious:
    """Makes the folder `mark` where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def save_malicious(path: Path, mark: Path, form: str) -> None:
    """Save what would run code where it is unpickled, in one of `MALICIOUS_FORMS`."""
    evil = {"model_state_dict": Malicious(mark)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=form == "torch")
