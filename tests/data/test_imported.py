"""A poisoned set that was made elsewhere is read back with its truth, and trains as before."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
import torch

import ASD
from config.load import load_config
from data.build import assemble, load_data, poison_data
from tests.conftest import DIGITS, TINY, tiny_config
from tests.data.imported_cases import (  # noqa: F401 (a fixture)
    Change,
    copied,
    exported,
    reading,
    rewrite,
    set_cell,
)
from utils.errors import InputError
from utils.files import PROJECT
from utils.streams import Streams


def test_what_is_read_back_is_what_was_exported(exported: Path, tmp_path: Path) -> None:
    before, after = tiny_config().config, load_config(DIGITS, reading(exported, tmp_path)).config
    data, _ = load_data(before)
    training, truth = poison_data(before, data, Streams(100))
    found = assemble(after, load_data(after)[0], Streams(100))
    assert torch.equal(found.training.images, training.images)
    assert torch.equal(found.training.labels, training.labels)
    assert found.training.classes == training.classes
    assert torch.equal(found.truth.roles, truth.roles)
    assert torch.equal(found.truth.original_labels, truth.original_labels)
    for ours, theirs in (
        (found.truth.clean_test, truth.clean_test),
        (found.truth.triggered_test, truth.triggered_test),
    ):
        assert ours is not None
        assert theirs is not None
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
    assert torch.equal(found.seeds, assemble(before, data, Streams(100)).seeds)
    assert found.truth.fingerprint() == truth.fingerprint()


def test_a_run_has_the_same_acc_and_asr_to_the_bit(exported: Path, tmp_path: Path) -> None:
    results = []
    plain = [*TINY, f"storage_dir={tmp_path}"]
    for name, overrides in (("made", plain), ("read", reading(exported, tmp_path))):
        given = ["--config", str(DIGITS), "--gpu", "cpu", "--name", name, *overrides]
        assert ASD.main([*given, "num_epochs=2", "loader.batch_size=64", "defense=none"]) == 0
        results.append(json.loads((tmp_path / name / "result.json").read_text()))
    for key in ("acc", "asr", "poisoned_samples", "suspects_auroc"):
        assert results[0][key] == results[1][key], key
    assert [result["attack"] for result in results] == ["badnets", "imported"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (rewrite(lambda rows: rows.pop(7)), "1 of 300 training images have no row"),
        (rewrite(lambda rows: rows.append(dict(rows[3]))), "is in line 5 already"),
        (set_cell(2, "file", "train/0/none.png"), "line 4: there is no training image"),
        (set_cell(2, "kind", "poison"), "did you mean 'poisoned'"),
        (set_cell(2, "original_label", "zero"), "there is no class 'zero'"),
        (rewrite(lambda rows: [row.pop("kind") for row in rows]), "kind"),
        (lambda folder: (folder / "index.csv").unlink(), "there is no file"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(
    change: Change, part: str, exported: Path, tmp_path: Path
) -> None:
    folder = copied(exported, tmp_path / "set")
    change(folder)
    config = load_config(DIGITS, reading(folder, tmp_path)).config
    with pytest.raises(InputError, match=part) as caught:
        assemble(config, load_data(config)[0], Streams(100))
    assert "data.truth" in str(caught.value)


def test_a_given_label_must_be_the_folders(exported: Path, tmp_path: Path) -> None:
    folder = copied(exported, tmp_path / "set")
    rewrite(lambda rows: rows[0].update(given_label=str((int(rows[0]["given_label"]) + 1) % 10)))(
        folder
    )
    config = load_config(DIGITS, reading(folder, tmp_path)).config
    with pytest.raises(InputError, match="another class's folder"):
        assemble(config, load_data(config)[0], Streams(100))


def test_file_and_kind_are_enough_and_without_triggered_images_there_is_no_asr(
    exported: Path, tmp_path: Path
) -> None:
    folder = copied(exported, tmp_path / "set")
    for file in sorted((folder / "triggered").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    (folder / "triggered").rmdir()
    rewrite(lambda rows: [(row.pop("original_label"), row.pop("given_label")) for row in rows])(
        folder
    )
    config = load_config(DIGITS, reading(folder, tmp_path)).config
    found = assemble(config, load_data(config)[0], Streams(100))
    assert found.truth.triggered_test is None
    assert any("ASR is not measured" in line for line in found.lines)
    assert torch.equal(found.truth.original_labels, found.training.labels)
    assert int(found.truth.poisoned.sum()) == 15


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["data.train_samples=100"], "data.train_samples"),
        (["backdoor={badnets: {trigger_path: null}}"], "backdoor"),
        (
            ["dataset=digits", "dataset_dir=null", "data.image_size=null"],
            "data.truth means nothing",
        ),
    ],
)
def test_keys_that_contradict_the_table_are_named(
    more: list[str], part: str, exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=part):
        load_data(load_config(DIGITS, reading(exported, tmp_path, *more)).config)


def test_an_imported_set_is_exported_as_it_is(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "again"
    given = ["--config", str(DIGITS), "--gpu", "cpu", *reading(exported, tmp_path)]
    assert ASD.main([*given, "--export", str(folder)]) == 0
    assert (folder / "index.csv").read_bytes() == (exported / "index.csv").read_bytes()
    for place in ("train", "test", "triggered"):
        ours = sorted(path.relative_to(folder) for path in (folder / place).rglob("*.png"))
        assert ours == sorted(
            path.relative_to(exported) for path in (exported / place).rglob("*.png")
        )
    assert not (folder / "gallery.png").exists()  # nobody knows how the images were before
    assert "15 of 300 training samples are poisoned" in capsys.readouterr().out


def told(run: Path) -> list[dict[str, str]]:
    """Return the log of a run without its times."""
    with (run / "log.csv").open() as file:
        return [{**row, "seconds": "", "images_per_second": ""} for row in csv.DictReader(file)]


def test_the_round_trip_of_the_page_has_the_same_run(tmp_path: Path) -> None:
    """The commands of docs/attacks.md, on a tiny set."""
    page = (PROJECT / "docs" / "attacks.md").read_text(encoding="utf-8")
    lines = r"```sh\n(python ASD.py .*--export .*\n)(python ASD.py .*data.truth.*\n)```"
    block = re.search(lines, page)
    assert block
    export, imported = (
        shlex.split(line.replace("poisoned", str(tmp_path / "set")))[2:] for line in block.groups()
    )
    tiny = ["--gpu", "cpu", f"storage_dir={tmp_path}", "network={fastnet: {width: 4}}"]
    tiny += ["num_epochs=2", "defense=none", "speed.compile=false", "report=false"]
    part = "data.train_samples=300"
    assert ASD.main([*export, *tiny, part]) == 0
    assert ASD.main([*export[:2], "--name", "made", *tiny, part]) == 0
    assert ASD.main([*imported, *tiny]) == 0
    assert told(tmp_path / "made") == told(tmp_path / "imported")
    assert told(tmp_path / "made")[-1]["asr"]
