"""Where and how the network computes: device, precision, memory layout."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from model.compiled import prepare
from utils.errors import InputError
from utils.section import Section
from utils.world import ALONE, World

Function = TypeVar("Function", bound=Callable[..., Any])

# Convolutions in channels_last with fewer than 16 channels write outside their memory in PyTorch
# 2.13 to 2.15 on the CPU (with AVX2 alone: 1x1 ones with a stride). `torch.compile` chooses that
# layout by itself, so it is no way around it.
SAFE_CPU_CHANNELS = 16
COMPILED_CPU_CHANNELS = 64
# Parameters of mallopt(3), from glibc's malloc.h.
MALLOC_TRIM_THRESHOLD = -1
MALLOC_MMAP_THRESHOLD = -3


class SpeedSettings(Section):
    """`speed` of the YAML.

    `precision`: of the convolutions; losses, statistics and weights are always fp32.
    `compile`: translate the MixMatch step with `torch.compile`; `auto`: where it pays.
    `reference`: eager fp32 in the usual memory order, whatever the other keys say.
    `memory_budget`: GiB that the training images may take on the device; a larger set stays in host
    memory or on the disk, and is read batch by batch. `auto`: half of what is free.
    `evaluation_batch`: samples in one forward of record and test passes; no effect on results.
    """

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto"] | bool = "auto"
    channels_last: Literal["auto"] | bool = "auto"
    reference: bool = False
    memory_budget: Literal["auto"] | float = Field(default="auto")
    evaluation_batch: int = Field(default=500, ge=1)

    @model_validator(mode="after")
    def _not_negative(self) -> SpeedSettings:
        if self.memory_budget != "auto" and self.memory_budget < 0:
            raise ValueError("memory_budget: GiB, from 0 on, or auto")
        return self


@dataclass(frozen=True)
class Engine:
    """The choice made for a run.

    Attributes:
        device: where all tensors live.
        bf16: whether convolutions run in bfloat16 (autocast).
        channels_last: whether feature maps are stored with the channel innermost.
        compiled: whether the MixMatch step is translated before it runs.
        world: the processes that share the work.
    """

    device: torch.device
    bf16: bool = False
    channels_last: bool = False
    compiled: bool = False
    world: World = ALONE

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which forwards run."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def place(self, network: nn.Module) -> nn.Module:
        """Move `network` to the device, in the layout of its feature maps."""
        if self.compiled and self.device.type == "cpu":
            prepare(network)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        if not self.channels_last:
            network.register_forward_pre_hook(channels_first)
        return network.to(self.device, memory_format=layout)  # type: ignore[call-overload]

    def translate(self, function: Function) -> Function:
        """Return `function` compiled, if that was chosen; on a GPU as CUDA graphs."""
        if not self.compiled:
            return function
        if self.device.type == "cpu":
            keep_freed_memory()
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        return cast("Function", torch.compile(function, mode=mode))

    def __str__(self) -> str:
        precision = "bf16" if self.bf16 else "fp32"
        layout = "channels_last" if self.channels_last else "channels_first"
        compiled = ", compiled" if self.compiled else ""
        processes = f", {self.world.size} processes" if self.world.size > 1 else ""
        return f"{device_name(self.device)}, {precision}, {layout}{compiled}{processes}"


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next allocation; elsewhere nothing.

    It gives large blocks back to the system at once, which clears them before it lends them again:
    30,000 page faults in a compiled step of the paper's network, 4 % of its time (measured).
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not every libc has it
    if mallopt is not None:
        mallopt(MALLOC_MMAP_THRESHOLD, 32 * 2**20)  # bytes; more is not allowed
        mallopt(MALLOC_TRIM_THRESHOLD, 2**31 - 1)


def channels_first(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return a network's input in the usual memory order; a hook.

    Views are made from rows of pixels, which PyTorch takes for channels_last and then keeps in all
    feature maps, whatever the weights are: on narrow networks that corrupts memory, see above.
    """
    return tuple(images.contiguous() for images in arguments)


def device_name(device: torch.device) -> str:
    """Return the device's name for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({torch.get_num_threads()} threads)"


def asked_for_several(requested: str | None) -> bool:
    """Return whether `--gpu` names several devices: one process each."""
    return requested is not None and "," in requested


def find_device(requested: str | None) -> tuple[torch.device, str | None]:
    """Return the device that `--gpu` means, and a line to tell when it is not what one expects.

    Args:
        requested: "0", "cpu", several of these with commas (this process's own is found by its
            LOCAL_RANK), or None for the first GPU (or the LOCAL_RANKth), else the CPU.

    Raises:
        InputError: the GPU is not there, or the word means nothing.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if requested is None or not requested.strip():
        if found:
            return torch.device("cuda", place % found), None
        return torch.device("cpu"), "no GPU found: running on the CPU"
    names = [name.strip() for name in requested.split(",")]
    for name in names:
        check_device(name, requested, found)
    name = names[place % len(names)]
    return torch.device("cpu") if name == "cpu" else torch.device("cuda", int(name)), None


def check_device(name: str, requested: str, found: int) -> None:
    """Raise `InputError` unless `name`, a part of `--gpu`, is a device of this machine."""
    if name == "cpu":
        return
    if not name.isdecimal():
        raise InputError(f"--gpu {requested}: give the number of a GPU (e.g. 0 or 0,1) or cpu")
    if int(name) >= found:
        there = f"GPUs 0 to {found - 1}" if found else "no GPU"
        raise InputError(
            f"--gpu {requested}: this machine has {there}; use --gpu cpu or leave --gpu away"
        )


def free_bytes(device: torch.device) -> int:
    """Return the free memory of `device`, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cpu_has_bf16() -> bool:
    """Return whether the CPU multiplies bfloat16 natively; without that it is far slower."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def choose_engine(
    device: torch.device, speed: SpeedSettings, network: nn.Module, world: World
) -> Engine:
    """Return precision, layout and translation for `network` on `device`.

    Raises:
        InputError: channels_last, or compiling, which implies it, is forced where PyTorch would
            corrupt memory.
    """
    if speed.reference:
        return Engine(device, world=world)
    convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
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
        # On the CPU bf16 pays with channels_last only (measured).
        bf16 = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bf16() and safe
    compiled = speed.compile is True
    if speed.compile == "auto":
        compiled = world.size == 1 and (device.type == "cuda" or (bf16 and pays_on_cpu(narrowest)))
    return Engine(device, bf16, channels_last, compiled, world)


def pays_on_cpu(narrowest: int) -> bool:
    """Return whether translating the step pays on the CPU, for so narrow a network.

    It takes some minutes, once, and a C++ compiler. At the paper's width of 64 a step then takes
    1.10 s in place of 1.24; at width 16 it gets slower, 276 ms in place of 227 (measured on 2
    cores).
    """
    return narrowest >= COMPILED_CPU_CHANNELS and shutil.which("g++") is not None


def make_repeatable(deterministic: bool, benchmark: bool) -> None:
    """Set how exactly CUDA repeats itself; the CPU always does, at the same number of threads."""
    torch.backends.cudnn.benchmark = benchmark and not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
