"""Numbers without sense: no sample poisoned, gigabytes of a setting, lists that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import data.attack.refool
import data.transform.build
from data.build import assemble, load_data, poison_data
from data.dataset import ImageData, Split, gtsrb
from tests.conftest import colourful_images, tiny_config
from utils.errors import InputError
from utils.streams import Streams


def small_data(count: int = 100) -> ImageData:
    split = Split(colourful_images(count, 16), torch.arange(count) % 10)
    return ImageData(split, split, tuple("abcdefghij"))


def poisoned(folder: Path, *overrides: str) -> int:
    config = tiny_config(f"storage_dir={folder}", *overrides).config
    return int(poison_data(config, small_data(), Streams(0))[1].poisoned.sum())


# ------------------------------------------------------------------- nothing is poisoned (A7)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["backdoor.poison_ratio=0.0001"], "poison_ratio: 0.0001 of 100 samples"),
        (["backdoor.poison_ratio=0.004", "backdoor.wanet={}"], "poison_ratio: 0.004"),
        (["backdoor.poison_ratio=1e-9", "backdoor.selection=official"], "poison_ratio: 1e-09"),
        (["backdoor.poison_ratio=0.04", "backdoor.label_rule=all_to_all"], "poison_ratio: 0.04"),
        (["backdoor.sig.class_fraction=0.01"], "class_fraction: 0.01 of the target class"),
        (
            ["backdoor.poison_ratio=0.03", "backdoor.wanet.cross_ratio=0.1"],
            "cross samples: 0.1 of 3 poisoned ones",
        ),
        (
            ["backdoor.poison_ratio=0.01", "backdoor.adaptive_blend.cross_ratio=0.4"],
            "cross samples: 0.4 of 1 poisoned ones",
        ),
    ],
)
def test_a_share_that_is_no_sample_is_refused(
    tmp_path: Path, overrides: list[str], part: str
) -> None:
    with pytest.raises(InputError, match=r"is not a single sample; raise it$") as caught:
        poisoned(tmp_path, *overrides)
    assert part in str(caught.value)


def test_one_sample_is_enough(tmp_path: Path) -> None:
    assert poisoned(tmp_path, "backdoor.poison_ratio=0.01") == 1
    assert poisoned(tmp_path, "backdoor.wanet.cross_ratio=0", "backdoor.poison_ratio=0.01") == 1


def test_a_ratio_of_zero_is_meant_and_said(tmp_path: Path) -> None:
    for ratio, lines in (("0", 1), ("0.1", 0)):
        config = tiny_config(f"storage_dir={tmp_path}", f"backdoor.poison_ratio={ratio}").config
        found = assemble(config, load_data(config)[0], Streams(0))
        assert len([line for line in found.lines if "is poisoned; ASR says" in line]) == lines


# -------------------------------------------------------- numbers that would take gigabytes (C13)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("backdoor.wanet.k=1000000000", "k"),
        ("backdoor.wanet.s=1e300", "s"),
        ("backdoor.wanet.cross_ratio=1e308", "cross_ratio"),
        ("backdoor.bpp.cross_ratio=1e308", "cross_ratio"),
        ("backdoor.adaptive_blend.cross_ratio=1e9", "cross_ratio"),
        ("backdoor.iab.cross=1e308", "cross"),
        ("backdoor.sig.frequency=1e308", "frequency"),
        ("backdoor.refool.scenes=1000000000", "scenes"),
        ("backdoor.refool.blur_sigma.high=1000000000.0", "high"),
        ("transform.pre={resize: {size: 0}}", "size"),
        ("transform.pre={resize: {size: -3}}", "size"),
        ("transform.pre={resize: {size: 1000000000}}", "size"),
        ("transform.pre={resize: {size: [0, 8]}}", "size"),
        ("transform.pre={resize: {size: []}}", "size"),
        ("transform.pre={resize: {size: [8, 8, 8]}}", "size"),
        ("transform.pre={resize: {size: true}}", "size"),
        ("transform.train.primary={random_crop: {size: 16, padding: 1000000000}}", "padding"),
        ("transform.train.primary={random_resize_crop: {size: 1000000000}}", "size"),
    ],
)
def test_numbers_without_sense_are_refused_at_once(override: str, key: str) -> None:
    with pytest.raises(InputError) as caught:
        tiny_config(override)
    message = str(caught.value)
    assert key in message and "\n" not in message and len(message) < 300


@pytest.mark.parametrize("size", ["8", "[8]", "[8, 12]"])
def test_sizes_with_sense_are_taken(size: str) -> None:
    config = tiny_config(f"transform.pre={{resize: {{size: {size}}}}}").config
    height, width = load_data(config)[0].train.images.shape[1:3]
    assert (int(height), int(width)) == ((8, 12) if "12" in size else (8, 8))


def test_scenes_that_fit_no_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data.attack.refool, "free_bytes", lambda _: 1000)
    with pytest.raises(InputError, match=r"backdoor\.refool\.scenes: 200 of 16x16 pixels take"):
        poisoned(tmp_path, "backdoor.refool={}")


def test_images_that_fit_no_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.transform.build, "free_bytes", lambda _: 1000)
    with pytest.raises(InputError, match=r"transform\.pre\.resize: 300 images of 64x64 pixels"):
        load_data(tiny_config("transform.pre={resize: {size: 64}}").config)


@pytest.mark.parametrize("mode", ["reflect", "symmetric"])
def test_padding_that_no_mirror_image_fills_is_refused(mode: str) -> None:
    from data.transform.build import build_chain

    crop = f"{{size: 16, padding: 17, padding_mode: {mode}}}"
    config = tiny_config(f"transform.train.primary={{random_crop: {crop}}}").config
    with pytest.raises(InputError, match="padding that it cannot mirror"):
        build_chain("train", config.transform.train, 16, 16)


# ---------------------------------------------------------------------- lists of GTSRB (C13)

HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
GOOD = "00000.ppm;53;54;6;5;48;49;16\n"


@pytest.mark.parametrize(
    "rows",
    [
        "00001.ppm;53;54;6;5;48;49;sixteen\n",
        "00001.ppm;53;54;6;5;48;49;43\n",
        "00001.ppm;53;54;6;5;48;49;-1\n",
        "00001.ppm;53;54;6;5;48;49;" + "9" * 5000 + "\n",
        "00001.ppm;53\n",
        "../../../../etc/passwd;53;54;6;5;48;49;1\n",
        "/etc/passwd;53;54;6;5;48;49;1\n",
        "00001.ppm\0;53;54;6;5;48;49;1\n",
        '"00001.ppm;53;54;6;5;48;49;1\n',
        "x" * 200_000 + ";53;54;6;5;48;49;1\n",
    ],
)
def test_a_list_that_is_not_gtsrbs_is_one_line(tmp_path: Path, rows: str) -> None:
    file = tmp_path / gtsrb.LABELS_FILE
    file.write_text(HEADER + GOOD + rows)
    with pytest.raises(InputError, match="row 2: not the list of GTSRB's test images") as caught:
        gtsrb.read_labels(file)
    assert str(caught.value).isprintable() and gtsrb.TEST_LABELS[0] in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\0", b"File;Class\na;1\n", HEADER.encode()[:30] + b"\n1\n"]
)
def test_a_file_without_its_columns_is_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / gtsrb.LABELS_FILE
    file.write_bytes(content)
    with pytest.raises(InputError, match="row 1: not the list"):
        gtsrb.read_labels(file)


def test_the_real_form_of_the_list_is_read(tmp_path: Path) -> None:
    file = tmp_path / gtsrb.LABELS_FILE
    file.write_text(HEADER + GOOD)
    assert gtsrb.read_labels(file) == [("00000.ppm", 16)]


# ------------------------------------------------------------- arrays of sample numbers (C13)


def archive(file: Path) -> None:
    np.savez(file.with_suffix(".npz"), np.arange(5))
    file.with_suffix(".npz").rename(file)


ARRAYS: dict[str, Callable[[Path], Any]] = {
    "empty file": lambda file: file.write_bytes(b""),
    "cut off": lambda file: file.write_bytes(b"\x93NUMPY\x01\x00"),
    "no numbers": lambda file: np.save(file, np.array([], dtype=np.int64)),
    "archive": archive,
    "objects": lambda file: np.save(file, np.array([{}, {}]), allow_pickle=True),
    "not whole": lambda file: np.save(file, np.array([0.5])),
    "below zero": lambda file: np.save(file, np.array([-1])),
    "beyond": lambda file: np.save(file, np.array([2**63], dtype=np.uint64)),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_an_array_that_lists_no_samples_is_one_line(tmp_path: Path, kind: str, ending: str) -> None:
    file = tmp_path / "seeds.npy"
    ARRAYS[kind](file)
    file = file.rename(file.with_suffix(ending))
    config = tiny_config(f"global.seed_indices={file}", f"storage_dir={tmp_path}").config
    with pytest.raises(InputError, match=r"^global\.seed_indices: ") as caught:
        assemble(config, load_data(config)[0], Streams(0))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300
