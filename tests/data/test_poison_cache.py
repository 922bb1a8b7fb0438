"""The poisoned set that an attack made is kept, found again, and made anew when it is damaged."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.schema import Config
from data.attack import Attack
from data.attack.clb import Clb
from data.attack.iab import Iab
from data.attack.wanet import GRIDS_FILE, WaNet
from data.build import poison_data
from data.dataset import ImageData, Split
from data.kept import POISON_FILE
from data.poison import TrainingSet, Truth
from tests.conftest import colourful_images, tiny_config
from tests.processes import run_together
from utils.streams import Streams

Made = tuple[TrainingSet, Truth]


def data_of(seed: int) -> ImageData:
    labels = torch.arange(100) % 10
    split = Split(colourful_images(100, 16, seed), labels)
    return ImageData(split, split, tuple("abcdefghij"))


DATA = data_of(0)


def configuration(folder: Path, *overrides: str) -> Config:
    return tiny_config("backdoor.wanet.s=1.0", *overrides, f"storage_dir={folder}").config


def make(folder: Path, *overrides: str, seed: int = 0, data: ImageData = DATA) -> Made:
    return poison_data(configuration(folder, *overrides), data, Streams(seed))


def folders(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob(f"cache/*/{POISON_FILE}")}


def kept_file(folder: Path) -> Path:
    (file,) = folder.glob(f"cache/*/{POISON_FILE}")
    return file


def assert_same(first: Made, second: Made) -> None:
    assert torch.equal(first[0].images, second[0].images)
    assert torch.equal(first[0].labels, second[0].labels)
    assert first[0].classes == second[0].classes
    assert torch.equal(first[1].roles, second[1].roles)
    assert torch.equal(first[1].original_labels, second[1].original_labels)
    tested = first[1].triggered_test, second[1].triggered_test
    assert tested[0] is not None and tested[1] is not None
    assert torch.equal(tested[0].images, tested[1].images)
    assert torch.equal(tested[0].labels, tested[1].labels)
    assert first[1].fingerprint() == second[1].fingerprint()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of the attack's methods, in order."""
    made: list[str] = []
    for name in ("prepare", "apply", "apply_cross"):
        plain = getattr(WaNet, name)

        def counted(*arguments: Any, _name: str = name, _plain: Any = plain) -> Any:
            made.append(_name)
            return _plain(*arguments)

        monkeypatch.setattr(WaNet, name, counted)
    return made


def test_the_second_run_reads_what_the_first_one_made(tmp_path: Path, calls: list[str]) -> None:
    first = make(tmp_path)
    assert calls == ["prepare", "apply", "apply_cross", "apply"]
    assert_same(make(tmp_path), first)
    assert len(calls) == 4
    assert_same(make(tmp_path / "elsewhere"), first)
    assert len(calls) == 8
    assert (kept_file(tmp_path).parent / GRIDS_FILE).is_file()


LEARNT = {
    Iab: ("iab.mask_epochs=1", "iab.width=4", "iab.epochs=1", "iab.flip=false"),
    Clb: ("clb.iterations=2", "clb.training_iterations=1", "clb.epochs=1", "clb.flip=false"),
}


