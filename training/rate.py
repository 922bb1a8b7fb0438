"""The learning rate step by step: a rise, a plateau, a straight fall to 0.

A function of the step's number alone, so that nothing has to be saved to resume a run.
"""

from __future__ import annotations

from pydantic import Field
from torch.optim import Optimizer

from utils.section import Section


class RateSettings(Section):
    """`learning_rate` of the YAML.

    `warmup`: steps in which the rate rises to the optimiser's own. `hold`: share of the steps that
    train with `optimizer` (of DBD, MixMatch's) after which it falls, along a straight line, to 0.
    """

    warmup: int = Field(default=0, ge=0)
    hold: float = Field(default=0.5, ge=0, le=1)


def factor(settings: RateSettings, step: int, steps: int) -> float:
    """Return the share of the full rate at the 0-based `step` of a run of `steps`."""
    rise = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    start = settings.hold * steps
    fall = (steps - step) / (steps - start) if step > start else 1.0
    return max(0.0, min(rise, fall))


class Rate:
    """Sets an optimiser's learning rate before each step.

    Args:
        settings: of the course.
        optimizer: as it is built; its rates are the full ones.
    """

    def __init__(self, settings: RateSettings, optimizer: Optimizer) -> None:
        self.settings, self.optimizer = settings, optimizer
        self.full = [float(group["lr"]) for group in optimizer.param_groups]

    def set(self, step: int, steps: int) -> None:
        """Set the rate of the 0-based `step` of a run of `steps`."""
        share = factor(self.settings, step, steps)
        for group, full in zip(self.optimizer.param_groups, self.full, strict=True):
            group["lr"] = full * share
