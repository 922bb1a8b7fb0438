"""Optimisers and schedules of PyTorch: found by name, tried out, built.

PyTorch checks few arguments when a part is built. The rest shows at the first step, or after many
epochs, so each part takes its steps on a few numbers before a run may have it.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from utils.choice import Choice, dump_choice, single_name
from utils.errors import InputError
from utils.section import unknown_key

PROBE_SHAPES = ((2, 1, 3, 3), (2, 2), (2,))  # as of a convolution, a linear layer, a bias
PROBE_STEPS = 2  # what a part keeps from the first step is used in the second
MOST_EPOCHS = 10_000  # of a rehearsed schedule
LONGEST_REASON = 140  # characters of PyTorch's
NEGLIGIBLE = 1e-9  # by which rounding may bring a learning rate below 0
OTHER_KERNELS = {"foreach", "differentiable", "capturable"}  # than the fused one


def build_optimizer(choice: Choice, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Return the chosen optimiser of PyTorch for `parameters`, as one fused kernel if it has one.

    On the CPU PyTorch's default goes through the parameters one by one, which costs a narrow
    network 15 % of a step (measured: 129 ms against 109 ms).

    Raises:
        InputError: it is for a GPU, and the parameters are on the CPU.
    """
    optimizer_class = getattr(torch.optim, choice.name)
    arguments, parameters = dict(choice.arguments), list(parameters)
    on_cpu = any(parameter.device.type == "cpu" for parameter in parameters)
    if arguments.get("capturable") and on_cpu:
        raise InputError(f"{choice.name}.capturable: for a GPU only; leave it out")
    if "fused" in inspect.signature(optimizer_class).parameters:
        arguments.setdefault("fused", not OTHER_KERNELS & arguments.keys())
    optimizer: Optimizer = optimizer_class(parameters, **arguments)
    return optimizer


def build_scheduler(choice: Choice | None, optimizer: Optimizer) -> LRScheduler | None:
    """Return the chosen schedule of the learning rate, stepped once an epoch; None: constant."""
    if choice is None:
        return None
    scheduler: LRScheduler = getattr(lr_scheduler, choice.name)(optimizer, **choice.arguments)
    return scheduler


# ------------------------------------------------------------------------------------- trying out


def probe_parameters() -> list[nn.Parameter]:
    """Return parameters of a few numbers; none is drawn, so that no generator moves."""
    return [nn.Parameter(torch.full(shape, 0.5)) for shape in PROBE_SHAPES]


def has_gpu() -> bool:
    """Return whether a run may be on a GPU."""
    return torch.cuda.is_available()


def try_optimizer(choice: Choice) -> None:
    """Let an optimiser take two steps; whatever it raises is an error of its arguments."""
    arguments = dict(choice.arguments)
    if "capturable" in arguments and has_gpu():
        del arguments["capturable"]  # means something there, and here it does not
    parameters = probe_parameters()
    optimizer = build_optimizer(Choice(choice.name, arguments=arguments), parameters)
    for _ in range(PROBE_STEPS):
        optimizer.zero_grad(set_to_none=True)
        torch.stack([parameter.square().sum() for parameter in parameters]).sum().backward()
        optimizer.step()
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise ValueError("the weights are no finite numbers after two steps")


def try_schedule(choice: Choice, optimizer: Optimizer, epochs: int) -> None:
    """Let a schedule change an optimiser's learning rate as in a run of so many epochs."""
    scheduler = build_scheduler(choice, optimizer)
    assert scheduler is not None
    optimizer.step()  # without gradient; schedules want to come after it
    for epoch in range(1, min(epochs, MOST_EPOCHS) + 1):
        scheduler.step()
        for group in optimizer.param_groups:
            rate = group["lr"]
            is_number = isinstance(rate, int | float) and math.isfinite(rate)
            if not is_number or rate < -NEGLIGIBLE:
                raise ValueError(f"the learning rate is {rate} after epoch {epoch}")


def try_with_any(choice: Choice) -> None:
    """Let a schedule take a step with some optimiser; the run's own is not known here."""
    adam, sgd = Choice("Adam"), Choice("SGD", arguments={"momentum": 0.9})
    try:
        try_schedule(choice, build_optimizer(adam, probe_parameters()), epochs=1)
    except Exception:  # perhaps it needs what Adam does not have
        try_schedule(choice, build_optimizer(sgd, probe_parameters()), epochs=1)


def rehearse_schedule(choice: Choice | None, of_optimizer: Choice, epochs: int) -> None:
    """Go through a run's schedule with its own optimiser.

    Raises:
        InputError: they do not go together, or not for so many epochs.
    """
    if choice is None:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try_schedule(choice, build_optimizer(of_optimizer, probe_parameters()), epochs)
    except Exception as error:  # whatever PyTorch raises for a stranger's arguments
        why = reason(error)
        raise InputError(
            f"lr_scheduler.{choice.name}: not for {epochs} epochs with {of_optimizer.name} ({why})"
        ) from error


def reason(error: Exception) -> str:
    """Return why PyTorch would not step; the message of a `KeyError` is the key alone."""
    line = (str(error).strip() or "no message").splitlines()[0][:LONGEST_REASON]
    if isinstance(error, ValueError | TypeError | InputError):
        return line
    return f"it cannot step with these settings ({type(error).__name__}: {line})"


# --------------------------------------------------------------------------------- from the YAML


def from_torch(
    kind: str, module: Any, base: type, attempt: Callable[[Choice], None]
) -> Callable[[Any], Choice]:
    """Return the validator for a class of PyTorch; `attempt` tries it out."""
    classes: dict[str, Any] = {
        name: part
        for name, part in vars(module).items()
        if inspect.isclass(part) and issubclass(part, base) and part is not base
    }

    def choose(given: Any) -> Choice:
        if isinstance(given, Choice):
            return given
        name = single_name(given, kind, classes)
        arguments = {} if given[name] is None else given[name]
        if not isinstance(arguments, dict):
            raise PydanticCustomError(
                "one_of", "settings below {name} are expected", {"name": name}
            )
        accepted = list(inspect.signature(classes[name]).parameters)[1:]
        refuse_unknown(name, arguments, accepted)
        choice = Choice(name, arguments=dict(arguments))
        refuse_rejected(choice, attempt)
        return choice

    return choose


def refuse_rejected(choice: Choice, attempt: Callable[[Choice], None]) -> None:
    """Raise pydantic's error where `attempt` fails, whatever PyTorch has raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attempt(choice)
    except Exception as error:  # for a stranger's arguments it raises anything
        why = f"{choice.name}: {reason(error)}"
        raise PydanticCustomError("rejected", "{why}", {"why": why}) from error


def refuse_unknown(name: str, given: Iterable[str], accepted: Iterable[str]) -> None:
    """Raise pydantic's error, below the part `name`, for a key that it does not take."""
    for key in given:
        if key not in accepted:
            error = unknown_key(key, accepted)
            context = {"loc": (name,), "msg": error.message(), "ctx": error.context}
            raise PydanticCustomError(
                "nested", "nested", {"errors": [{"type": error.type, **context}]}
            )


OptimizerChoice = Annotated[
    Choice,
    BeforeValidator(from_torch("optimizer", torch.optim, Optimizer, try_optimizer)),
    PlainSerializer(dump_choice),
]
SchedulerChoice = Annotated[
    Choice,
    BeforeValidator(from_torch("lr_scheduler", lr_scheduler, LRScheduler, try_with_any)),
    PlainSerializer(dump_choice),
]
