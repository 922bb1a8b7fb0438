"""Own folders: whole runs say nothing of a truth; doubtful seeds."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

import ASD
import run_all
from command.arguments import parse_arguments
from config.load import load_config
from data.build import assemble, load_data
from report.examine import examine
from report.seeds import doubtful
from run.checkpoint import LATEST
from run.setup import set_up
from tests.conftest import DIGITS, TINY
from tests.data.own_data_cases import (  # noqa: F401 (fixtures)
    CLASSES,
    OWN,
    draw_image,
    folder,
    listed,
    make_folder,
    names,
)
from utils.interrupt import Interrupt
from utils.streams import Streams

OF_TRUTH = ("asr", "attack", "poison", "tpr", "fpr", "auroc")


SHORT = (
    "network={resnet18_cifar: {width: 4}}",
    "semi.mixmatch.train_iteration=2",
    "semi.loader.batch_size=8",
    "meta.epoch=1",
    "num_epochs=3",
    "witness.reference={network: {fastnet: {width: 4}}, epochs: 1, steps: 4}",
)


def test_a_run_on_own_data_says_nothing_of_a_truth(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = folder.parent / "storage"
    arguments = ["--config", str(OWN), "--gpu", "cpu", f"dataset_dir={folder}"]
    arguments += [f"storage_dir={storage}", listed(folder, "\n".join(names(6))), *SHORT]
    assert ASD.main([*arguments, "--check"]) == 0
    assert ASD.main(arguments) == 0
    out = capsys.readouterr().out
    assert "auto: data.image_size: 16" in out
    assert "ACC is measured on 6 verified samples" in out
    run = storage / "own_data"
    with (run / "log.csv").open() as file:
        header = next(csv.reader(file))
    result = json.loads((run / "result.json").read_text())
    manifest = json.loads((run / "manifest.json").read_text())
    shown = out.lower().replace("may be poisoned", "")
    for word in OF_TRUTH:
        keys = {*header, *result, *manifest} - {"estimated_poisoned"}  # a guess, not the truth
        assert not [key for key in keys if word in key], word
        assert word not in shown.split(), [
            line for line in shown.splitlines() if word in line.split()
        ]
    assert result["acc"] is not None
    assert result["seeds_checked"] is manifest["seeds_checked"] is True
    assert len(manifest["held_out_files"]) == 6
    assert len(manifest["seed_files"]) == 12

    # Whatever becomes of the data's size, a run keeps what was chosen for it, until others are it.
    code = ASD.main([*arguments, "--resume", LATEST])
    assert code == 0
    assert "data.image_size: 16 (as before)" in capsys.readouterr().out
    table = folder.parent / "table.csv"
    given = [str(OWN), "--gpu", "cpu", "--csv", str(table), "--", *arguments[4:]]
    assert run_all.main(given) == 0
    assert "finished before" in capsys.readouterr().out
    assert "asr" not in table.read_text()
    (folder / "train" / CLASSES[1] / "11.png").unlink()
    assert ASD.main(arguments) == 2
    assert "other data" in capsys.readouterr().err


def test_three_images_a_class_and_nothing_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "d", per_class=3)
    arguments = ["--config", str(OWN), "--gpu", "cpu", f"dataset_dir={root}", *SHORT]
    assert ASD.main([*arguments, f"storage_dir={tmp_path / 'storage'}"]) == 0
    out = capsys.readouterr().out
    assert "NOBODY HAS CHECKED THE SEEDS: 1 image a class was drawn" in out
    result = json.loads((tmp_path / "storage" / "own_data" / "result.json").read_text())
    assert (result["acc"], result["best_acc"], result["seeds_checked"]) == (None, None, False)


def test_a_missing_folder_and_one_without_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(OWN), "--gpu", "cpu", f"storage_dir={tmp_path / 's'}"]
    draw_image(tmp_path / "d" / "train" / "only" / "1.png", 1)
    for given, part in (
        ([], "dataset_dir: missing"),
        ([f"dataset_dir={tmp_path / 'nowhere'}"], "there is no folder"),
        ([f"dataset_dir={tmp_path / 'd'}"], "two classes or more, only 'only'"),
    ):
        assert ASD.main([*arguments, *given]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert part in error


def test_benchmark_data_without_an_attack_are_trusted(tmp_path: Path) -> None:
    config = load_config(DIGITS, [*TINY, "backdoor=null", f"storage_dir={tmp_path}"]).config
    found = assemble(config, load_data(config)[0], Streams(3))
    assert found.seeds_checked
    assert not found.holds_out
    assert len(found.truth.clean_test) == 360


def losses_of_seeds(seed: int, per_class: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses as of a trained model: mostly near 0, with a tail; the first half are the seeds."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(2 * 10 * per_class) % 10
    normal = torch.randn(len(labels), generator=generator)
    seeds = torch.arange(0, len(labels) // 2)
    return 0.1 * (0.7 * normal).exp(), labels, seeds


@pytest.mark.parametrize("per_class", [1, 3, 10, 20])
def test_a_mislabelled_seed_is_doubtful(per_class: int) -> None:
    loss, labels, seeds = losses_of_seeds(0, per_class)
    loss[3], loss[8], loss[-1] = 4.0, 5.0, 9.0  # the last one is no seed
    assert doubtful(loss, labels, seeds, 10).tolist() == [8, 3]


def test_clean_seeds_are_hardly_ever_doubtful() -> None:
    found = sum(len(doubtful(*losses_of_seeds(seed, 20), 10)) for seed in range(20))
    assert found <= 2  # of 4,000


def test_a_class_that_is_hard_as_a_whole_is_not_doubtful() -> None:
    loss, labels, seeds = losses_of_seeds(1, 10)
    loss[labels == 4] += 3.0
    assert not len(doubtful(loss, labels, seeds, 10))
    loss[4] += 3.0
    assert doubtful(loss, labels, seeds, 10).tolist() == [4]
    assert not len(doubtful(loss, labels, seeds[:0], 10))


@pytest.mark.parametrize("checked", [True, False])
def test_seeds_that_nobody_has_checked_are_no_verified_samples(
    checked: bool, tmp_path: Path
) -> None:
    """Witnesses hear of none, and what the model contradicts is not kept for being one."""
    root = make_folder(tmp_path / "d")
    more = [listed(root, "\n".join(names(4)))] if checked else []
    given = ["--config", str(OWN), "--gpu", "cpu", f"dataset_dir={root}", *SHORT, *more]
    session = ASD.prepare(set_up(parse_arguments([*given, f"storage_dir={tmp_path}"]), Interrupt()))
    hearing = session.defense.setting.knowledge.hearing
    assert hearing is not None
    assert len(session.material.seeds) > 0
    assert len(hearing.seeds) == (len(session.material.seeds) if checked else 0)
    findings = examine(session)
    assert findings.origin == ("verified" if checked else "drawn")
    believed = findings.opinion.predicted == findings.training.labels
    assert (~believed[findings.seeds]).any()  # an untrained model
    assert bool(findings.kept[findings.seeds].all()) == checked
