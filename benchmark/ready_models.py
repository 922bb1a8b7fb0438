"""The ready models, tested: `python -m benchmark.ready_models dataset_dir=FOLDER`.

`assets/models/` holds networks of the whole CIFAR-10 under the paper's own trigger, as runs of
`config/laptop/` left them. This poisons the test images as those runs did and prints ACC and ASR
beside what their `result.json` says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from config.load import load_config
from config.schema import Config
from data.build import assemble, load_data
from data.poison import Truth
from data.transform.build import build_chain
from model.place import place_network
from run.measure import Score, evaluate
from run.product import DESCRIPTION, load_model
from utils.console import percent, say, say_error, table
from utils.engine import choose_engine
from utils.errors import InputError
from utils.files import PROJECT
from utils.streams import Streams
from utils.world import ALONE

FOLDER = PROJECT / "assets" / "models"
CONFIG = PROJECT / "config" / "laptop" / "badnets.yaml"


def tested(folder: Path, config: Config, truth: Truth) -> Score:
    """Return ACC and ASR of the model in `folder`."""
    network, description = load_model(folder)
    engine = choose_engine(torch.device("cpu"), config.speed, network, ALONE)
    place_network(network, engine)
    chain = build_chain("test", config.transform.test, *description.input_size)
    return evaluate(network, truth, chain, engine, config.speed.evaluation_batch)


def row_of(folder: Path, config: Config, truth: Truth) -> dict[str, str]:
    """Return the table's row of one model: as measured now, and as its run measured it."""
    score = tested(folder, config, truth)
    told: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {
        "model": folder.name,
        "ACC": percent(score.acc),
        "ASR": percent(score.asr),
        "ACC of its run": percent(told["acc"]),
        "ASR of its run": percent(told["asr"]),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Test all models and print the table; overrides of keys are the arguments."""
    try:
        config = load_config(CONFIG, sys.argv[1:] if argv is None else argv).config
        data, _ = load_data(config)
        truth = assemble(config, data, Streams(config.seed.seed or 0)).truth
        folders = sorted(path.parent for path in FOLDER.glob(f"*/{DESCRIPTION}"))
        say(table([row_of(folder, config, truth) for folder in folders], "keys"))
    except InputError as error:
        say_error(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
