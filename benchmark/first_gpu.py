"""The first hour on a new GPU, in five minutes: `python -m benchmark.first_gpu [--minutes 5]`.

It runs `tests/test_cuda*.py`, times the paper's step in every way on random images, and writes
`results/bench/first_gpu-<device>.json`. Nothing is downloaded. What a fault leaves of a GPU's state
ends with the process, and each finding is written down before the next is looked for, so a crash or
the end of the time costs the rest of one part, never the file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from command.arguments import Parser
from command.timing import Work, in_turns, matrix_product
from data.poison import TrainingSet
from data.transform import Chain, Normalize
from loss import CRITERIA
from model import NETWORKS, build_network
from model.place import place_network
from run.versions import git_commit, versions
from training.draws import EpochDraws
from training.ground import Ground
from training.mixmatch import OF_MIXMATCH, MixMatch, images_in_step
from training.record import record_losses
from training.settings import SemiSection
from utils.compiler import why_not
from utils.console import say, table
from utils.device import device_name
from utils.engine import Engine, choose_engine, settled
from utils.errors import InputError
from utils.files import PROJECT, write_text
from utils.precision import native_bf16
from utils.program import positive_number, run_program
from utils.speed import SpeedSettings
from utils.streams import Streams
from utils.translation import Steps
from utils.world import ALONE

FOLDER = PROJECT / "results" / "bench"
TESTS = sorted((PROJECT / "tests").glob("test_cuda*.py"))
SIDE, CLASSES, IMAGES = 32, 10, 10_000
STEPS, REPEATS = 20, 5
WHOLE_RUN = 122_880  # steps of `config/baseline_asd.yaml`

Finding = dict[str, Any]


class Recorder:
    """Writes the outcome of every test down as soon as it is known; a plugin of pytest.

    Args:
        write: takes one finding.
    """

    def __init__(self, write: Callable[[Finding], None]) -> None:
        self._write = write

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Take the report of one phase of a test; those of a passed one are told in one."""
        if report.when != "call" and report.passed:
            return
        finding = {"what": report.nodeid.partition("::")[2], "outcome": report.outcome}
        finding["seconds"] = round(report.duration, 2)
        if report.failed:
            finding["why"] = str(report.longrepr)[-1000:]
        self._write(finding)


def run_tests(write: Callable[[Finding], None]) -> None:
    """Run the tests that need a GPU."""
    import pytest  # here: only those who test have it

    pytest.main(["-q", "-p", "no:cacheprovider", *map(str, TESTS)], plugins=[Recorder(write)])


def describe(device: torch.device) -> Finding:
    """Return what the device is and what is chosen for it."""
    found: Finding = {"what": "device", "name": device_name(device), "torch": torch.__version__}
    if device.type == "cuda":
        found["capability"] = list(torch.cuda.get_device_capability(device))
        found["free_bytes"], found["total_bytes"] = torch.cuda.mem_get_info(device)
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    found |= {"native_bf16": native_bf16(device), "why_not_compiled": why_not(device)}
    return found


def random_ground(engine: Engine) -> Ground:
    """Return random images on the engine's device, without augmentation."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (IMAGES, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    labels = torch.arange(IMAGES) % CLASSES
    names = tuple(str(label) for label in range(CLASSES))
    training = TrainingSet(images.to(engine.device), labels.to(engine.device), names)
    chain = Chain([], Normalize(mean=[0.5] * 3, std=[0.25] * 3), SIDE, SIDE)
    return Ground(training, chain, Streams(0), engine, 500)


def network_of(width: int) -> torch.nn.Module:
    """Return the paper's network, at its width or a smaller one."""
    network = NETWORKS.get("resnet18_cifar")
    settings = network.Settings.model_validate({"width": width})
    return build_network(network, settings, CLASSES, 0)


def step_work(engine: Engine, width: int, steps: int) -> Callable[[], object]:
    """Return `steps` MixMatch steps, data included."""
    ground, network = random_ground(engine), place_network(network_of(width), engine).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.002)
    mixmatch = MixMatch(network, optimizer, engine, 0.5)
    clean = torch.arange(IMAGES) % 2 == 0

    def batches() -> Iterator[Any]:
        for epoch in range(sys.maxsize):
            yield from EpochDraws(ground, SemiSection(), clean, epoch).batches(0)

    endless = batches()

    def work() -> None:
        for _ in range(steps):
            batch, mix = next(endless)
            mixmatch.step(batch, mix, 1.0)

    return work


