"""Each witness on made-up cases: it sees poison, and raises no alarm without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from model import Network
from tests.witness.cases import CLASSES, CPU, PLAIN, ground_of, made_up, settings_of
from utils.engine import Engine
from utils.errors import InputError
from witness import WITNESSES
from witness.pipd import PoisonChannels
from witness.probabilities import OutsideProbabilities
from witness.reference import Reference
from witness.reference_loss import ReferenceLoss
from witness.scaled import ScaledPrediction
from witness.unverified_group import UnverifiedGroup
from witness.witness import (
    OUTLIER,
    USUAL,
    Case,
    deviations,
    deviations_by_label,
    deviations_from_verified,
)


def group(**given: float) -> UnverifiedGroup:
    return UnverifiedGroup(settings_of(UnverifiedGroup, **given))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("poisoned", [30, 100, 300])
def test_the_group_without_verified_samples_is_the_poison(poisoned: int, seed: int) -> None:
    case, truth = made_up(poisoned, seed)
    said = group().testify(case)
    assert list(said.accused) == [1]
    assert int((said.vetoed & truth).sum()) >= 0.95 * poisoned
    assert int((said.vetoed & ~truth).sum()) <= 0.01 * int((~truth).sum())
    assert not said.vetoed[case.seeds].any()
    assert said.suspicion[said.vetoed].min() > said.suspicion[~said.vetoed].max()


@pytest.mark.parametrize("seed", range(8))
def test_clean_classes_of_two_modes_are_not_accused(seed: int) -> None:
    said = group().testify(made_up(0, seed)[0])
    assert not said.accused
    assert not said.vetoed.any()


@pytest.mark.parametrize(("loss", "accused"), [(1.3, [1]), (1.7, [])])
def test_a_small_group_far_away_need_only_be_a_little_earlier(
    loss: float, accused: list[int]
) -> None:
    case, is_poisoned = made_up(25, distance=14.0)
    losses = case.reference.losses.clone()
    losses[:, is_poisoned] = loss
    case = replace(case, reference=replace(case.reference, losses=losses))
    statement = group().testify(case)
    assert list(statement.accused) == accused
    assert bool(statement.vetoed[is_poisoned].all()) == bool(accused)
    assert all(surety >= 0.5 for surety in statement.accused.values())


def test_a_group_that_the_verified_samples_share_is_not_accused() -> None:
    case, truth = made_up(100)
    seeds = torch.cat([case.seeds, torch.nonzero(truth).flatten()[:10]])
    shared = Case(case.ground, case.labels, seeds, case.reference)
    assert not group().testify(shared).accused


def unseeded(case: Case) -> Case:
    return Case(case.ground, case.labels, case.seeds[:0], case.reference)


@pytest.mark.parametrize("seed", range(4))
def test_without_verified_samples_the_group_that_was_learnt_first_is_the_poison(seed: int) -> None:
    case, truth = made_up(100, seed)
    said = group().testify(unseeded(case))
    assert list(said.accused) == [1]
    assert int((said.vetoed & truth).sum()) >= 95
    assert int((said.vetoed & ~truth).sum()) <= 0.01 * int((~truth).sum())
    assert not group().testify(unseeded(made_up(0, seed)[0])).accused


def test_without_verified_samples_leading_the_other_classes_is_not_enough() -> None:
    case, _ = made_up(100)
    strength = float(group().testify(unseeded(case)).suspicion.max()) - USUAL
    strict = group(strength=1.5 * strength)
    assert list(strict.testify(case).accused) == [1]  # half the strength, and three times the usual
    assert not strict.testify(unseeded(case)).accused


def test_channels_veto_nothing_without_verified_samples() -> None:
    case, truth = channels(60)
    said = PoisonChannels(settings_of(PoisonChannels)).testify(unseeded(case))
    assert not said.vetoed.any() and not said.accused
    assert roc_auc_score(truth, said.suspicion) > 0.99


def test_what_was_learnt_first_is_suspected_within_its_label() -> None:
    case, truth = made_up(60)
    said = ReferenceLoss(settings_of(ReferenceLoss)).testify(case)
    own = case.labels == 1
    assert roc_auc_score(truth[own], said.suspicion[own]) > 0.99
    assert not said.vetoed.any()
    for label in range(CLASSES):
        assert abs(float(said.suspicion[case.labels == label].median())) < 0.01


def channels(poisoned: int) -> tuple[Case, Tensor]:
    """A case in which two channels are excited by poison alone."""
    case, truth = made_up(poisoned)
    features = case.reference.features.abs()
    extra = torch.rand(len(truth), 2, generator=torch.Generator().manual_seed(1))
    extra[truth] += 15
    told = Reference(
        case.reference.network,
        case.reference.engine,
        PLAIN,
        case.reference.logits,
        torch.cat([features, extra], dim=1),
        case.reference.losses,
        case.reference.loss,
    )
    return Case(case.ground, case.labels, case.seeds, told), truth


def test_channels_of_the_poison_veto_it() -> None:
    case, truth = channels(60)
    said = PoisonChannels(settings_of(PoisonChannels)).testify(case)
    assert int((said.vetoed & truth).sum()) == 60
    assert int((said.vetoed & ~truth).sum()) == 0
    assert list(said.accused) == [1]


def test_a_few_outliers_accuse_nobody() -> None:
    said = PoisonChannels(settings_of(PoisonChannels)).testify(channels(5)[0])
    assert not said.vetoed.any()
    assert not said.accused


def test_channels_of_clean_data_veto_nothing() -> None:
    for seed in range(5):
        said = PoisonChannels(settings_of(PoisonChannels)).testify(made_up(0, seed)[0])
        assert not said.vetoed.any()
        assert not said.accused


def test_channels_that_clean_samples_of_another_label_use_are_seen_within_the_label() -> None:
    case, truth = channels(40)  # a sixth of the label
    features = case.reference.features.clone()
    features[case.labels == 2, -2:] += 15
    other = replace(case, reference=replace(case.reference, features=features))
    alone = PoisonChannels(settings_of(PoisonChannels)).testify(other)
    assert not (alone.vetoed & truth).any()
    for within in ("label", "both"):
        said = PoisonChannels(settings_of(PoisonChannels, within=within)).testify(other)
        assert int((said.vetoed & truth).sum()) == 40
        assert int((said.vetoed & ~truth).sum()) == 0
        assert list(said.accused) == [1]


def test_channels_of_clean_labels_veto_nothing() -> None:
    for seed in range(5):
        witness = PoisonChannels(settings_of(PoisonChannels, within="both"))
        assert not witness.testify(made_up(0, seed)[0]).vetoed.any()


class Corner(nn.Module):
    """Sees the corner above all: white there means class 1, else the brightness counts."""

    def forward(self, images: Tensor) -> Tensor:
        corner = (images[:, :, 0, 0].mean(dim=1) > 0.9).float()
        bright = images.mean(dim=(1, 2, 3))
        zeros = torch.zeros_like(bright)
        return torch.stack([8 * (1 - bright), 30 * corner, zeros, zeros], dim=1)


def test_only_the_trigger_survives_scaling() -> None:
    case, truth = made_up(40)
    labels = torch.where(truth, 1, 0)
    images = case.ground.training.images // 3
    images[:, 0, 0] = 0
    images[truth, 0, 0] = 255
    network = Network(Corner(), CLASSES, CLASSES)
    network.linear = nn.Linear(CLASSES, CLASSES)
    with torch.no_grad():
        network.linear.weight.copy_(torch.eye(CLASSES))
        network.linear.bias.zero_()
    ground = ground_of(labels, images)
    zeros = torch.zeros(len(labels))
    told = Reference(
        network, Engine(CPU), PLAIN, zeros[:, None], zeros[:, None], zeros[None], zeros
    )
    said = ScaledPrediction(settings_of(ScaledPrediction)).testify(
        Case(ground, labels, case.seeds, told)
    )
    assert roc_auc_score(truth, said.suspicion) > 0.99
    assert said.cost > 0


def table(case: Case, truth: Tensor) -> np.ndarray:
    """Probabilities of a model that knows the images: poison looks like class 2."""
    shown = torch.where(truth, 2, case.labels)
    return (0.9 * nn.functional.one_hot(shown, CLASSES) + 0.025).numpy().astype(np.float32)


def test_outside_probabilities_veto_what_they_contradict(tmp_path: Path) -> None:
    case, truth = made_up(50)
    np.save(tmp_path / "p.npy", table(case, truth))
    witness = OutsideProbabilities(settings_of(OutsideProbabilities, file=str(tmp_path / "p.npy")))
    said = witness.testify(case)
    assert torch.equal(said.vetoed, truth)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "there is no file"),
        (b"", "no .npy"),
        (b"\x93NUMPY nonsense", "no .npy"),
        (b"PK\x03\x04" + b"\0" * 40, "no .npy"),
        (b"\x93NUMPY\x01\x00\x14\x00" + b"{'descr': ('<f4', ".ljust(20), "no .npy"),
        (np.zeros((3, 4), dtype=np.float32), "training samples"),
        ("integers", "probabilities are numbers"),
        ("negative", "probabilities are numbers"),
        ("nan", "probabilities are numbers"),
        ("objects", "no .npy"),
    ],
)
def test_tables_that_are_none_are_refused_in_a_line(
    tmp_path: Path, content: object, word: str
) -> None:
    case, truth = made_up(10)
    path, good = tmp_path / "p.npy", table(case, truth)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, np.ndarray):
        np.save(path, content)
    elif isinstance(content, str):
        bad = {
            "integers": good.astype(np.int64),
            "negative": good - 0.5,
            "nan": good * np.nan,
            "objects": np.array([{}], dtype=object),
        }
        np.save(path, bad[content])
    witness = OutsideProbabilities(settings_of(OutsideProbabilities, file=str(path)))
    with pytest.raises(InputError, match=word) as caught:
        witness.testify(case)
    assert "\n" not in str(caught.value)


def test_deviations_are_robust_and_bounded() -> None:
    values = torch.cat([torch.linspace(-1, 1, 99), torch.tensor([1e6])])
    found = deviations(values)
    assert float(found.max()) == OUTLIER
    assert float(found.min()) >= -USUAL
    assert abs(float(found.median())) < 0.05
    assert torch.equal(found.argsort(stable=True)[:99], torch.arange(99))


def test_a_class_of_which_most_is_poison_is_held_against_its_verified_samples() -> None:
    case, truth = made_up(300)
    values = torch.randn(len(truth), generator=torch.Generator().manual_seed(4)) + 10 * case.labels
    values[truth] += 8
    found = deviations_from_verified(values, case)
    assert roc_auc_score(truth, found) > 0.99
    assert roc_auc_score(truth, deviations_by_label(values, case.labels)) < 0.9
    assert abs(float(found[~truth].median())) < 0.5
    few = Case(case.ground, case.labels, case.seeds[::3], case.reference)
    by_label = deviations_by_label(values, case.labels)
    assert torch.equal(deviations_from_verified(values, few), by_label)


@pytest.mark.parametrize("name", list(WITNESSES))
def test_every_witness_is_a_function_of_the_case(name: str, tmp_path: Path) -> None:
    case, truth = made_up(40)
    case = replace(case, model_loss=torch.where(truth, 4.0, 0.5))
    np.save(tmp_path / "p.npy", table(case, truth))
    witness = WITNESSES.get(name)
    given = {"file": str(tmp_path / "p.npy")} if name == "probabilities" else {}
    first, second = (witness(settings_of(witness, **given)).testify(case) for _ in range(2))
    assert torch.equal(first.suspicion, second.suspicion)
    assert torch.equal(first.vetoed, second.vetoed)
    assert first.suspicion.shape == first.vetoed.shape == truth.shape
    assert first.suspicion.isfinite().all()
