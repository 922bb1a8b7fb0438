"""How time and memory grow with the number of samples: `python -m benchmark.scale [--largest N]`.

Each measurement runs in a process of its own, so that its peak memory is its own: the three splits
(one core), and batches of 32x32 images drawn from memory and from a memory map.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from command.arguments import Parser
from command.timing import peak_host_bytes, timed
from data.feed import Feed, consecutive
from data.poison import TrainingSet
from defense.split import class_agnostic, class_aware, meta_split
from run.versions import git_commit, versions
from utils.console import say, table
from utils.errors import TrainingError
from utils.files import PROJECT, write_text
from utils.program import run_program, whole_number

CPU = torch.device("cpu")
CLASSES = 10
SIZES = (10**4, 10**5, 10**6, 10**7, 10**8)
IMAGE_SIZES = (10**4, 10**5, 10**6)
SIDE = 32  # pixels
BATCH, BATCHES = 64, 1_000


def measure_split(count: int, kind: str) -> dict[str, Any]:
    """Return seconds and peak memory of one split of `count` losses on one core."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    loss = torch.rand(count, generator=generator)
    if kind == "class-agnostic":
        seconds = timed(lambda: class_agnostic(loss, 0.5), CPU)
    elif kind == "meta-split":
        virtual = torch.rand(count, generator=generator)
        seconds = timed(lambda: meta_split(loss, virtual, 0.5), CPU)
    else:
        labels = torch.randint(CLASSES, (count,), generator=generator)
        seeds = torch.arange(10 * CLASSES)
        seconds = timed(lambda: class_aware(loss, labels, seeds, 100), CPU)
    return {"what": kind, "samples": count, "seconds": seconds, "bytes": peak_host_bytes()}


def measure_feed(count: int, mapped: bool) -> dict[str, Any]:
    """Return the seconds of `BATCHES` random batches from so many images, and the peak memory.

    The memory counts what this process holds of its own; pages of the map belong to the system's
    cache, which gives them back when they are needed elsewhere.
    """
    with tempfile.TemporaryDirectory() as folder:
        pixels = make_map(Path(folder) / "images", count)
        images = torch.from_numpy(pixels if mapped else np.array(pixels))
        training = TrainingSet(images, torch.zeros(count, dtype=torch.int64), ("a",), mapped)
        generator = torch.Generator().manual_seed(0)
        order = torch.randint(count, (BATCH * BATCHES,), generator=generator)
        feed = Feed(training, order, consecutive(0, len(order), BATCH))
        seconds = timed(lambda: [rows[index].sum() for rows, index in feed], CPU)
    what = "batches from a memory map" if mapped else "batches from memory"
    return {"what": what, "samples": count, "seconds": seconds, "bytes": own_bytes()}


def make_map(path: Path, count: int) -> Any:
    """Return a new memory map of `count` images (count, SIDE, SIDE, 3) uint8."""
    pixels = np.memmap(path, dtype=np.uint8, mode="w+", shape=(count, SIDE, SIDE, 3))
    generator = np.random.default_rng(0)
    for start in range(0, count, 10_000):
        part = pixels[start : start + 10_000]
        part[:] = generator.integers(256, size=part.shape, dtype=np.uint8)
    pixels.flush()
    del pixels
    return np.memmap(path, dtype=np.uint8, mode="c", shape=(count, SIDE, SIDE, 3))


def own_bytes() -> int:
    """Return the memory of this process that is no page of a file, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return peak_host_bytes()


def in_own_process(what: str, count: int) -> dict[str, Any]:
    """Return a measurement, made in a fresh process.

    Raises:
        TrainingError: it fails, perhaps for want of memory.
    """
    command = [sys.executable, "-m", "benchmark.scale", "--one", what, "--samples", str(count)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise TrainingError(f"{what} of {count:,} samples: {why}; lower --largest")
    return dict(json.loads(done.stdout))


MEASUREMENTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "class-aware": lambda count: measure_split(count, "class-aware"),
    "class-agnostic": lambda count: measure_split(count, "class-agnostic"),
    "meta-split": lambda count: measure_split(count, "meta-split"),
    "resident": lambda count: measure_feed(count, False),
    "mapped": lambda count: measure_feed(count, True),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments.

    Raises:
        InputError: unknown or incomplete ones.
    """
    parser = Parser(prog="-m benchmark.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=whole_number(SIZES[0]), default=SIZES[-1])
    parser.add_argument("--one", choices=MEASUREMENTS)
    parser.add_argument("--samples", type=whole_number())
    arguments = parser.parse_args(argv)
    if (arguments.one is None) != (arguments.samples is None):
        parser.error("--one and --samples belong together")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Measure everything, print a table, and write the JSON file."""
    if arguments.one:
        sys.stdout.write(json.dumps(MEASUREMENTS[arguments.one](arguments.samples)))
        return
    results = []
    for what in MEASUREMENTS:
        sizes = IMAGE_SIZES if what in {"resident", "mapped"} else SIZES
        results += [in_own_process(what, size) for size in sizes if size <= arguments.largest]
    rows = [
        {
            "what": result["what"],
            "samples": f"{result['samples']:,}",
            "seconds": f"{result['seconds']:.3g}",
            "memory": f"{result['bytes'] / 2**20:,.0f} MiB",
        }
        for result in results
    ]
    say(table(rows, headers="keys"))
    content = {"commit": git_commit(), "versions": versions(), "results": results}
    path = PROJECT / "results" / "bench" / "scale.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=2) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    return run_program(lambda: run(parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
