"""About how many are poisoned: with the label pairs of recorded runs, with and without a veto."""

from __future__ import annotations

import pytest
import torch

from report.accusations import accusations_of
from report.estimate import estimate_by_veto, estimate_poisoned, quiet_share
from report.judge import judge
from tests.report.made_up import made_up, with_witness

CAT = 3
# CIFAR-10 with BadNets: samples with the label cat by the model's own label, those that are
# poisoned among them, and what the model contradicts of the other classes.
SMALL = (
    [89, 79, 88, 710, 76, 148, 98, 79, 68, 65],
    [60, 73, 54, 9, 53, 38, 54, 53, 55, 51],
    [17, 4, 52, 0, 40, 38, 15, 26, 14, 9],
)
WHOLE = (
    [380, 347, 400, 3870, 378, 575, 490, 380, 355, 325],
    [280, 317, 238, 29, 276, 192, 311, 281, 298, 278],
    [83, 29, 225, 0, 216, 305, 81, 104, 66, 77],
)


def recorded(run: tuple[list[int], ...], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pairs (10, 10) of a run with `size` samples a class, and the poisoned of them.

    What the model contradicts of the other classes is shared out among their neighbours.
    """
    pairs, poisoned = torch.zeros(10, 10, dtype=torch.float64), torch.zeros(10, 10)
    for label, wrong in enumerate(run[2]):
        pairs[label, (label + 1) % 10] = wrong // 2
        pairs[label, (label + 4) % 10] += wrong - wrong // 2
        pairs[label, label] = size - wrong
    pairs[CAT] = torch.tensor(run[0])
    poisoned[CAT] = torch.tensor(run[1], dtype=torch.float)
    return pairs, poisoned.double()


@pytest.mark.parametrize(("run", "size", "truth"), [(SMALL, 950, 500), (WHOLE, 4720, 2500)])
def test_hard_samples_of_the_class_are_not_counted_as_poison(
    run: tuple[list[int], ...], size: int, truth: int
) -> None:
    pairs, _ = recorded(run, size)
    contradicted = int(pairs[CAT].sum() - pairs[CAT, CAT])
    assert contradicted > 1.4 * truth  # the model contradicts as many again by half
    found = estimate_poisoned(pairs, CAT, [CAT])
    assert found.low < truth < found.high <= contradicted
    assert abs(found.count - truth) < 0.2 * truth
    assert found.low < 0.9 * truth and found.high > 1.3 * truth  # it does not know it better


@pytest.mark.parametrize(("run", "size", "truth"), [(SMALL, 950, 500), (WHOLE, 4720, 2500)])
def test_what_a_witness_vetoes_is_the_number(
    run: tuple[list[int], ...], size: int, truth: int
) -> None:
    pairs, vetoed = recorded(run, size)
    found = estimate_by_veto(pairs, vetoed, 1.0, CAT, [CAT])
    alone = estimate_poisoned(pairs, CAT, [CAT])
    assert found.count == truth
    assert truth - vetoed[CAT, CAT] <= found.low <= truth < found.high
    assert found.high - found.low < alone.high - alone.low


def test_what_a_witness_overlooks_is_counted_where_it_is_beyond_doubt() -> None:
    pairs = torch.diag(torch.full((10,), 1000.0, dtype=torch.float64))
    pairs[CAT] = 60
    pairs[CAT, CAT] = 1000
    vetoed = torch.zeros(10, 10, dtype=torch.float64)
    vetoed[CAT, :2] = 5
    found = estimate_by_veto(pairs, vetoed, 1.0, CAT)
    assert 450 < found.count <= 540 and found.low <= 540 <= found.high


def test_a_witness_alone_is_believed_as_far_as_it_is_sure() -> None:
    pairs = torch.diag(torch.full((10,), 1000.0, dtype=torch.float64))
    vetoed = torch.zeros(10, 10, dtype=torch.float64)
    vetoed[CAT, CAT] = 400  # the model believes their labels: it has learnt the poison
    sure, unsure = (estimate_by_veto(pairs, vetoed, part, CAT) for part in (1.0, 0.5))
    assert (sure.count, sure.low, sure.high) == (400, 360, 400)
    assert (unsure.count, unsure.low, unsure.high) == (400, 160, 400)


def test_sources_that_differ_by_chance_only_are_counted_whole() -> None:
    generator = torch.Generator().manual_seed(5)
    pairs = torch.diag(torch.full((10,), 1000.0, dtype=torch.float64))
    pairs[CAT] = torch.poisson(torch.full((10,), 55.0), generator=generator).double()
    pairs[CAT, CAT] = 1000
    found = float(pairs[CAT].sum() - 1000)
    assert quiet_share(pairs, CAT, found) == 1.0
    pairs[CAT, :3] += 60  # three classes that look like it
    assert quiet_share(pairs, CAT, found + 180) < 0.8
    assert quiet_share(pairs, 4, 0.0) == 1.0  # nothing is there


def test_where_none_comes_from_one_class_nobody_knows_how_many_there_are() -> None:
    pairs = torch.diag(torch.full((10,), 1000.0, dtype=torch.float64))
    pairs[CAT] = 50
    pairs[CAT, CAT], pairs[CAT, 8] = 1000, 0
    found = estimate_poisoned(pairs, CAT)
    assert found.low == 0 and 1 <= found.count < 100 and found.high == 400


def test_the_verdict_has_the_number_of_the_witness() -> None:
    findings = made_up(950)
    said = with_witness(findings, torch.arange(1000) >= 960, {CAT: 1.0})
    (accusation,) = accusations_of(said).values()
    assert accusation.estimate.count >= 40 and "40 samples labelled 'class 3'" in accusation.reason
    verdict = judge(said, accusations=accusations_of(said))
    estimate = accusation.estimate
    assert verdict.estimated_poisoned == estimate.count
    assert verdict.estimated_range == (estimate.low, estimate.high)
    assert estimate.low <= 50 <= estimate.high
    weak = with_witness(findings, torch.arange(1000) >= 999, {CAT: 0.2})
    alone = judge(weak, accusations=accusations_of(weak))
    assert alone.estimated_poisoned == judge(findings).estimated_poisoned