@pytest.mark.parametrize("attack", LEARNT)
def test_what_an_attack_has_learnt_is_found_by_the_next_run(
    attack: type[Attack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = attack.__name__.lower()
    width = f"backdoor.{name}.network.resnet18_cifar.width=4"
    config = tiny_config(
        *(f"backdoor.{setting}" for setting in LEARNT[attack]), width, f"storage_dir={tmp_path}"
    ).config
    first = poison_data(config, DATA, Streams(0))
    monkeypatch.setattr(attack, "prepare", None)
    assert_same(poison_data(config, DATA, Streams(0)), first)


def make_learnt(folder: Path, name: str, told: Path) -> None:
    """Poison by an attack that learns, in a process of its own; tell what came out."""
    attack = next(known for known in LEARNT if known.__name__ == name)
    width = f"backdoor.{name.lower()}.network.resnet18_cifar.width=4"
    settings = [f"backdoor.{setting}" for setting in LEARNT[attack]]
    config = tiny_config(*settings, width, f"storage_dir={folder}").config
    training, truth = poison_data(config, DATA, Streams(0))
    pixels = hashlib.sha256(training.images.numpy().tobytes()).hexdigest()
    told.write_text(f"{pixels} {training.labels.tolist()} {truth.fingerprint()}")


@pytest.mark.parametrize("attack", LEARNT)
def test_runs_of_one_learnt_attack_that_start_together_agree(
    attack: type[Attack], tmp_path: Path
) -> None:
    told = [tmp_path / str(number) for number in range(2)]
    calls = [(tmp_path / "storage", attack.__name__, path) for path in told]
    assert run_together(make_learnt, calls) == [0, 0]
    assert told[0].read_text() == told[1].read_text()


def test_whatever_the_poison_depends_on_gives_another_folder(tmp_path: Path) -> None:
    make(tmp_path)
    make(tmp_path, "backdoor.wanet.k=5")
    make(tmp_path, "backdoor.poison_ratio=0.1")
    make(tmp_path, "backdoor.target_label=4")
    make(tmp_path, "backdoor.label_rule=all_to_all", "backdoor.poison_ratio=0.1")
    make(tmp_path, "backdoor.bpp.levels=4")
    make(tmp_path, seed=1)
    make(tmp_path, data=data_of(1))
    names = folders(tmp_path)
    assert len(names) == 8
    assert {name.partition("-")[0] for name in names} == {"bpp", "wanet"}
    make(tmp_path, "num_epochs=8", "defense=none")  # what has nothing to do with it
    assert folders(tmp_path) == names


@pytest.mark.parametrize("name", ["badnets", "blend", "sig", "adaptive_blend"])
def test_quick_attacks_leave_nothing(name: str, tmp_path: Path) -> None:
    config = tiny_config(f"backdoor.{name}={{}}", f"storage_dir={tmp_path}").config
    poison_data(config, DATA, Streams(0))
    assert list(tmp_path.iterdir()) == []


def test_a_kept_set_leaves_the_clean_data_as_they_are(tmp_path: Path) -> None:
    before = DATA.train.images.clone()
    make(tmp_path)
    make(tmp_path)
    assert torch.equal(DATA.train.images, before)


def change(position: float, whole: bytes) -> bytes:
    place = min(int(position * len(whole)), len(whole) - 1)
    return whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["cut", "flip", "noise"]), st.floats(0, 1), st.binary(max_size=300))
def test_a_damaged_file_is_made_anew(
    tmp_path: Path, damage: str, position: float, noise: bytes
) -> None:
    first = make(tmp_path)
    file = kept_file(tmp_path)
    whole = file.read_bytes()
    if damage == "cut":
        file.write_bytes(whole[: int(position * (len(whole) - 1))])
    else:
        file.write_bytes(change(position, whole) if damage == "flip" else noise)
    assert_same(make(tmp_path), first)
    assert_same(make(tmp_path), first)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {},
        {"roles": torch.zeros(100, dtype=torch.uint8)},
        {"roles": torch.ones(100, dtype=torch.uint8), "images": torch.zeros(3)},
        {"roles": 3, "images": 4, "labels": 5, "test_images": 6, "test_labels": 7},
    ],
    ids=["list", "empty", "incomplete", "other-shape", "other-types"],
)
def test_a_file_with_something_else_is_made_anew(tmp_path: Path, content: object) -> None:
    first = make(tmp_path)
    torch.save(content, kept_file(tmp_path))
    assert_same(make(tmp_path), first)


def test_a_kept_file_that_would_run_code_runs_nothing(tmp_path: Path) -> None:
    first = make(tmp_path)
    mark = tmp_path / "mark"
    kept_file(tmp_path).write_bytes(f"cos\nsystem\n(S'touch {mark}'\ntR.".encode())
    assert_same(make(tmp_path), first)
    assert not mark.exists()
