"""What reaches the pools beside the published schedule: growth, evidence, proportion."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ASD
from command.arguments import parse_arguments
from defense.schedule import joined_per_class
from defense.settings import GlobalSection
from defense.split import class_aware
from run.setup import set_up
from tests.conftest import DIGITS, TINY
from training.draws import batch_sizes
from training.mixmatch import in_order, in_three
from training.settings import SemiLoaderSection
from utils.interrupt import Interrupt


def test_growth_is_a_share_of_each_class_and_replaces_n() -> None:
    sizes = torch.tensor([100, 20, 0])
    published = GlobalSection(n=10, t=5)
    assert joined_per_class(12, published, sizes).tolist() == [20, 20, 20]
    grown = GlobalSection(growth=0.05)
    assert joined_per_class(4, grown, sizes).tolist() == [20, 4, 0]


def test_each_class_gets_as_many_as_it_is_given() -> None:
    torch.manual_seed(0)
    loss, labels = torch.rand(60), torch.arange(60) % 3
    seeds = torch.tensor([0, 1, 2])
    pool = class_aware(loss, labels, seeds, torch.tensor([4, 0, 30]))
    pool[seeds] = False
    assert torch.bincount(labels[pool], minlength=3).tolist() == [4, 0, 19]
    firsts = loss[(labels == 0) & ~pool & (torch.arange(60) > 2)].min()
    assert loss[pool & (labels == 0)].max() < firsts


@given(st.integers(3, 256), st.integers(1, 999))
def test_a_step_always_holds_three_batches(size: int, clean: int) -> None:
    loader = SemiLoaderSection(batch_size=size, balance="pools")
    labelled, unlabelled = batch_sizes(loader, clean, 1000)
    assert labelled + 2 * unlabelled == 3 * size
    assert 2 <= unlabelled <= size <= labelled


@pytest.mark.parametrize(("clean", "expected"), [(10, (64, 64)), (500, (64, 64)), (940, (176, 8))])
def test_batches_follow_the_pools(clean: int, expected: tuple[int, int]) -> None:
    assert batch_sizes(SemiLoaderSection(balance="pools"), clean, 1000) == expected
    assert batch_sizes(SemiLoaderSection(), clean, 1000) == (64, 64)


@pytest.mark.parametrize("equal", [True, False])
def test_three_batches_are_put_back_in_order(equal: bool) -> None:
    rows = torch.arange(36)
    parts = in_three(rows, equal)
    assert [len(part) for part in parts] == [12, 12, 12]
    assert torch.equal(in_order(parts, equal), rows)
    assert all((part < 12).any() and (part >= 24).any() for part in parts[:1])


@pytest.mark.parametrize(("least", "stage"), [("1.0", "class-agnostic"), ("0.0", "meta-split")])
def test_stage_3_waits_for_a_model_that_knows_the_verified_samples(
    tmp_path: Path, least: str, stage: str
) -> None:
    given = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={tmp_path}"]
    with Interrupt() as interrupt:
        arguments = parse_arguments([*given, f"global.meta_agreement={least}"])
        session = ASD.prepare(set_up(arguments, interrupt))
    schedule = session.config.global_
    assert session.defense.stage(schedule.epoch_second) == "meta-split"
    pools = session.defense.split(schedule.epoch_second)
    assert pools.stage == stage
    share = schedule.meta_fraction if stage == "meta-split" else schedule.epsilon
    assert int(pools.clean.sum()) == int(float(share) * len(session.training))
