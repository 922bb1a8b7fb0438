"""Values, blend and SIG."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.attack.blend import draw_picture
from data.attack.pixels import to_bytes
from data.poison import Role, assign_roles
from tests.conftest import tiny_config
from tests.data.attack_cases import CLASSES, SIZES, attack, constant, pictures, unseen
from utils.errors import InputError
from utils.streams import Streams


def test_values_are_clipped_and_rounded_as_asked() -> None:
    values = torch.tensor([-3.0, -0.4, 0.5, 1.5, 2.49, 99.99, 254.6, 300.0])
    assert to_bytes(values).tolist() == [0, 0, 0, 2, 2, 100, 255, 255]
    assert to_bytes(values, "floor").tolist() == [0, 0, 0, 1, 2, 99, 254, 255]


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.15, 0.2, 0.29, 0.5, 1.0])
def test_blend_gives_the_bytes_of_pillow_for_every_pair_of_values(alpha: float) -> None:
    image = torch.arange(256, dtype=torch.uint8)[None, :, None, None].expand(1, 256, 256, 3)
    picture = torch.arange(256, dtype=torch.uint8)[None, :, None].expand(256, 256, 3)
    made = attack("blend", 256, 256, alpha=alpha)
    made.picture = picture  # type: ignore[attr-defined]
    below, above = (Image.fromarray(part.numpy()) for part in (image[0], picture))
    expected = np.array(Image.blend(below, above, alpha))
    blended = made.apply(image, torch.arange(1), "train")[0]
    assert np.array_equal(blended.numpy(), expected)


@given(st.integers(0, 255), st.floats(0, 1), st.sampled_from(["floor", "round"]))
def test_blend_with_a_constant_image(value: int, alpha: float, rounding: str) -> None:
    made = attack("blend", 32, 32, alpha=alpha, rounding=rounding)
    image = constant(value)
    blended = made.apply(image, torch.arange(1), "train")
    exact = (1 - alpha) * value + alpha * draw_picture(32, 32).astype(float)
    error = blended[0].numpy() - exact
    assert np.abs(error).max() <= (1 if rounding == "floor" else 0.5) + 1e-4
    assert int((blended.int() - image.int()).abs().max()) <= math.ceil(alpha * 255)


def test_blend_is_nothing_at_0_and_the_picture_at_1() -> None:
    images, indices = pictures(4), torch.arange(4)
    made = attack("blend", alpha=0.0, alpha_test=1.0)
    assert torch.equal(made.apply(images, indices, "train"), images)
    picture = torch.from_numpy(draw_picture(16, 16))
    assert torch.equal(made.apply(images, indices, "test"), picture.expand(4, -1, -1, -1))
    same = attack("blend", alpha=0.3)
    assert torch.equal(same.apply(images, indices, "test"), same.apply(images, indices, "train"))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_drawn_picture_has_the_mean_and_contrast_of_the_usual_one(
    size: tuple[int, int],
) -> None:
    picture = draw_picture(*size)
    assert picture.shape == (*size, 3)
    assert np.abs(picture.mean(axis=(0, 1)) - (213, 191, 199)).max() < 2
    assert np.abs(picture.std(axis=(0, 1)) - (64, 92, 77)).max() < 2


def test_the_drawn_picture_never_changes() -> None:
    digest = hashlib.sha256(draw_picture(32, 32).tobytes()).hexdigest()
    assert digest == "f0477097ef1d4219e35b2d550ac71327623dae7fc9f7d1e0a9ee5bc5633d0723"


@pytest.mark.parametrize("name", ["blend", "adaptive_blend"])
def test_a_picture_from_a_file_is_scaled_to_the_data(name: str, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    Image.fromarray(pictures(1, 50, 70)[0].numpy()).save(file)
    made = attack(name, 24, 40, image=str(file), alpha_test=1.0)
    with Image.open(file) as image:
        expected = np.array(image.resize((40, 24), Image.Resampling.BICUBIC))
    shown = made.apply(pictures(1, 24, 40), torch.arange(1), "test")
    assert np.array_equal(shown[0].numpy(), expected)
    with pytest.raises(InputError, match=rf"backdoor\.{name}\.image: there is no file"):
        attack(name, image=str(tmp_path / "missing.png"))
    file.write_bytes(b"no picture")
    with pytest.raises(InputError, match="no readable image"):
        attack(name, image=str(file))


@pytest.mark.parametrize(
    ("rounding", "steps"),
    [
        ("round", [-40, -37, -28, -15, 0, 15, 28, 37, 40]),
        ("floor", [-40, -37, -29, -16, 0, 15, 28, 36, 40]),
    ],
)
def test_sig_adds_nine_values_in_vertical_stripes(rounding: str, steps: list[int]) -> None:
    image = constant(128)
    added = attack("sig", 32, 32, rounding=rounding).apply(image, torch.arange(1), "train").int()
    added = added[0] - 128  # (32, 32, 3)
    assert torch.unique(added).tolist() == steps
    assert (added == added[:1, :, :1]).all()  # the same in all rows and channels
    assert torch.equal(added[:, :16], added[:, 16:])


@given(st.floats(0, 255), st.floats(0.1, 20), st.integers(0, 100))
def test_sig_moves_no_value_by_more_than_delta(delta: float, frequency: float, seed: int) -> None:
    images = pictures(2, 16, 24, seed)
    made = attack("sig", 16, 24, delta=delta, frequency=frequency)
    changed = made.apply(images, torch.arange(2), "train")
    assert int((changed.int() - images.int()).abs().max()) <= math.ceil(delta)
    if delta == 0:
        assert torch.equal(changed, images)


def test_sig_is_nothing_at_0_and_may_be_stronger_at_test() -> None:
    images, indices = pictures(3), torch.arange(3)
    made = attack("sig", delta=0.0, delta_test=60.0)
    assert torch.equal(made.apply(images, indices, "train"), images)
    stronger = attack("sig", delta=60.0)
    tested = made.apply(images, indices, "test")
    assert torch.equal(tested, stronger.apply(images, indices, "train"))
    assert torch.equal(tested, stronger.apply(images, indices, "test"))


@given(st.floats(0.01, 1.0))
def test_sig_poisons_a_share_of_the_target_class(fraction: float) -> None:
    made, labels = attack("sig", class_fraction=fraction), torch.arange(500) % CLASSES
    roles = assign_roles(
        unseen(labels),
        made,
        0.7,
        "exact",
        Streams(0),
    )
    poisoned = roles == Role.POISONED
    assert int(poisoned.sum()) == round(fraction * 100)
    assert (labels[poisoned] == 1).all()


@pytest.mark.parametrize("fraction", ["0", "-0.1", "1.01"])
def test_a_share_of_the_class_outside_0_to_1_is_refused(fraction: str) -> None:
    with pytest.raises(InputError, match=r"backdoor\.sig\.class_fraction"):
        tiny_config(f"backdoor.sig.class_fraction={fraction}")


def test_a_clean_label_attack_cannot_be_all_to_all() -> None:
    with pytest.raises(InputError, match=r"all_to_all.*clean-label"):
        tiny_config("backdoor.sig.delta=40", "backdoor.label_rule=all_to_all")
