"""The commands of `ASD.py` in README and docs are really run, one after another, at a small size.

Each is given word for word; a few settings behind it make it a matter of seconds. What needs data
that a page leaves to its reader gets some: a folder of one's own, photographs, the real CIFAR-10.
`run_all.py` is run by `test_run_all.py` and `test_table.py`, on digits.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

import ASD
from tests.command.test_readme import shown
from tests.data.own_data_cases import CLASSES, make_folder
from utils.files import PROJECT

SHORT = (
    "num_epochs=3",
    "global.epoch_first=1",
    "global.epoch_second=2",
    "global.epoch_third=3",
    "global.seed_num=5",
    "semi.mixmatch.train_iteration=2",
    "semi.loader.batch_size=16",
    "loader.batch_size=64",
    "witness.reference.epochs=1",
    "witness.reference.steps=2",
    "abl.isolation_epochs=1",
    "abl.fine_tuning_epochs=1",
    "abl.unlearning_epochs=1",
    "abl.milestones=[]",
    "dbd.contrastive.epochs=1",
    "dbd.warm_up.epochs=1",
    "dbd.mixmatch_epochs=1",
    "repair.fine_pruning.num_epochs=1",
    "repair.nad.teacher_epochs=1",
    "repair.nad.num_epochs=2",
    "repair.nad.milestones=[1]",
    "repair.nad.learning_rates=[0.01, 0.001]",
    "meta.epoch=1",
    "test_interval=3",
)
OF_CIFAR10 = (*SHORT, "data.train_samples=300")
OF_RESNET = ("network.resnet18_cifar.width=4", "speed.precision=fp32")
ONLY_USE = ("--predict", "--export-onnx")  # a finished model, as it is
# In the order in which they can be run; what is not named here comes in between.
FIRST = ("--export",)
LAST = ("--report", "--resume", "--export-clean", *ONLY_USE)
# Hundreds of megabytes from the network, several processes, a benchmark: other tests run these. And
# what a page leaves open.
LEFT = ("network=pretrained", "torchrun", "--bench", "X.yaml", "...", "[--")


def commands(config: str) -> list[list[str]]:
    """Return the words of the pages' commands with a configuration, in an order that works."""
    given = [shlex.split(line.partition(" >")[0]) for line in shown() if " ASD.py " in line]
    found = [words[2:] for words in given if not any(sign in " ".join(words) for sign in LEFT)]
    found = [words for words in found if any(word.startswith(f"config/{config}") for word in words)]

    def rank(words: Sequence[str]) -> int:
        late = "False" not in words and any(word in words for word in LAST)
        return 0 if any(word in words for word in FIRST) else 1 + late

    return sorted(found, key=rank)


def shortened(words: Sequence[str], settings: Sequence[str]) -> list[str]:
    """Return the words with settings behind them, where they train or measure a model."""
    before = ["", *words[:-1]]
    on_cpu = ["cpu" if last == "--gpu" else word for last, word in zip(before, words, strict=True)]
    return on_cpu if any(word in words for word in ONLY_USE) else [*on_cpu, *settings]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the commands find what they name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").symlink_to(PROJECT / "config")
    shutil.copytree(make_folder(tmp_path / "FOLDER") / "train" / CLASSES[0], tmp_path / "folder")
    shutil.copy(next((tmp_path / "folder").iterdir()), tmp_path / "photo.png")
    return tmp_path


def test_the_commands_of_digits(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = commands("digits")
    assert len(found) >= 7
    for words in found:
        assert ASD.main(shortened(words, SHORT)) == 0, words
    assert (home / "model.onnx").is_file()
    assert (home / "poisoned" / "index.csv").is_file()
    assert json.loads((home / "storage" / "imported" / "result.json").read_text())["asr"] >= 0
    assert (home / "storage" / "digits" / "report" / "report.html").is_file()
    assert "photo.png" in capsys.readouterr().out


def test_the_commands_of_one_s_own_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(home / "FOLDER", per_class=5, beside="seeds")
    found = commands("own_data")
    assert len(found) >= 3
    for words in found:
        assert ASD.main(shortened(words, SHORT)) == 0, words
    assert "verdict: " in capsys.readouterr().out
    assert list((home / "clean").rglob("*.png"))


def test_the_paper_s_command_and_its_test(home: Path, cifar10_folder: str) -> None:
    found = commands("baseline_asd")
    assert len(found) >= 2
    for words in found:
        given = shortened(words, [*OF_CIFAR10, *OF_RESNET, f"dataset_dir={cifar10_folder}"])
        assert ASD.main(given) == 0, words
    assert json.loads((home / "storage" / "baseline_asd" / "result.json").read_text())["asr"] >= 0
