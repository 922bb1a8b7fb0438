"""How exactly a device computes: bfloat16, TF32, and whether it repeats itself."""

from __future__ import annotations

import os

import torch
from torch import Tensor

NATIVE_BF16 = (8, 0)  # compute capability, Ampere; before it bf16 is emulated, and slow


def native_bf16(device: torch.device) -> bool:
    """Return whether `device` multiplies bfloat16 natively; emulated it is far slower.

    PyTorch's own question counts emulation, and asks the current device, not this one.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= NATIVE_BF16
    return has_amx() or cpu_has("_is_avx512_bf16_supported")


def has_amx() -> bool:
    """Return whether the CPU multiplies tiles of matrices (Intel, from 2023 on)."""
    return AMX


def has_avx2_alone() -> bool:
    """Return whether PyTorch takes a CPU for one of the many with AVX2 and FMA, and no more."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def convolution_dtype(values: Tensor) -> torch.dtype | None:
    """Return in what a convolution of `values` on the CPU is computed here; None: elsewhere."""
    if values.device.type != "cpu":  # `meta` knows no autocast
        return None
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else values.dtype


def in_bf16(values: Tensor) -> bool:
    """Return whether a convolution of `values` on the CPU is computed in bf16 here."""
    return convolution_dtype(values) == torch.bfloat16


def cpu_has(probe: str) -> bool:
    """Return the answer of one of PyTorch's probes; no where this PyTorch does not have it."""
    return bool(getattr(torch.cpu, probe, lambda: False)())


AMX = cpu_has("_is_amx_tile_supported")  # asked once: the compiler reads it as a constant


def make_repeatable(deterministic: bool, benchmark: bool, reference: bool = False) -> None:
    """Set how exactly CUDA repeats itself; the CPU always does, at the same number of threads.

    Args:
        deterministic: the same bits at each run (`seed.deterministic`).
        benchmark: let cuDNN try its algorithms out, where that changes no bits.
        reference: no TF32, which PyTorch lets cuDNN use for fp32 (`speed.reference`).
    """
    torch.backends.cudnn.benchmark = benchmark and not deterministic
    torch.backends.cudnn.allow_tf32 = not reference
    torch.backends.cuda.matmul.allow_tf32 = False
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
