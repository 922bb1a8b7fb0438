"""How the network computes: device, precision, memory layout, translation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import nn

from utils.compiler import translated, why_not
from utils.console import say
from utils.device import device_name
from utils.errors import InputError
from utils.native_code import KINDS, library
from utils.precision import has_amx, has_avx2_alone, native_bf16
from utils.speed import SpeedSettings
from utils.translation import Steps, decide, size_of
from utils.world import ALONE, World

Function = TypeVar("Function", bound=Callable[..., Any])

# Convolutions in channels_last with fewer than 16 channels write outside their memory in PyTorch
# 2.13 to 2.15 on the CPU (with AVX2 alone: 1x1 ones with a stride). `torch.compile` chooses that
# layout by itself, so it is no way around it.
SAFE_CPU_CHANNELS = 16
# Where each channel has a convolution of its own, bf16 is slower on the CPU: to train
# EfficientNet-Lite0 on 32 images of 96 pixels takes 0.64 s in place of 0.34 (one core with
# AVX512_BF16).


@dataclass(frozen=True)
class Engine:
    """The choice made for a run; `model/place.py` puts a network where it says.

    Attributes:
        device: where all tensors live.
        bf16: whether convolutions run in bfloat16 (autocast).
        channels_last: whether feature maps are stored with the channel innermost.
        compiled: whether training steps are translated before they run.
        world: the processes that share the work.
        own_kernels: whether parts are computed by the project's own code in C.
        speed: what was asked for, from which another network gets a choice of its own.
    """

    device: torch.device
    bf16: bool = False
    channels_last: bool = False
    compiled: bool = False
    world: World = ALONE
    own_kernels: bool = False
    speed: SpeedSettings = field(default_factory=lambda: SpeedSettings(reference=True))

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which forwards run."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @property
    def own_dtype(self) -> torch.dtype | None:
        """What the project's own code in C computes in; None: it is not used."""
        if not self.own_kernels:
            return None
        return torch.bfloat16 if self.bf16 else torch.float32

    def translate(self, function: Function) -> Function:
        """Return `function` compiled, if that was chosen; on a GPU as CUDA graphs."""
        return translated(function, self.device) if self.compiled else function

    def __str__(self) -> str:
        precision = "bf16" if self.bf16 else "fp32"
        layout = "channels_last" if self.channels_last else "channels_first"
        compiled = ", compiled" if self.compiled else ""
        processes = f", {self.world.size} processes" if self.world.size > 1 else ""
        own = ", own kernels" if self.own_kernels else ""
        return f"{device_name(self.device)}, {precision}, {layout}{compiled}{own}{processes}"


def choose_engine(
    device: torch.device, speed: SpeedSettings, network: nn.Module, world: World
) -> Engine:
    """Return precision and layout for `network` on `device`, and translation if it is told to.

    `speed.compile: auto` takes a look at the whole run: see `settled`.

    Raises:
        InputError: channels_last, or compiling, which implies it, is forced where PyTorch would
            corrupt memory.
    """
    if speed.reference:
        return Engine(device, world=world, speed=speed)
    convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    has_depthwise = any(1 < part.groups == part.in_channels for part in convolutions)
    narrowest = min((part.out_channels for part in convolutions), default=0)
    safe = device.type == "cuda" or narrowest >= SAFE_CPU_CHANNELS
    for key, forced in (("channels_last", speed.channels_last), ("compile", speed.compile)):
        if forced is True and not safe:
            raise InputError(
                f"speed.{key}: true, but the network has convolutions with {narrowest} "
                f"channels, and PyTorch crashes below {SAFE_CPU_CHANNELS} on the CPU; use auto"
            )
    channels_last = safe if speed.channels_last == "auto" else bool(speed.channels_last)
    bf16 = speed.precision == "bf16"
    if speed.precision == "auto":
        # On the CPU bf16 pays with channels_last only, and without depthwise parts (measured).
        bf16 = native_bf16(device) and safe and not (device.type == "cpu" and has_depthwise)
    compiled = speed.compile is True and can_translate(network, device)
    own = channels_last and not compiled and device.type == "cpu" and has_own_kernels(bf16)
    return Engine(device, bf16, channels_last, compiled, world, own, speed)


def settled(
    engine: Engine, network: nn.Module, image: tuple[int, int], steps: Sequence[Steps]
) -> Engine:
    """Return the engine of a run, once `speed.compile: auto` is decided and said in a line.

    Args:
        engine: as `choose_engine` gave it.
        network: that learns.
        image: its (H, W) pixels.
        steps: that the run still has to take; none: there is nothing to decide.
    """
    speed = engine.speed
    if speed.reference or speed.compile != "auto" or not any(kind.count for kind in steps):
        return engine
    chosen = decide(engine.device.type, engine.world.size, lambda: size_of(network, image), steps)
    say(f"speed.compile: {chosen.why}")
    if not chosen.translate or not can_translate(network, engine.device):
        return engine
    return replace(engine, compiled=True)


def has_own_kernels(bf16: bool) -> bool:
    """Return whether this CPU has kernels of the project's own; if they cannot be used, say why.

    They are for bf16 with AMX, and for fp32 with AVX2: elsewhere PyTorch is near the limit.
    """
    if not sys.platform.startswith("linux") or not (has_amx() if bf16 else has_avx2_alone()):
        return False
    found = library(KINDS[torch.bfloat16 if bf16 else torch.float32])
    if isinstance(found, str):
        say(f"speed: steps take longer without the project's own code in C, since {found}")
    return not isinstance(found, str)


def can_translate(network: nn.Module, device: torch.device) -> bool:
    """Return whether steps of `network` can be translated for `device`; if not, say why."""
    why = why_not(device)
    if not all(getattr(part, "translatable", True) for part in network.modules()):
        why = "the network draws random numbers while it trains"
    if why is not None:
        say(f"speed.compile: not compiled, since {why}")
    return why is None
