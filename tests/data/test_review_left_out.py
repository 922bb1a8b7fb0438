"""A review outlives the run: it may judge samples that another run does not train on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from command.arguments import parse_arguments
from config.load import load_config
from data.build import assemble, load_data
from run.material import read_material
from run.setup import set_up
from tests.conftest import DIGITS
from tests.data.own_data_cases import (  # noqa: F401 (a fixture)
    CLASSES,
    OWN,
    folder,
    listed,
    names,
)
from tests.data.test_export_clean import Run, write_manifest
from utils.interrupt import Interrupt
from utils.streams import Streams


def test_a_review_outlives_another_draw_of_what_is_held_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may judge a sample that measures ACC in the next run, or a copy of one."""
    for name in CLASSES:  # a copy leaves training with its twin
        shutil.copy(folder / "train" / name / "00.png", folder / "train" / name / "copy.png")
    review = folder.parent / "review.csv"
    judged = [*names(6), *(f"train/{name}/copy.png" for name in CLASSES)]
    review.write_text("file,verdict\n" + "".join(f"{name},clean\n" for name in judged))
    given = ["--config", str(OWN), "--gpu", "cpu", f"dataset_dir={folder}", f"review={review}"]
    given += [f"storage_dir={folder.parent / 'storage'}", listed(folder, "\n".join(names(6)))]
    held_out = []
    for seed in range(3):
        setup = set_up(parse_arguments([*given, f"seed.seed={seed}"]), Interrupt())
        material = read_material(setup)
        held_out.append(material.truth.clean_test.files)
        training = material.training.files
        assert training is not None
        gone = [name for name in judged if name not in training]
        assert len(gone) >= 6
        assert material.review.ignored == len(gone)
        assert [training[index] for index in material.review.accepted.tolist()] == sorted(
            set(judged) - set(gone)
        )
        assert f"review: {len(gone)} of {len(judged)} samples" in capsys.readouterr().out
    assert len(set(held_out)) == 3


def test_a_review_may_judge_what_is_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, "train")
    (tmp_path / "seeds.txt").write_text("\n".join(run.names))
    run.arguments.append(f"global.seed_indices={tmp_path / 'seeds.txt'}")
    write_manifest(run.folder, run.arguments[4:])
    config = load_config(DIGITS, run.arguments[4:]).config
    material = assemble(config, load_data(config)[0], Streams(100))
    assert material.holds_out
    kept = material.training.files
    assert kept is not None and len(kept) == 4
    run.keep(kept[0])
    rows = "".join(f"{name},clean\n" for name in run.names)
    (tmp_path / "review.csv").write_text(f"file,verdict\n{rows}")
    run.arguments.append(f"review={tmp_path / 'review.csv'}")
    assert run.export() == 0
    assert run.written() == sorted(name.removeprefix("train/") for name in kept)
    assert "review: 1 of 5 samples that it judges are held out" in capsys.readouterr().out


def test_a_review_may_judge_more_than_a_part_of_the_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, "train")
    run.keep(run.names[0])
    rows = "".join(f"{name},clean\n" for name in run.names)
    (tmp_path / "review.csv").write_text(f"file,verdict\n{rows}")
    run.arguments += [f"review={tmp_path / 'review.csv'}", "data.train_samples=2"]
    write_manifest(run.folder, run.arguments[4:])
    assert run.export() == 0
    assert len(run.written()) == 2
    assert "review: 3 of 5 samples that it judges" in capsys.readouterr().out
