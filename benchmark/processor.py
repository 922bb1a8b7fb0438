"""What a processor gives of what it has: `python -m benchmark.processor [NETWORK:WIDTH ...]`.

Step and record pass of networks, eager, against the rates of large matrix products and of copies,
as `--bench` does it. But on one core, and in seconds of the processor that this process used, so
that other programs on the machine hardly count; a run's own seconds are `--bench`'s matter.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from command.arguments import Parser
from command.roofline import (
    Load,
    bound_by_memory,
    least_seconds,
    loads_of,
    map_copies,
    step_loads,
    totals,
)
from command.timing import Timing, Work, matrix_product
from model import NETWORKS, build_network
from model.place import place_network
from run.versions import git_commit, versions
from training.mixmatch import Batch, Mix, MixMatch
from training.torch_parts import build_optimizer
from utils.choice import Choice
from utils.console import say, table
from utils.device import processor_name
from utils.engine import Engine, choose_engine
from utils.errors import InputError
from utils.files import PROJECT, write_text
from utils.memory import leave_old_objects_alone
from utils.program import run_program, whole_number
from utils.speed import SpeedSettings
from utils.world import ALONE

CPU = torch.device("cpu")
SIZE, CLASSES, BATCH, IMAGES = (32, 32), 10, 64, 500
ADAM = Choice("Adam")
USUAL = ("resnet18_cifar:64", "resnet18_cifar:16", "fastnet:64", "fastnet:32")


def used_in_turns(works: dict[str, Work], repeats: int) -> dict[str, Timing]:
    """Return the processor's seconds of each work, in turns, after a first one."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(1 + repeats):
        for name, work in works.items():
            began = time.process_time()
            work()
            if turn:
                seconds[name].append(time.process_time() - began)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def step_of(network: nn.Module, engine: Engine) -> Callable[[], object]:
    """Return a MixMatch step on random images."""
    place_network(network.train(), engine)
    mixmatch = MixMatch(network, build_optimizer(ADAM, network.parameters()), engine, 0.5)
    views = torch.rand(3, BATCH, *SIZE, 3).permute(0, 1, 4, 2, 3)
    batch = Batch(views[0], torch.arange(BATCH) % CLASSES, (views[1], views[2]))
    mix = Mix(torch.tensor(0.3), torch.randperm(3 * BATCH))
    return lambda: mixmatch.step(batch, mix, 1.0)


def pass_of(network: nn.Module, engine: Engine) -> Callable[[], object]:
    """Return the forward of a record pass's batch."""
    place_network(network.eval(), engine)
    images = torch.rand(IMAGES, *SIZE, 3).permute(0, 3, 1, 2)

    def work() -> None:
        with torch.no_grad(), engine.autocast():
            network(images)

    return work


def measure(name: str, width: int, repeats: int) -> list[dict[str, Any]]:
    """Return what step and pass of one network take, and what they could take at least."""
    kind = NETWORKS.get(name)

    def network() -> nn.Module:
        return build_network(kind, kind.Settings.model_validate({"width": width}), CLASSES, 0)

    engine = choose_engine(CPU, SpeedSettings(compile=False), network(), ALONE)
    element = 2 if engine.bf16 else 4
    product, flops = matrix_product(CPU, torch.bfloat16 if engine.bf16 else torch.float32)
    copies, moved = map_copies(CPU)
    parts: list[tuple[str, Work, list[Load]]] = [
        ("step", step_of(network(), engine), step_loads(network(), SIZE, BATCH, element)),
        ("record pass", pass_of(network(), engine), loads_of(network(), SIZE, IMAGES, element)),
    ]
    found = []
    for part, work, loads in parts:
        used = used_in_turns({"work": work, "product": product, "copies": copies}, repeats)
        peaks = flops / used["product"].best, moved / used["copies"].best
        seconds = used["work"].best  # a disturbance only ever adds
        about = {"network": f"{name}:{width}", "part": part, "engine": str(engine)}
        found.append(about | compare_with_peaks(peaks, loads, seconds))
    return found


def compare_with_peaks(
    peaks: tuple[float, float], loads: list[Load], seconds: float
) -> dict[str, Any]:
    """Return what a work of so many seconds does, beside what the processor could do.

    Args:
        peaks: of matrix products in operations a second, of copies in bytes a second.
        loads: of the work.
        seconds: that it took.
    """
    return {
        "seconds": seconds,
        "flops": totals(loads).flops,
        "bytes": totals(loads).bytes,
        "product_flops_per_second": peaks[0],
        "copy_bytes_per_second": peaks[1],
        "of_the_products": totals(loads).flops / peaks[0] / seconds,
        "of_the_roofline": least_seconds(loads, *peaks) / seconds,
        "bound_by_memory": bound_by_memory(loads, *peaks),
    }


def row(found: dict[str, Any]) -> dict[str, str]:
    """Return a row of the table for people."""
    return {
        "network": found["network"],
        "part": found["part"],
        "ms": f"{1000 * found['seconds']:.4g}",
        "GFLOP": f"{found['flops'] / 1e9:.4g}",
        "MB": f"{found['bytes'] / 1e6:,.0f}",
        "products": f"{found['product_flops_per_second'] / 1e9:,.0f} GFLOP/s",
        "copies": f"{found['copy_bytes_per_second'] / 1e9:.3g} GB/s",
        "of products": f"{100 * found['of_the_products']:.0f} %",
        "of roofline": f"{100 * found['of_the_roofline']:.0f} %",
        "bound by memory": f"{100 * found['bound_by_memory']:.0f} %",
    }


def network_of(text: str) -> tuple[str, int]:
    """Return name and width of a network that is given as NETWORK:WIDTH.

    Raises:
        InputError: there is no such network, or it has no such width.
    """
    name, _, given = text.partition(":")
    kind = NETWORKS.get(name)
    try:
        width = int(given)
        kind.Settings.model_validate({"width": width})
    except ValueError as error:
        line = f"{text}: NETWORK:WIDTH is expected, with a width that it can have, e.g. fastnet:32"
        raise InputError(line) from error
    return name, width


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments.

    Raises:
        InputError: unknown or incomplete ones.
    """
    parser = Parser(prog="-m benchmark.processor", description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=USUAL, metavar="NETWORK:WIDTH")
    parser.add_argument("--repeats", type=whole_number(), default=5)
    arguments = parser.parse_args(argv)
    arguments.networks = [network_of(text) for text in arguments.networks]
    return arguments


def compare(arguments: argparse.Namespace) -> None:
    """Measure, print the table, and write the JSON file."""
    torch.set_num_threads(1)
    leave_old_objects_alone()  # as a run does
    results = []
    for name, width in arguments.networks:
        results += measure(name, width, arguments.repeats)
    say(f"one core of {processor_name()}")
    say(table([row(found) for found in results], headers="keys"))
    slug = "".join(c if c.isalnum() else "-" for c in processor_name().lower()).strip("-")
    path = PROJECT / "results" / "bench" / f"processor-{slug}.json"
    content = {"processor": processor_name(), "commit": git_commit(), "versions": versions()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({**content, "results": results}, indent=2) + "\n")
    say(f"written to {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    return run_program(lambda: compare(parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
