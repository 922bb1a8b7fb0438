"""The benchmark of `--bench`: one table and one JSON file.

Three ways of each part of a run, turn by turn in one process: `conventional` (what such code
usually does: PIL, `DataLoader` workers, eager fp32, a wait for every loss), `reference` (this
project's plain path) and `fast` (its default). `command/bench_parts.py` times them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from command.bench_parts import COPY, FAST, PRODUCT, REFERENCE, WORKERS, Bench, Part
from command.roofline import bound_by_memory, least_seconds, totals
from command.timing import peak_host_bytes
from defense.schedule import META_SPLIT, is_split, stage_of
from defense.virtual import images_of_virtual_model
from run.measure import tested_images
from run.session import Session
from run.versions import git_commit, versions
from training.mixmatch import images_in_step
from utils.console import say, table
from utils.device import device_name, processor_name
from utils.engine import Engine
from utils.files import PROJECT, made_folder, write_text

FOLDER = PROJECT / "results" / "bench"
REPEATS = 7  # of every measurement


def run_bench(session: Session) -> Path:
    """Time all parts, print the table, and write the JSON file; return its path."""
    folder = made_folder(FOLDER, "--bench")
    bench = Bench(session, REPEATS)
    say(f"benchmark on {session.engine}; median of {REPEATS}, spread: half the quartile range")
    say("in brackets: the share of the rate of large matrix products, timed in turn")
    makers: list[Callable[[], Part]] = [
        bench.mixmatch, bench.record, bench.virtual, bench.test, bench.data,
    ]  # fmt: skip
    parts = []
    for make in makers:
        parts.append(make())
        say(f"{parts[-1].name}: done")
    say(table([row for part in parts for row in rows_of(part)], headers="keys"))
    say(table([roof_of(part) for part in parts if part.loads], headers="keys"))
    ways = (REFERENCE, FAST) if session.config.defense == "asd" else ()  # the parts are ASD's
    seconds = {name: projected(session, parts, name) for name in ways}
    for name, total in seconds.items():
        say(f"the whole schedule, {name}: {total / 3600:.2f} h projected")
    path = folder / f"{session.folder.path.name}-{slug(session.engine)}.json"
    content = report(session, parts, seconds)
    write_text(path, json.dumps(content, indent=2) + "\n")
    say(f"written to {path}")
    return path


def rows_of(part: Part) -> list[dict[str, str]]:
    """Return the table's rows of one part, a row a way."""
    rows = []
    for name, timing in part.timings.items():
        if name in {PRODUCT, COPY}:
            continue
        row = {"part": part.name, "way": name, "ms": f"{1000 * timing.median:.4g}"}
        row["spread"] = f"{100 * timing.spread:.0f} %"
        row["images/s"] = f"{part.images / timing.median:,.0f}"
        row["steps/s"] = f"{part.steps / timing.median:.3g}" if part.steps else ""
        rate = totals(part.loads).flops / timing.median
        row["GFLOP/s"] = f"{rate / 1e9:.0f} ({100 * part.share(name):.0f} %)" if rate else ""
        gain = part.speed_up() if name == FAST else None
        row["speed-up"] = f"{gain:.1f}x" if gain else ""
        rows.append(row)
    return rows


def roof_of(part: Part) -> dict[str, str]:
    """Return the roofline table's row of one part: what it costs, the peaks, and how near it is."""
    load, (flop_rate, byte_rate) = totals(part.loads), part.peaks
    return {
        "part": part.name,
        "GFLOP": f"{load.flops / 1e9:.4g}",
        "MB": f"{load.bytes / 1e6:,.0f}",
        "products": f"{flop_rate / 1e9:,.0f} GFLOP/s",
        "copies": f"{byte_rate / 1e9:.3g} GB/s",
        "bound by memory": f"{100 * bound_by_memory(part.loads, flop_rate, byte_rate):.0f} %",
        "at least": f"{1000 * least_seconds(part.loads, flop_rate, byte_rate):.4g} ms",
        "fast": f"{1000 * part.timings[FAST].median:.4g} ms",
        "of the roofline": f"{100 * part.roof_share(FAST):.0f} %",
    }


def projected(session: Session, parts: list[Part], way: str) -> float:
    """Return the seconds that the whole run of `defense: asd` would take, from the parts."""
    config, count = session.config, len(session.training)
    speed = {part.name: part.timings[way].median for part in parts if way in part.timings}
    each = {part.name: speed[part.name] / part.images for part in parts if part.name in speed}
    epochs = range(config.num_epochs)
    meta = sum(stage_of(epoch, config.global_) == META_SPLIT for epoch in epochs)
    splits = sum(is_split(epoch, config.global_) for epoch in epochs)
    steps = config.num_epochs * config.semi.mixmatch.train_iteration
    return (
        steps * images_in_step(config.semi.loader.batch_size) * each["MixMatch step"]
        + (splits + meta) * count * each["record pass"]
        + meta * images_of_virtual_model(session.defense.setting) * each["virtual-model step"]
        + sum(map(config.is_tested, epochs)) * tested_images(session.truth) * each["test pass"]
    )


def report(session: Session, parts: list[Part], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return the content of the JSON file."""
    gpu = session.engine.device.type == "cuda"
    return {
        "config": session.folder.path.name,
        "engine": str(session.engine),
        "device": device_name(session.engine.device),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "workers": WORKERS,
        "commit": git_commit(),
        "versions": versions(),
        "projected_seconds": dict(seconds),
        "peak_host_bytes": peak_host_bytes(),
        "peak_device_bytes": torch.cuda.max_memory_allocated() if gpu else None,
        "parts": [described(part) for part in parts],
    }


def described(part: Part) -> dict[str, Any]:
    """Return a part for the JSON file."""
    load = totals(part.loads)
    content = {
        "name": part.name,
        "images": part.images,
        "steps": part.steps,
        "flops": load.flops,
        "bytes": load.bytes,
        "timings": {way: timing.seconds for way, timing in part.timings.items()},
        "product_flops": part.product_flops,
        "copy_bytes": part.copy_bytes,
    }
    if part.loads:
        content["least_seconds"] = least_seconds(part.loads, *part.peaks)
        content["bound_by_memory"] = bound_by_memory(part.loads, *part.peaks)
        content["of_the_roofline"] = part.roof_share(FAST)
    return content


def slug(engine: Engine) -> str:
    """Return the device's name as a part of a file name."""
    return "".join(c if c.isalnum() else "-" for c in device_name(engine.device).lower()).strip("-")
