"""The state of an optimiser or a schedule from a file: taken only where it is as this one's.

PyTorch's `load_state_dict` believes whatever it gets. A fused optimiser then writes outside its
memory where a moment is smaller than its weight, and a schedule's methods may be replaced.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

# Which of several implementations computes; this run's own choice holds.
IMPLEMENTATION = ("fused", "foreach", "capturable", "differentiable")
ROUNDING = 1e-6  # relative; another version of PyTorch may end with other last digits


def load_optimizer(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Go back to the state `saved` by an optimiser of the same kind and parameters.

    Args:
        optimizer: with the learning rates of that moment, see `load_schedule`.
        saved: its `state_dict`.

    Raises:
        ValueError: the state has another structure, shape or type, or is not finite.
    """
    if set(saved) != {"state", "param_groups"}:
        raise ValueError("it has not the keys state and param_groups")
    groups, state = saved["param_groups"], saved["state"]
    live = optimizer.state_dict()["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(live) or not isinstance(state, dict):
        raise ValueError("param_groups: another number of groups")
    merged = [_group(ours, theirs) for ours, theirs in zip(live, groups, strict=True)]
    parts = _fitting_parts(optimizer, state) if state else {}
    optimizer.load_state_dict({"state": parts, "param_groups": merged})


def _group(ours: dict[str, Any], theirs: Any) -> dict[str, Any]:
    """Return the saved settings of a group; a key that only one version knows is this one's."""
    if not isinstance(theirs, dict):
        raise ValueError("param_groups: no settings by name")
    merged = dict(ours)
    for key in ours.keys() & theirs.keys() - set(IMPLEMENTATION):
        require_same(theirs[key], ours[key], f"param_groups.{key}")
        merged[key] = theirs[key]
    return merged


def _fitting_parts(optimizer: Optimizer, state: dict[Any, Any]) -> dict[int, dict[str, Any]]:
    """Return the saved state of each parameter, laid out in memory as the optimiser itself does."""
    wanted = _stepped(optimizer).state_dict()["state"]
    found: dict[int, dict[str, Any]] = {}
    for index, part in state.items():
        if index not in wanted or not isinstance(part, dict):
            raise ValueError(f"state.{str(index)[:40]}: of no parameter of this network")
        if part.keys() != wanted[index].keys():
            raise ValueError(f"state.{index}: not what this optimizer keeps")
        found[index] = {
            key: _fitting(part[key], form, f"state.{index}.{key}")
            for key, form in wanted[index].items()
        }
    return found


def _stepped(optimizer: Optimizer) -> Optimizer:
    """Return an optimiser of the same kind after a step of its own, on copies of zeros."""
    groups = []
    for group in optimizer.param_groups:
        copies = [torch.zeros_like(weight) for weight in group["params"]]
        for copy in copies:
            copy.grad = torch.zeros_like(copy)
        groups.append({**group, "params": copies})
    stepped: Optimizer = type(optimizer)(groups)  # type: ignore[call-arg]  # each has its defaults
    stepped.step()
    return stepped


def _fitting(value: Any, form: Any, place: str) -> Any:
    """Return `value` where it has the form of `form`, in that one's memory order."""
    if not isinstance(form, Tensor):
        if type(value) is not type(form) or not _is_finite(value):
            raise ValueError(f"{place}: {str(value)[:40]} is no value of it")
        return value
    if not isinstance(value, Tensor) or value.shape != form.shape or value.dtype != form.dtype:
        what = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else "no tensor"
        raise ValueError(f"{place}: {what}, not {form.dtype} {list(form.shape)}")
    if not bool(value.isfinite().all()) or (place.endswith(".step") and float(value) < 0):
        raise ValueError(f"{place}: not finite, or negative")
    return form.copy_(value)


def load_schedule(schedule: LRScheduler, saved: Any, epochs: int) -> None:
    """Go back to the state `saved` by a schedule of the same kind after so many epochs.

    It is stepped there first, and the saved state must be the same but for rounding; so the
    optimiser's learning rates are those of that moment, too.

    Args:
        schedule: as it is built; nothing has stepped it yet.
        saved: its `state_dict`.
        epochs: steps that it has taken.

    Raises:
        ValueError: the state is of another schedule or another moment.
    """
    if not isinstance(saved, dict):
        raise ValueError("no state by name")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimiser has not stepped
        for _ in range(epochs):
            schedule.step()
    ours = schedule.state_dict()
    known = {key: saved[key] for key in saved.keys() & ours.keys()}
    for key, value in known.items():
        require_same(value, ours[key], key)
    schedule.load_state_dict({**ours, **known})


def require_same(theirs: Any, ours: Any, place: str) -> None:
    """Raise `ValueError` unless two plain values are the same but for rounding."""
    if _is_number(ours) and _is_number(theirs):
        same = ours == theirs or math.isclose(ours, theirs, rel_tol=ROUNDING, abs_tol=1e-12)
    elif isinstance(ours, Tensor):
        same = isinstance(theirs, Tensor) and ours.shape == theirs.shape
        same = same and torch.allclose(ours.cpu().double(), theirs.double(), rtol=ROUNDING)
    elif isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        for key, value in ours.items():
            require_same(theirs[key], value, f"{place}.{key}")
        return
    elif isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        same = type(ours) is type(theirs) and len(ours) == len(theirs)
        for index, pair in enumerate(zip(theirs, ours, strict=False)):
            require_same(*pair, f"{place}.{index}")
    else:
        same = type(ours) is type(theirs) and ours == theirs
    if not same:
        raise ValueError(f"{place}: {str(theirs)[:40]}, not {str(ours)[:40]}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_finite(value: Any) -> bool:
    return not _is_number(value) or math.isfinite(value)
