"""Witnesses that ask the plain model again, changed or about changed images, on a learnt case."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from data.poison import TrainingSet
from data.transform import Chain, Normalize
from model import Network
from tests.conftest import colourful_images
from tests.witness.cases import CPU, settings_of
from tests.witness.small import CLASSES, TARGET, learnt
from training.ground import Ground
from utils.engine import Engine
from utils.streams import Streams
from witness import WITNESSES
from witness.asking import answers_of, margins
from witness.batch_norm import amplified, first_level, norms
from witness.persistence import chosen_partners, mixed_with
from witness.reference import Reference
from witness.witness import Case, Statement

NAMES = ["batch_norm", "persistence"]


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Tensor]:
    return learnt(tmp_path_factory.mktemp("poisoned"))


def said(name: str, case: Case) -> Statement:
    witness = WITNESSES.get(name)
    return witness(settings_of(witness)).testify(case)


def test_the_trigger_survives_amplification(poisoned: tuple[Case, Tensor]) -> None:
    case, truth = poisoned
    statement = said("batch_norm", case)
    own = case.labels == TARGET
    assert roc_auc_score(truth[own], statement.suspicion[own]) > 0.9
    assert statement.cost > 0
    assert not statement.vetoed.any()


class Colours(nn.Module):
    """Sees how much there is of each colour, and a white corner above all: that is class 1."""

    def forward(self, images: Tensor) -> Tensor:
        corner = images[:, :, 0, 0].amin(dim=1, keepdim=True)
        return 4 * images.mean(dim=(2, 3)) + 10 * corner * torch.tensor([0, 1, 0])


def coloured() -> tuple[Case, Tensor]:
    """Return images that are red, green or blue, and a tenth of them with a white corner."""
    colours = torch.arange(150) % 3
    truth = (torch.arange(150) % 10 == 0) & (colours != 1)
    images = colourful_images(150, 8) // 3
    images[torch.arange(150), :, :, colours] += 150
    images[:, 0, 0] = torch.where(truth[:, None], 255, 0).byte()
    labels = torch.where(truth, 1, colours)
    network = Network(Colours(), 3, 3)
    network.linear.load_state_dict({"weight": torch.eye(3), "bias": torch.zeros(3)})
    zeros = torch.zeros(150)
    chain = Chain([], Normalize(), 8, 8)
    told = Reference(
        network, Engine(CPU), chain, zeros[:, None], zeros[:, None], zeros[None], zeros
    )
    training = TrainingSet(images, labels, ("red", "green", "blue"))
    ground = Ground(training, chain, Streams(0), Engine(CPU), 50)
    seeds = torch.nonzero(~truth).flatten()[:30]
    return Case(ground, labels, seeds, told), truth


def test_the_trigger_survives_mixing() -> None:
    case, truth = coloured()
    statement = said("persistence", case)
    assert roc_auc_score(truth, statement.suspicion) == 1
    assert statement.cost == 3
    assert not statement.vetoed.any()


def test_a_class_that_was_mixed_with_its_own_alone_says_nothing() -> None:
    case, _ = coloured()
    greens = case.seeds[case.labels[case.seeds] == 1]
    suspicion = said("persistence", replace(case, seeds=greens)).suspicion
    assert torch.equal(suspicion[case.labels == 1], torch.zeros(int((case.labels == 1).sum())))
    assert suspicion[case.labels != 1].any()


@pytest.mark.parametrize("name", NAMES)
def test_they_do_without_verified_samples(name: str, poisoned: tuple[Case, Tensor]) -> None:
    case, _ = poisoned
    statement = said(name, replace(case, seeds=case.seeds[:0]))
    assert statement.suspicion.shape == case.labels.shape
    assert statement.suspicion.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_stays_as_it_was(name: str, poisoned: tuple[Case, Tensor]) -> None:
    case, _ = poisoned
    network = case.reference.network
    before = {key: value.clone() for key, value in network.state_dict().items()}
    said(name, case)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not network.training


def test_margins_tell_the_given_label_from_the_next() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
    assert margins(logits, torch.tensor([0, 2])).tolist() == [1.0, -4.0]


def test_what_is_asked_is_what_the_reference_said(poisoned: tuple[Case, Tensor]) -> None:
    case, _ = poisoned
    torch.testing.assert_close(answers_of(case, "asked"), case.reference.logits)
    black = answers_of(case, "asked", changed=torch.zeros_like)
    torch.testing.assert_close(black, black[:1].expand_as(black))


def test_the_last_layers_are_amplified(poisoned: tuple[Case, Tensor]) -> None:
    network = poisoned[0].reference.network
    weights = [layer.weight.detach() for layer in norms(network)]
    changed = [layer.weight.detach() for layer in norms(amplified(network, 2))]
    ratios = [float((new / old).mean()) for new, old in zip(changed, weights, strict=True)]
    assert ratios == pytest.approx([1, 1, 1, 1, 1.5, 1.5])


def test_samples_are_compared_once_verified_ones_lose_their_labels(
    poisoned: tuple[Case, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, _ = poisoned
    errors = iter([0.1, 0.3, 0.5])
    monkeypatch.setattr("witness.batch_norm.error_of", lambda *_: next(errors))
    assert first_level(case, 6) == 3
    monkeypatch.setattr("witness.batch_norm.error_of", lambda *_: 0.0)
    assert first_level(case, 6) == 6


def test_a_network_without_batch_norm_says_nothing(poisoned: tuple[Case, Tensor]) -> None:
    case, _ = poisoned
    without = replace(case.reference, network=nn.Linear(2, 2))  # type: ignore[arg-type]
    statement = said("batch_norm", replace(case, reference=without))
    assert not statement.suspicion.any()
    assert statement.cost == 0


def test_a_verified_sample_of_each_class_is_mixed_in(poisoned: tuple[Case, Tensor]) -> None:
    case, _ = poisoned
    partners = chosen_partners(case)
    assert case.labels[partners].tolist() == list(range(CLASSES))
    assert bool(case.verified[partners].all())
    images = case.ground.training.images
    mixed = mixed_with(case, partners[0])(images[:2])
    expected = (images[:2].double() + images[partners[0]].double()) / 2
    assert float((mixed.double() - expected).abs().max()) <= 0.5
