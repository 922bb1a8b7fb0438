"""`torch.compile`, where it works: tried on a small piece first, left out where it fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from utils.agreement import disagreement
from utils.console import say, waiting
from utils.files import PROJECT
from utils.memory import keep_freed_memory

Function = TypeVar("Function", bound=Callable[..., Any])

PROBE_CALLS = 3  # a CUDA graph is recorded at the second call and replayed from the third on
LONGEST_REASON = 120  # characters
CACHE = PROJECT / "storage" / "cache" / "translated"


@cache
def why_not(device: torch.device) -> str | None:
    """Return why nothing can be translated for `device`; None if it can.

    A piece of code is translated and run, with its gradient: compilers, Triton, Python's headers
    and a folder to write to are all needed, and each is missing somewhere.
    """
    keep_translations()
    try:
        probe = compiled(_probe, device)
        for _ in range(PROBE_CALLS):
            values = torch.ones(8, device=device, requires_grad=True)
            probe(values).backward()
            assert values.grad is not None
            if float(values.grad.sum()) != 16.0:
                return "translated code gave a wrong number"
    except Exception as error:  # translating raises nearly everything
        return short_reason(error)
    return None


def keep_translations() -> None:
    """Let PyTorch keep what it translates in the project, not in a folder that reboots clear.

    Never in `storage_dir`, which may be somebody else's: what is kept there is code that runs.
    """
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(CACHE, os.W_OK):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE))


def _probe(values: Tensor) -> Tensor:
    return torch.relu(values * 2).sum()


def short_reason(error: Exception) -> str:
    """Return the first line of `error` that says something, not too long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}"[:LONGEST_REASON] if lines else type(error).__name__


def compiled(function: Function, device: torch.device) -> Function:
    """Return `function` compiled for fixed shapes; on a GPU as CUDA graphs."""
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return cast("Function", torch.compile(function, mode=mode, dynamic=False))


def translated(function: Function, device: torch.device) -> Function:
    """Return `function` compiled; as it is if it cannot be translated, or not rightly.

    That shows at the first call. Then the step is taken in both ways, once each, before it counts.
    """
    if device.type == "cpu":
        keep_freed_memory()
    runs: list[Callable[..., Any]] = []

    def replay(*given: Any) -> Any:
        if device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()  # what the last step gave may go
        return step(*given)

    step = compiled(function, device)

    @wraps(function)
    def call(*given: Any) -> Any:
        if not runs:
            runs.append(replay)
            try:
                why = what_is_wrong(function, replay, given)
                if why is None:
                    return replay(*given)  # with several processes nothing was tried before
            except compiler_errors() as error:
                why = f"translating failed: {short_reason(error)}"
            say(f"not compiled, since {why}")
            runs[0] = function
        return runs[0](*given)

    return cast("Function", call)


def what_is_wrong(
    usual: Callable[..., Any], step: Callable[..., Any], given: tuple[Any, ...]
) -> str | None:
    """Return what a translated step computes wrongly; None if nothing. Say how long this takes."""
    say(f"translating a training step; what is done is kept in {os.path.relpath(CACHE)}")
    began = time.monotonic()
    with waiting("translating"):
        why = disagreement(usual, step, given)
    say(f"translated and tried in {time.monotonic() - began:.0f} s")
    return None if why is None else f"translated, a step would be wrong, {why}"


def compiler_errors() -> tuple[type[Exception], ...]:
    """Return the classes that PyTorch raises where it cannot translate."""
    from torch._dynamo import exc as dynamo  # here, since it takes seconds
    from torch._inductor import exc as inductor

    found = [dynamo.TorchDynamoException]
    found += [getattr(inductor, name) for name in ("InductorError",) if hasattr(inductor, name)]
    return tuple(found)
