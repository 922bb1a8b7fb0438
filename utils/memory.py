"""Memory: how much is free, how freed memory is kept, and what to say when there is not enough."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys

import torch

# Parameters of mallopt(3), from glibc's malloc.h.
MALLOC_TRIM_THRESHOLD = -1
MALLOC_MMAP_THRESHOLD = -3

UNKNOWN_MEMORY = 8 * 2**30  # bytes, taken for free where the system does not tell

# What PyTorch and the libraries below it write where they raise no class of its own.
SHORTAGES = ("DefaultCPUAllocator", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
AMOUNT = re.compile(r"allocate (\d[\d.,]*\s?[A-Za-z]+)")
WAY_OUT = (
    "smaller: semi.loader.batch_size, loader.batch_size, speed.evaluation_batch or the network's "
    "width; speed.memory_budget: 0 leaves the images in host memory"
)


def free_bytes(device: torch.device) -> int:
    """Return the free memory of `device`, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has none, macOS not the first
        return UNKNOWN_MEMORY


def shortage(error: Exception) -> str | None:
    """Return the line to tell when `error` means that memory ran out; None when it does not.

    It says what was asked for and which keys make it smaller.
    """
    text = str(error)
    on_gpu = isinstance(error, torch.cuda.OutOfMemoryError) or "CU" in text
    if not isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) and not (
        isinstance(error, RuntimeError) and any(words in text for words in SHORTAGES)
    ):
        return None
    amount = AMOUNT.search(text)
    asked = f": {amount.group(1)} more were asked for" if amount else ""
    place = "the GPU" if on_gpu else "this machine"
    return f"not enough memory on {place}{asked}; {WAY_OUT}; the last checkpoint stays"


def leave_old_objects_alone() -> None:
    """Let Python no longer look for cycles among what exists already.

    It would go through all that has been imported again and again: 7 % of a step of the laptop's
    network (measured).
    """
    gc.collect()
    gc.freeze()


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next allocation; elsewhere nothing.

    It gives large blocks back to the system at once, which clears them before it lends them again:
    30,000 page faults in a compiled step of the paper's network, 4 % of its time, and 20,000 in the
    forward of 500 images by the laptop's, a quarter of its time on a processor with AMX (measured).
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not every libc has it
    if mallopt is not None:
        mallopt(MALLOC_MMAP_THRESHOLD, 32 * 2**20)  # bytes; more is not allowed
        mallopt(MALLOC_TRIM_THRESHOLD, 2**31 - 1)
