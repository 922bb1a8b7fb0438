"""The plain model of all samples: kept, resumed with the same bits, and what is heard with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import ASD
from config.load import load_config
from tests.conftest import DIGITS, TINY, colourful_images, interrupted
from tests.witness.cases import CPU, ground_of
from training.ground import Ground
from utils.engine import Engine
from utils.errors import InputError
from utils.speed import SpeedSettings
from witness.hearing import Hearing, check_hearing
from witness.reference import (
    Reference,
    ReferenceSettings,
    Trainer,
    build,
    find_reference,
    key_of,
    place,
)
from witness.settings import WitnessSection

CPU_ENGINE = Engine(CPU)
SHORT = ReferenceSettings.model_validate(
    {"network": {"fastnet": {"width": 4}}, "epochs": 3, "steps": 3, "batch_size": 16}
)


def bright(seed: int = 0) -> Ground:
    """Samples whose brightness tells the class."""
    labels = torch.arange(64) % 4
    ground = ground_of(labels, seed=seed)
    images = ground.training.images // 4 + (labels * 60)[:, None, None, None].byte()
    return ground_of(labels, images, seed)


def find(ground: Ground, cache: Path, settings: ReferenceSettings = SHORT) -> Reference:
    return find_reference(settings, ground, cache)


def assert_same(ours: Reference, theirs: Reference) -> None:
    for name, value in ours.network.state_dict().items():
        assert torch.equal(value, theirs.network.state_dict()[name]), name
    for name in ("logits", "features", "losses", "loss"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def test_a_reference_learns_and_notes_every_loss(tmp_path: Path) -> None:
    longer = SHORT.model_copy(update={"epochs": 12})
    found = find(bright(), tmp_path, longer)
    assert found.losses.shape == (12, 64)
    assert found.losses.isfinite().all()
    assert found.losses[-1].mean() < found.losses[0].mean()
    labels = bright().training.labels
    expected = torch.nn.functional.cross_entropy(found.logits, labels, reduction="none")
    torch.testing.assert_close(found.loss, expected)


def test_small_sets_are_seen_for_as_many_steps(tmp_path: Path) -> None:
    more = SHORT.model_copy(update={"steps": 22})
    assert len(find(bright(), tmp_path, more).losses) == 6  # of 4 batches each


def test_a_kept_reference_is_read_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find(bright(), tmp_path)

    def never(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "train", never)
    assert_same(find(bright(), tmp_path), first)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_killed_training_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    whole = find(bright(), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", interrupted(Trainer.train, call))
        with pytest.raises(KeyboardInterrupt):
            find(bright(), tmp_path / "killed")
    assert_same(find(bright(), tmp_path / "killed"), whole)


def test_other_data_settings_seeds_or_precisions_are_other_references() -> None:
    keys = {key_of(SHORT, bright(), CPU_ENGINE)}
    keys.add(key_of(SHORT.model_copy(update={"epochs": 4}), bright(), CPU_ENGINE))
    keys.add(key_of(SHORT, bright(seed=1), CPU_ENGINE))
    other = bright()
    other.training.images[5, 3, 3, 0] += 1
    keys.add(key_of(SHORT, other, CPU_ENGINE))
    relabelled = bright()
    relabelled.training.labels[7] = 0
    keys.add(key_of(SHORT, relabelled, CPU_ENGINE))
    keys.add(key_of(SHORT, bright(), Engine(CPU, bf16=True)))
    assert len(keys) == 6
    assert key_of(SHORT, bright(), CPU_ENGINE) in keys


def test_other_weights_are_another_reference(tmp_path: Path) -> None:
    weights = tmp_path / "w.pt"
    network = {"torchvision": {"name": "resnet18", "weights": str(weights)}}
    settings = ReferenceSettings.model_validate({"network": network})
    keys = [key_of(settings, bright(), CPU_ENGINE)]
    for content in ("a", "b"):
        weights.write_text(content)
        keys.append(key_of(settings, bright(), CPU_ENGINE))
    assert len(set(keys)) == 3


def test_the_precision_is_chosen_for_the_references_own_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("utils.engine.native_bf16", lambda device: True)
    monkeypatch.setattr("utils.engine.has_own_kernels", lambda bf16: False)
    wide = ReferenceSettings.model_validate({"network": {"fastnet": {"width": 16}}})
    for asked, bf16 in (({}, True), ({"precision": "fp32"}, False), ({"reference": True}, False)):
        run = Engine(CPU, speed=SpeedSettings.model_validate(asked))  # has depthwise parts, say
        assert place(build(wide, bright()), run).bf16 is bf16


def section(heard: object) -> WitnessSection:
    reference = SHORT.model_dump()
    return WitnessSection.model_validate({"reference": reference, "heard": heard})


def test_a_hearing_puts_together_what_all_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ground, seeds = bright(), torch.arange(12)
    hearing = Hearing(section(["reference_loss", "pipd"]), ground, seeds, tmp_path)
    assert not list(tmp_path.iterdir())  # nobody has asked yet
    testimony = hearing.testimony
    assert list(testimony.statements) == ["reference_loss", "pipd"]
    vetoes = [statement.vetoed for statement in testimony.statements.values()]
    assert torch.equal(testimony.vetoed, vetoes[0] | vetoes[1])
    assert "witness pipd: vetoes" in capsys.readouterr().out


def test_witnesses_are_named_in_the_yaml() -> None:
    config = load_config(DIGITS, ["witness.heard=[unverified_group, pipd]"]).config
    assert [choice.name for choice in config.witness.heard] == ["unverified_group", "pipd"]
    again = load_config(DIGITS, ["witness.heard={pipd: {gap: 5.0}}"]).config
    assert again.as_yaml()["witness"]["heard"] == {
        "pipd": {"gap": 5.0, "largest": 0.2, "within": "all"}
    }
    assert load_config(DIGITS, []).config.witness.heard == []


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("[pipf]", "did you mean 'pipd'"),
        ("{pipd: {gape: 1.0}}", "gape"),
        ("{probabilities: null}", "file"),
        ("pipd", "list"),
    ],
)
def test_wrong_names_of_witnesses_are_refused_in_a_line(given: str, word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        load_config(DIGITS, [f"witness.heard={given}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda epochs: [losses[:-1] for losses in epochs],
        lambda epochs: [losses * torch.nan for losses in epochs],
        lambda epochs: epochs[:-1],
        lambda epochs: [losses.tolist() for losses in epochs],
    ],
)
def test_losses_that_are_none_are_one_line(
    tmp_path: Path, damage: Callable[[list[torch.Tensor]], object]
) -> None:
    find(bright(), tmp_path)
    (path,) = tmp_path.glob("reference-*.pt")
    content = torch.load(path, weights_only=True)
    losses = content["parts"]["losses"]
    losses["epochs"] = damage(losses["epochs"])
    torch.save(content, path)
    with pytest.raises(InputError, match=r"reference-.*remove it") as caught:
        find(bright(), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_a_witness_needs_is_missed_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={tmp_path}"]
    assert ASD.main([*given, "witness.heard={probabilities: {file: nowhere.npy}}"]) == 2
    assert "nowhere.npy" in capsys.readouterr().err
    assert not (tmp_path / "digits").exists()


def test_a_reference_that_takes_no_such_images_is_refused_before_it_is_trained() -> None:
    small = ground_of(torch.zeros(20).long(), colourful_images(20, 8))
    with pytest.raises(InputError, match=r"witness.reference.network.fastnet: takes no 8x8 images"):
        check_hearing(
            section(["pipd"]).model_copy(update={"reference": ReferenceSettings()}), small
        )
    check_hearing(section(["pipd"]), bright())
