"""An exported set that tests import again, and what changes it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

import ASD
from config.load import load_config
from data.build import Material, assemble, load_data
from tests.conftest import DIGITS, TINY
from utils.errors import InputError
from utils.streams import Streams

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 digits with BadNets, as `--export` writes them."""
    storage, folder = tmp_path_factory.mktemp("storage"), tmp_path_factory.mktemp("out") / "set"
    given = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={storage}"]
    assert ASD.main([*given, "--export", str(folder)]) == 0
    return folder


def reading(folder: Path, storage: Path, *more: str) -> list[str]:
    """Return the overrides that import the set."""
    tiny = [word for word in TINY if not word.startswith("data.train_samples")]
    given = ["dataset=image_folder", f"dataset_dir={folder}", "data.truth=index.csv"]
    return [*tiny, *given, "data.image_size=16", "backdoor=null", f"storage_dir={storage}", *more]


def copied(exported: Path, folder: Path) -> Path:
    """Return a copy of the table beside links to the images."""
    folder.mkdir()
    for name in ("train", "test", "triggered"):
        for source in (exported / name).rglob("*.png"):
            target = folder / source.relative_to(exported)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(source)
    for name in ("index.csv", "classes.txt"):
        (folder / name).write_text((exported / name).read_text())
    return folder


def rewrite(change: Callable[[list[dict[str, str]]], None]) -> Change:
    """Return what changes the rows of the table."""

    def edit(folder: Path) -> None:
        with (folder / "index.csv").open() as file:
            rows = list(csv.DictReader(file))
        change(rows)
        with (folder / "index.csv").open("w") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)

    return edit


def set_cell(row: int, column: str, value: str) -> Change:
    return rewrite(lambda rows: rows[row].__setitem__(column, value))


def lines_of(folder: Path, storage: Path, *more: str) -> tuple[Material, list[str]]:
    """Return what the set is read as, and all lines that are said."""
    config = load_config(DIGITS, reading(folder, storage, *more)).config
    data, lines = load_data(config)
    found = assemble(config, data, Streams(100))
    return found, [*lines, *found.lines]


def refused(folder: Path, storage: Path, *more: str) -> str:
    with pytest.raises(InputError) as caught:
        lines_of(folder, storage, *more)
    assert "\n" not in str(caught.value)
    return str(caught.value)
