"""Input-aware triggers: the networks, what they learn, and that nothing depends on the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from data.attack import AttackContext, LabelRule, iab_training, learning
from data.attack.autoencoder import AutoEncoder, bounded, build_autoencoder, thresholded
from data.attack.iab import Iab
from data.attack.iab_training import alike
from data.attack.learning import judged, share_predicted
from data.dataset import Split
from data.poison import Role, poison
from data.transform import Chain, Normalize
from tests.conftest import colourful_images, interrupted, learnable_data
from utils.errors import InputError
from utils.streams import Streams

CPU = torch.device("cpu")
TINY = {
    "network": {"resnet18_cifar": {"width": 4}},
    "width": 4,
    "mask_epochs": 8,
    "density": 0.5,
    "density_weight": 10.0,
    "epochs": 3,
    "batch_size": 16,
    "padding": 1,
    "share": 0.2,
}


def attack(size: int = 8, seed: int = 0, **settings: object) -> Iab:
    context = AttackContext(size, size, LabelRule("all_to_one", 1, 4), Streams(seed))
    return Iab(Iab.Settings.model_validate({**TINY, **settings}), context)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Iab, Path]:
    """A trained attack and its folder."""
    folder, made = tmp_path_factory.mktemp("iab"), attack()
    made.prepare(learnable_data(), CPU, folder / "own")
    return made, folder / "own"


@pytest.mark.parametrize("size", [8, 9, 16, 30])
def test_networks_keep_the_size(size: int) -> None:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    for channels in (1, 3):
        network = build_autoencoder(channels, 4, 0)
        assert network(images).shape == (2, channels, size, size)


def test_the_published_network_has_its_size() -> None:
    """Counted by hand from the published layers, width 32: convolutions, then BatchNorm."""
    widths = [(3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 128)]
    widths += [(128, 128), (128, 64), (64, 64), (64, 32), (32, 32), (32, 3)]
    expected = sum(9 * before * after + after + 2 * after for before, after in widths)
    assert sum(part.numel() for part in AutoEncoder(3, 32).parameters()) == expected


def test_patterns_and_masks_lie_between_0_and_1() -> None:
    outputs = torch.linspace(-3, 3, 601)
    for values in (bounded(outputs), thresholded(outputs)):
        assert (values >= 0).all()
        assert (values <= 1).all()
        assert (values.diff() >= 0).all()
    assert thresholded(torch.tensor(0.5)) == 0.5
    assert bounded(torch.tensor(0.0)) == 0.5


def test_alike_counts_different_images_only_and_has_a_gradient() -> None:
    first = torch.zeros(2, 3, 4, 4)
    second = torch.ones(2, 3, 4, 4)
    mine = torch.zeros(2, 1, 4, 4, requires_grad=True)
    yours = torch.stack([torch.full((1, 4, 4), 0.5), torch.zeros(1, 4, 4)])
    only_first = alike(first, second, mine, yours, torch.tensor([True, False]))
    assert float(only_first.detach()) == pytest.approx(2.0, rel=1e-4)
    alike(first, second, mine, yours, torch.tensor([True, True])).backward()
    assert mine.grad is not None
    assert mine.grad.isfinite().all()
    nothing = alike(first, second, mine, yours, torch.tensor([False, False]))
    assert float(nothing.detach()) == 0


def test_an_image_gets_the_same_bytes_in_any_batch(prepared: tuple[Iab, Path]) -> None:
    made, images = prepared[0], colourful_images(13, 8)
    before = images.clone()
    whole = made.apply(images, torch.arange(13), "train")
    assert torch.equal(images, before)
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8
    order = torch.tensor([4, 0, 12, 7, 5])
    assert torch.equal(made.apply(images[order], order, "train"), whole[order])
    assert torch.equal(made.apply(images[3:4], torch.tensor([3]), "test"), whole[3:4])
    crossed = made.apply_cross(images, torch.arange(13))
    assert torch.equal(made.apply_cross(images[order], order), crossed[order])
    assert made.apply(images[:0], torch.arange(0), "test").shape == (0, 8, 8, 3)


def test_the_trigger_depends_on_the_image(prepared: tuple[Iab, Path]) -> None:
    made, grey = prepared[0], torch.full((6, 8, 8, 3), 128, dtype=torch.uint8)
    # Partners differ from index to index, so the same grey gets different triggers.
    crossed = made.apply_cross(grey, torch.arange(6)).int() - 128
    assert len(crossed.flatten(1).unique(dim=0)) > 1


def test_a_cross_sample_never_has_its_own_trigger(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = attack(), []
    made.clean = learnable_data(5).train.images

    class Spy:
        @staticmethod
        def put_one_by_one(images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
            seen.append((images, others))
            return images

    monkeypatch.setattr(made, "trigger", Spy())
    for _ in range(20):
        made.apply_cross(made.clean, torch.arange(5))
    for images, others in seen:
        assert not (images == others).flatten(1).all(dim=1).any()


def test_masks_learn_to_cover_the_wanted_share(tmp_path: Path) -> None:
    made = attack(mask_epochs=20, density=0.3, density_weight=100.0)
    data = learnable_data()
    training = iab_training.Training(made.settings, made.context, data, CPU)
    batch = next(training.batches(0, "masks"))
    training.train_masks(tmp_path / "masks.pt")
    masks = thresholded(training.trigger.masks(batch.images))
    assert 0.2 < float(masks.mean()) < 0.4
    assert float(masks.max()) > 0.9
    assert not any(part.requires_grad for part in training.trigger.masks.parameters())


def states(folder: Path) -> list[torch.Tensor]:
    tensors: list[torch.Tensor] = []

    def walk(value: object) -> None:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        elif isinstance(value, dict):
            for part in value.values():
                walk(part)

    for name in ("masks.pt", "generator.pt"):
        walk(torch.load(folder / name, weights_only=True))
    return tensors


@pytest.mark.parametrize("killed_after", [2, 9])  # in the first stage, in the second
def test_a_resumed_training_ends_with_the_same_bits(
    prepared: tuple[Iab, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    made, folder = prepared
    kill = interrupted(learning.descend, at_call=killed_after + 1)
    monkeypatch.setattr(iab_training, "descend", kill)
    with pytest.raises(KeyboardInterrupt):
        attack().prepare(learnable_data(), CPU, tmp_path)
    monkeypatch.undo()
    torch.randn(7)  # the global generator is of no importance
    resumed = attack()
    resumed.prepare(learnable_data(), CPU, tmp_path)
    expected, found = states(folder), states(tmp_path)
    assert len(found) == len(expected) > 100
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    images = colourful_images(5, 8)
    first, second = (one.apply(images, torch.arange(5), "test") for one in (made, resumed))
    assert torch.equal(first, second)


def test_a_finished_training_is_not_done_again(
    prepared: tuple[Iab, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iab_training, "descend", None)
    again = attack()
    again.prepare(learnable_data(), CPU, prepared[1])
    images = colourful_images(3, 8)
    first, second = (one.apply(images, torch.arange(3), "test") for one in (prepared[0], again))
    assert torch.equal(first, second)


def test_another_seed_gives_another_trigger(prepared: tuple[Iab, Path], tmp_path: Path) -> None:
    other = attack(seed=1)
    other.prepare(learnable_data(), CPU, tmp_path)
    images = colourful_images(3, 8)
    first, second = (one.apply(images, torch.arange(3), "test") for one in (prepared[0], other))
    assert not torch.equal(first, second)


def test_a_damaged_state_is_learnt_anew(
    prepared: tuple[Iab, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (prepared[1] / "masks.pt").read_bytes()
    (tmp_path / "masks.pt").write_bytes(whole[: len(whole) // 2])
    attack().prepare(learnable_data(), CPU, tmp_path)
    assert "masks.pt is damaged" in capsys.readouterr().out
    pairs = zip(states(tmp_path), states(prepared[1]), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_a_state_of_other_networks_is_refused(prepared: tuple[Iab, Path], tmp_path: Path) -> None:
    (tmp_path / "masks.pt").write_bytes((prepared[1] / "masks.pt").read_bytes())
    with pytest.raises(InputError, match=r"masks\.pt: of another version; remove it"):
        attack(width=5).prepare(learnable_data(), CPU, tmp_path)


def test_the_poisoned_set(prepared: tuple[Iab, Path]) -> None:
    data = learnable_data()
    training, truth = poison(data, prepared[0], 0.1, "exact", Streams(0))
    roles = torch.bincount(truth.roles, minlength=3).tolist()
    assert roles == [64 - 6 - 6, 6, 6]
    assert (training.labels[truth.poisoned] == 1).all()
    cross = truth.roles == Role.CROSS
    assert torch.equal(training.labels[cross], data.train.labels[cross])
    assert torch.equal(training.images[truth.untouched], data.train.images[truth.untouched])
    assert truth.triggered_test is not None
    assert (truth.triggered_test.labels == 1).all()


def test_the_attacker_says_how_well_it_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attack(mask_epochs=1, epochs=1).prepare(learnable_data(), CPU, tmp_path)
    printed = capsys.readouterr().out
    for part in ("ACC", "ASR", "another image's trigger"):
        assert part in printed


def test_statistics_are_those_of_the_images() -> None:
    images = colourful_images(10, 8)
    found = learning.statistics(images)
    scaled = images.double() / 255
    assert found.mean == pytest.approx(scaled.mean(dim=(0, 1, 2)).tolist())
    assert found.std == pytest.approx(scaled.std(dim=(0, 1, 2), correction=0).tolist())


def test_batches_are_full_and_without_repetition() -> None:
    batches = list(learning.shuffled(35, 8, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in batches] == [8] * 4
    assert len(torch.cat(batches).unique()) == 32
    assert [len(batch) for batch in learning.shuffled(5, 8, torch.Generator())] == [5]


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="7x7"):
        attack(size=7)
    with pytest.raises(InputError, match=r"iab\.share"):
        attack(share=0.01)
    with pytest.raises(InputError, match=r"backdoor\.iab\.padding: 8"):
        attack(padding=8).prepare(learnable_data(), CPU, tmp_path)


@pytest.mark.parametrize("count", [0, 3, 1000, 2500])
def test_an_attacker_looks_at_images_of_all_classes(count: int) -> None:
    """A folder's test images come class by class."""
    labels = torch.arange(count) * 10 // max(count, 1)
    images = torch.zeros(count, 2, 2, 3, dtype=torch.uint8)
    seen, seen_labels = judged(Split(images, labels))
    assert len(seen) == len(seen_labels) <= 1000
    assert torch.equal(seen_labels.unique(), labels.unique())


def test_what_cannot_be_measured_is_not_called_zero() -> None:
    chain = Chain([], Normalize(mean=[0.5] * 3, std=[0.25] * 3), 2, 2)
    nothing = torch.zeros(0, 2, 2, 3, dtype=torch.uint8)
    assert (
        share_predicted(nn.Linear(1, 1), nothing, torch.zeros(0, dtype=torch.long), chain) is None
    )
