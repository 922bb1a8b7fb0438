"""A shortage of memory is told in one line, with the keys that make a run smaller."""

from __future__ import annotations

import pytest
import torch

import ASD
from utils.memory import UNKNOWN_MEMORY, free_bytes, shortage


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            torch.cuda.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of"
            ),
            ["the GPU", "20.00 MiB"],
        ),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 4000000000000 bytes. Error code 12"
            ),
            ["this machine", "4000000000000 bytes"],
        ),
        (MemoryError("Unable to allocate 1.5 TiB for an array"), ["this machine", "1.5 TiB"]),
        (MemoryError(), ["this machine"]),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), ["the GPU"]),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), ["the GPU"]),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), ["the GPU"]),
    ],
)
def test_a_shortage_of_memory_is_one_line_with_the_keys(error: Exception, words: list[str]) -> None:
    line = shortage(error)
    assert line is not None
    for word in (*words, "semi.loader.batch_size", "speed.evaluation_batch"):
        assert word in line
    assert len(line) <= 280
    assert "\n" not in line


def test_a_real_shortage_is_recognised_and_other_errors_are_not() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert "bytes" in (shortage(caught.value) or "")
    for error in (RuntimeError("shapes differ"), ValueError("allocate 3 MiB"), OSError()):
        assert shortage(error) is None


def test_a_shortage_of_memory_ends_the_run_with_one_line(
    tiny_arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def step(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0")

    monkeypatch.setattr("training.mixmatch.MixMatch.step", step)
    assert ASD.main(tiny_arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: not enough memory on the GPU: 2.00 GiB more were asked for")
    assert error.count("\n") == 1


@pytest.mark.parametrize("error", [AttributeError, ValueError, OSError])
def test_where_the_system_does_not_tell_some_memory_is_free(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows has no `os.sysconf`, macOS no number of free pages."""

    def missing(_: str) -> int:
        raise error

    assert free_bytes(torch.device("cpu")) > 2**20
    monkeypatch.setattr("os.sysconf", missing)
    assert free_bytes(torch.device("cpu")) == UNKNOWN_MEMORY
