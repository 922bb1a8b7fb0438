"""Which device a run computes on, and how data get there."""

from __future__ import annotations

import platform

import torch
from torch import Tensor

from utils.errors import InputError
from utils.place import read_place


def device_name(device: torch.device) -> str:
    """Return the device's name for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU ({threads} thread{'s' * (threads > 1)})"


def processor_name() -> str:
    """Return the processor's name and what it has for matrices, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            facts = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines())
    except (OSError, ValueError):
        return platform.processor() or platform.machine()
    told = {key.strip(): value.strip() for key, value in facts.items()}
    flags = told.get("flags", "").split()
    known = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags]
    name = told.get("model name") or platform.machine()
    return f"{name} ({known[0]})" if known else name


def send(values: Tensor, device: torch.device) -> Tensor:
    """Return `values` on `device`; the host does not wait until they are there.

    A GPU copies beside its work only from pinned memory. PyTorch keeps that until it is copied.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def asked_for_several(requested: str | None) -> bool:
    """Return whether `--gpu` names several devices: one process each."""
    return requested is not None and "," in requested


def find_device(requested: str | None) -> tuple[torch.device, str | None]:
    """Return the device that `--gpu` means, and a line to tell when it is not what one expects.

    A GPU becomes the current one, so that nothing is put on another one by default.

    Args:
        requested: "0", "cpu", several of these with commas (this process's own is found by its
            LOCAL_RANK), or None for the first GPU (or the LOCAL_RANKth), else the CPU.

    Raises:
        InputError: the GPU is not there, or the word means nothing.
    """
    device, notice = _requested_device(requested)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device, notice


def _requested_device(requested: str | None) -> tuple[torch.device, str | None]:
    found, place = count_gpus(), read_place()
    if requested is None or not requested.strip():
        if found and place.local_size > found:
            raise InputError(
                f"{place.local_size} processes on this machine, but it has only GPUs "
                f"0 to {found - 1}; start one a GPU, or give --gpu cpu"
            )
        if found:
            return torch.device("cuda", place.local_rank % found), None
        return torch.device("cpu"), "no GPU found: running on the CPU"
    names = check_devices(requested)
    name = names[place.local_rank % len(names)]
    return torch.device("cpu") if name == "cpu" else torch.device("cuda", int(name)), None


def count_gpus() -> int:
    """Return how many GPUs PyTorch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def check_devices(requested: str) -> list[str]:
    """Return the devices that `--gpu` names.

    Raises:
        InputError: one of them is no device of this machine, or a GPU is named twice: NCCL connects
            no two processes on one.
    """
    names, found = [name.strip() for name in requested.split(",")], count_gpus()
    for name in names:
        if name == "cpu":
            continue
        if not name.isdecimal():
            raise InputError(f"--gpu {requested}: give the number of a GPU (e.g. 0 or 0,1) or cpu")
        if int(name) >= found:
            there = f"GPUs 0 to {found - 1}" if found else "no GPU"
            raise InputError(
                f"--gpu {requested}: this machine has {there}; use --gpu cpu or leave --gpu away"
            )
        if names.count(name) > 1:
            raise InputError(f"--gpu {requested}: GPU {name} twice; each process needs its own")
    return names
