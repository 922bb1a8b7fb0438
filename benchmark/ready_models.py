"""The ready models, tested: `python -m benchmark.ready_models dataset_dir=FOLDER`.

`assets/models/` holds networks of the whole CIFAR-10 under the paper's own trigger, as runs of
`config/laptop/` left them, with the defence and without. This poisons the test images as those runs
did and prints ACC and ASR beside what their `result.json` says. Exit code 1: one of them differs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from config.load import load_config
from config.schema import Config
from data.build import Material, assemble, load_data
from data.transform.build import build_chain
from model.place import place_network
from run.fingerprints import first_difference, of_data
from run.measure import Score, evaluate
from run.product import DESCRIPTION, load_model
from run.results import read_result
from utils.console import percent, say, table
from utils.engine import choose_engine
from utils.errors import InputError
from utils.files import PROJECT
from utils.program import run_program
from utils.streams import Streams
from utils.world import ALONE

FOLDER = PROJECT / "assets" / "models"
CONFIG = PROJECT / "config" / "laptop" / "badnets.yaml"
# Of all images: another processor rounds otherwise, and a few are on the edge of two classes.
TOLERANCE = 0.002


def tested(folder: Path, config: Config, material: Material) -> Score:
    """Return ACC and ASR of the model in `folder`."""
    network, description = load_model(folder)
    engine = choose_engine(torch.device("cpu"), config.speed, network, ALONE)
    place_network(network, engine)
    chain = build_chain("test", config.transform.test, *description.input_size)
    return evaluate(network, material.truth, chain, engine, config.speed.evaluation_batch)


def refuse_other_images(folder: Path, told: Mapping[str, Any], material: Material) -> None:
    """Raise `InputError` unless the images are those that the model's run was tested on."""
    ours = of_data(material.fingerprints(truth_known=True))
    what = first_difference(told.get("fingerprints", {}), ours)
    if what is not None:
        raise InputError(
            f"{folder.name}: its run had other {what}; leave out what changes the set, and "
            f"check that dataset_dir holds the whole one"
        )


def agrees(score: Score, told: Mapping[str, Any]) -> bool:
    """Return whether a model is as good, and as bad, as its run said."""
    pairs = [(score.acc, told.get("acc")), (score.asr, told.get("asr"))]
    return all(
        now is not None and then is not None and abs(now - then) <= TOLERANCE for now, then in pairs
    )


def row_of(folder: Path, config: Config, material: Material) -> dict[str, str]:
    """Return the table's row of one model: as measured now, and as its run measured it."""
    told = read_result(folder / "result.json")
    refuse_other_images(folder, told, material)
    score = tested(folder, config, material)
    return {
        "model": folder.name,
        "defence": str(told.get("defense")),
        "ACC": percent(score.acc),
        "ASR": percent(score.asr),
        "ACC of its run": percent(told.get("acc")),
        "ASR of its run": percent(told.get("asr")),
        "agrees": "yes" if agrees(score, told) else "NO",
    }


def parse(argv: Sequence[str]) -> Config:
    """Return the configuration; overrides of keys are the arguments.

    Raises:
        InputError: wrong ones.
    """
    return load_config(CONFIG, argv).config


def compare_all(config: Config) -> int:
    """Test all models and print the table; return the exit code."""
    data, _ = load_data(config)
    material = assemble(config, data, Streams(config.seed.seed or 0))
    folders = sorted(path.parent for path in FOLDER.glob(f"*/{DESCRIPTION}"))
    rows = [row_of(folder, config, material) for folder in folders]
    say(table(rows, "keys"))
    return int(any(row["agrees"] == "NO" for row in rows))


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    return run_program(lambda: compare_all(parse(sys.argv[1:] if argv is None else argv)))


if __name__ == "__main__":
    sys.exit(main())