def record_work(engine: Engine, width: int) -> Callable[[], object]:
    """Return a record pass over all images."""
    ground, network = random_ground(engine), place_network(network_of(width), engine)
    criterion = CRITERIA.get("cross_entropy")(CRITERIA.get("cross_entropy").Settings())
    return lambda: record_losses(network, ground, criterion, torch.Generator())


def ways(device: torch.device, width: int) -> dict[str, Engine]:
    """Return the engines to compare: reference, fast without translation, and the default.

    The last is that of the paper's whole run, which has enough steps to translate them.
    """
    network = network_of(width)
    eager = choose_engine(device, SpeedSettings(compile=False), network, ALONE)
    usual = choose_engine(device, SpeedSettings(), network, ALONE)
    steps = [Steps(WHOLE_RUN, *OF_MIXMATCH, 64)]
    return {
        "reference": Engine(device),
        "fast, not compiled": eager,
        "default": settled(usual, network, (32, 32), steps),
    }


def time_steps(
    device: torch.device, width: int = 64, steps: int = STEPS, repeats: int = REPEATS
) -> Iterator[Finding]:
    """Yield the medians of step and record pass in every way, timed in turn."""
    parts: list[tuple[str, Callable[[Engine], Work], int]] = [
        (
            "MixMatch step",
            lambda engine: step_work(engine, width, steps),
            images_in_step(64) * steps,
        ),
        ("record pass", lambda engine: record_work(engine, width), IMAGES),
    ]
    for what, work, images in parts:
        works = {name: work(engine) for name, engine in ways(device, width).items()}
        dtype = torch.bfloat16 if native_bf16(device) else torch.float32
        works["products"], flops = matrix_product(device, dtype)
        timings = in_turns(works, device, repeats, warmup=3)
        rate = flops / timings.pop("products").median
        for name, timing in timings.items():
            yield {
                "what": f"{what}, {name}",
                "images_per_second": images / timing.median,
                "milliseconds": 1000 * timing.median / (steps if "step" in what else 1),
                "spread": timing.spread,
                "products_flops_per_second": rate,
            }
    if device.type == "cuda":
        yield {"what": "peak memory", "bytes": torch.cuda.max_memory_allocated(device)}


PARTS = ("figures", "tests")


def run_part(part: str, path: Path) -> None:
    """Write the findings of one part to `path`, a line each."""
    with path.open("a", encoding="utf-8", buffering=1) as file:

        def write(finding: Finding) -> None:
            file.write(json.dumps(finding) + "\n")

        if part == "tests":
            run_tests(write)
            return
        device = torch.device("cuda", 0)
        write(describe(device))
        for finding in time_steps(device):
            write(finding)


def findings_of(part: str, seconds: float) -> list[Finding]:
    """Return the findings of a part, made in a process of its own, which has so many seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "findings"
        command = [sys.executable, "-m", "benchmark.first_gpu", "--part", part, "--to", str(path)]
        end: str | int = "out of time"
        with suppress(subprocess.TimeoutExpired):
            end = subprocess.run(command, cwd=PROJECT, timeout=max(seconds, 1)).returncode
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [*(json.loads(line) for line in lines), {"what": part, "end": end}]


def summary(findings: list[Finding]) -> list[dict[str, str]]:
    """Return a row a finding, for people."""
    rows = []
    for finding in findings:
        found = {key: value for key, value in finding.items() if key not in {"what", "why"}}
        words = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                 for key, value in found.items())  # fmt: skip
        rows.append({"what": finding["what"], "found": ", ".join(words)})
    return rows


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments.

    Raises:
        InputError: unknown or incomplete ones.
    """
    parser = Parser(prog="-m benchmark.first_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=positive_number, default=5.0, help="for all of it")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if (arguments.part is None) != (arguments.to is None):
        parser.error("--part and --to belong together")
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Look at everything within the time, print a table, and write the JSON file."""
    if arguments.part:
        run_part(arguments.part, arguments.to)
        return 0
    if not torch.cuda.is_available():
        raise InputError("PyTorch finds no GPU on this machine")
    deadline = time.monotonic() + 60 * arguments.minutes
    findings: list[Finding] = []
    for place, part in enumerate(PARTS):
        left = deadline - time.monotonic()
        findings += findings_of(part, left / (len(PARTS) - place))
    say(table(summary(findings), headers="keys"))
    name = "".join(c if c.isalnum() else "-" for c in torch.cuda.get_device_name(0).lower())
    path = FOLDER / f"first_gpu-{name}.json"
    content = {"commit": git_commit(), "versions": versions(), "findings": findings}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=2) + "\n")
    say(f"written to {path}")
    return int(any(finding.get("outcome") == "failed" for finding in findings))


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    return run_program(lambda: run(parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
