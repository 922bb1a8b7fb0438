"""The first look at a GPU: it works on any device, and writes down what it has found so far."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmark import first_gpu
from benchmark.first_gpu import Finding, Recorder, describe, findings_of, summary, time_steps
from utils.files import PROJECT

CPU = torch.device("cpu")


def test_steps_and_passes_are_timed_in_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_gpu, "IMAGES", 200)
    monkeypatch.setattr("benchmark.first_gpu.matrix_product", lambda *_: (lambda: None, 1.0))
    found = list(time_steps(CPU, width=4, steps=1, repeats=1))
    ways = ("reference", "fast, not compiled", "default")
    assert [finding["what"] for finding in found] == [
        f"{what}, {way}" for what in ("MixMatch step", "record pass") for way in ways
    ]
    assert all(finding["images_per_second"] > 0 for finding in found)
    assert all(row["found"] for row in summary(found))


def test_the_device_is_described_with_what_is_chosen_for_it() -> None:
    found = describe(CPU)
    assert isinstance(found["native_bf16"], bool)
    assert found["why_not_compiled"] is None or isinstance(found["why_not_compiled"], str)


def test_every_test_is_written_down_with_its_outcome(tmp_path: Path) -> None:
    path = tmp_path / "test_three.py"
    path.write_text(
        "import pytest\ndef test_a(): pass\ndef test_b(): assert 1 == 2\n"
        "@pytest.fixture\ndef broken(): raise OSError('no')\ndef test_c(broken): pass\n"
        "def test_d(): pytest.skip('not here')\n"
    )
    found: list[Finding] = []
    pytest.main(["-q", "-p", "no:cacheprovider", str(path)], plugins=[Recorder(found.append)])
    outcomes = {finding["what"]: finding["outcome"] for finding in found}
    assert outcomes == {
        "test_a": "passed", "test_b": "failed", "test_c": "failed", "test_d": "skipped",
    }  # fmt: skip
    assert "1 == 2" in found[1]["why"]


def test_what_is_found_before_a_crash_or_the_end_of_the_time_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def crashes(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        Path(command[-1]).write_text('{"what": "device"}\n')
        return subprocess.CompletedProcess(command, -11)

    def never_ends(command: list[str], timeout: float, **_: object) -> None:
        Path(command[-1]).write_text('{"what": "device"}\n')
        raise subprocess.TimeoutExpired(command, timeout)

    for program, end in ((crashes, -11), (never_ends, "out of time")):
        monkeypatch.setattr(subprocess, "run", program)
        assert findings_of("tests", 3.0) == [{"what": "device"}, {"what": "tests", "end": end}]


@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")
def test_without_a_gpu_it_says_so() -> None:
    command = [sys.executable, "-m", "benchmark.first_gpu"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
