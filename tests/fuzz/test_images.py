"""Pictures and caches with any bytes: an image, a line that says why not, or the same data anew.

`FUZZ_EXAMPLES=2000` goes deeper than the few examples that every run of the tests takes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as pack

from data.attack.badnets import read_trigger
from data.attack.pixels import read_picture
from data.build import poison_data
from data.dataset import ImageData, Request
from data.dataset import cache as image_cache
from data.dataset.decode import Frame, read_image
from data.dataset.image_folder import ImageFolder
from data.dataset.index import checksum
from data.dataset.picture import UnreadableImage, is_picture
from data.dataset.remarks import one_line
from data.dataset.settings import DataSection
from data.kept import DIGEST_SIZE, POISON_FILE
from data.poison import TrainingSet, Truth
from tests.conftest import learnable_data, tiny_config
from tests.data.pictures import FORMATS, chunk, noise, png
from utils.errors import InputError
from utils.streams import Streams

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
deeply = settings(max_examples=EXAMPLES, deadline=None)
seldom = settings(max_examples=max(EXAMPLES // 4, 5), deadline=None)

LONGEST = 300  # characters of an error's line
MODES = ("RGB", "L", "P", "1", "RGBA", "I;16")


@contextmanager
def place() -> Iterator[Path]:
    """A folder for one example; it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="asd-fuzz-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@cache
def samples(kind: str) -> list[bytes]:
    """Return whole files of a format, one for each mode that it knows."""
    found = []
    values = np.random.default_rng(7).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    with place() as folder:
        for mode in MODES:
            image = Image.fromarray(values)
            image = Image.new(mode, image.size, 9) if mode == "I;16" else image.convert(mode)
            try:
                image.save(folder / mode.replace(";", ""), format=kind)
            except (OSError, ValueError, KeyError):  # a mode that this format does not know
                continue
            found.append((folder / mode.replace(";", "")).read_bytes())
    return found


# A change of a file: where (a share of its length), what, and how much.
changes = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "repeat", "ends", "zero"]),
        st.floats(0, 1),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=6,
)


def changed(whole: bytes, how: list[tuple[str, float, int]]) -> bytes:
    """Return `whole` with the changes made to it."""
    body = bytearray(whole)
    for kind, share, number in how:
        where = min(int(share * len(body)), max(len(body) - 1, 0))
        if kind == "cut":
            del body[where:]
        elif kind == "insert":
            body[where:where] = bytes([number]) * (number % 9)
        elif kind == "repeat":
            body += body[where : where + number]
        elif kind == "ends":  # sizes and offsets that are as large as they can be
            body[where : where + 4] = b"\xff\xff\xff\x7f"
        elif kind == "zero":
            body[where : where + 4] = b"\0\0\0\0"
        elif body:
            body[where] ^= 1 << number % 8
    return bytes(body)


def answered(path: Path) -> None:
    """Open a file at every door for pictures: each gives an image, or says why not in a line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        is_picture(path)
        reason = decoded(path)
    assert reason is None or one_line(reason)
    for reason in (refusal(path, read_trigger), refusal(path, scaled)):
        assert reason is None or (reason.isprintable() and len(reason) <= LONGEST)


def decoded(path: Path) -> str | None:
    """Decode a training image; return why it cannot be."""
    try:
        image = read_image(path, Frame(8, 10))
    except UnreadableImage as error:
        return str(error)
    assert image.shape == (8, 8, 3) and image.dtype == np.uint8
    return None


def scaled(path: str, height: int, width: int) -> object:
    return read_picture(path, "backdoor.blend.image", height, width)


def refusal(path: Path, read: Callable[[str, int, int], object]) -> str | None:
    """Read the picture that a setting names; return why it cannot be."""
    try:
        read(str(path), 20, 20)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", sorted(set(FORMATS.values())))
def test_a_damaged_picture_is_an_image_or_a_reason(kind: str) -> None:
    assert samples(kind)

    @seldom
    @given(st.sampled_from(samples(kind)), changes)
    def check(whole: bytes, how: list[tuple[str, float, int]]) -> None:
        with place() as folder:
            (folder / "x").write_bytes(changed(whole, how))
            answered(folder / "x")

    check()


starts = st.sampled_from(
    [
        *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBP", b"II*\0"),
        *(b"MM\0*", b"P6\n9 9\n255\n", b"P1 ", b"\0\0\1\0", b"\0\0\2\0", b"icns", b"DDS ", b"8BPS"),
        *(b"\x0a\x05\x01\x08", b"\xb1\x68\xde\x3a", b"qoif", b"\x01\xda", b"\x59\xa6\x6a\x95"),
        *(b"DanM", b"LinS", b"#define a_width 9\n", b"/* XPM */", b"\xff\x4f\xff\x51", b"%!PS"),
        *(b"\0\0\0 ftypavif", b"\xd7\xcd\xc6\x9a", b"%PDF-", b"\x1f\x8b", b"PK\3\4", b""),
        *(b"\x12\0\0\0\x11\xaf", b"\x28\0\0\0", b"\0\0\2\0\0\0\0\0\0\0\0\0\x09\0\x09\0\x18\0"),
    ]
)


@deeply
@given(starts, st.binary(max_size=200), st.sampled_from(["", ".png", ".tga", ".txt"]))
def test_any_bytes_are_an_image_or_a_reason(start: bytes, rest: bytes, ending: str) -> None:
    with place() as folder:
        (folder / f"x{ending}").write_bytes(start + rest)
        answered(folder / f"x{ending}")


@deeply
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"acTL", b"PLTE", b"tRNS"]),
    st.binary(max_size=60),
)
def test_any_size_and_chunk_of_a_png(width: int, height: int, kind: bytes, body: bytes) -> None:
    with place() as folder:
        (folder / "x.png").write_bytes(png(width, height, chunk(kind, body)))
        answered(folder / "x.png")


# ------------------------------------------------------------------------------------- caches


def load(folder: Path) -> ImageData:
    request = Request(str(folder / "d"), DataSection(image_size=8), folder / "cache")
    return ImageFolder().load(request)


@seldom
@given(st.sampled_from([image_cache.INDEX, image_cache.PIXELS]), changes, st.booleans())
def test_a_damaged_cache_gives_the_same_data(
    name: str, how: list[tuple[str, float, int]], signed: bool
) -> None:
    with place() as folder:
        for number in range(6):
            noise(folder / "d/train" / "ab"[number % 2] / f"{number}.png", number)
        before = load(folder)
        images, fingerprint = before.train.images.clone(), before.fingerprint()
        for file in (folder / "cache").glob(f"*/{name}"):
            body = changed(file.read_bytes(), how)
            file.write_bytes(resigned(body) if signed and name == image_cache.INDEX else body)
        after = load(folder)
        assert torch.equal(after.train.images, images)
        assert after.fingerprint() == fingerprint
        assert after.train.files == before.train.files


def resigned(body: bytes) -> bytes:
    """Return an index with the checksum of what it says now, where it still says something."""
    try:
        content = json.loads(body)
        content.pop("checksum", None)
        return json.dumps({**content, "checksum": checksum(content)}).encode()
    except (ValueError, TypeError, AttributeError):
        return body


DATA = learnable_data(40, 16)


def make(folder: Path) -> tuple[TrainingSet, Truth]:
    config = tiny_config(
        "backdoor={poison_ratio: 0.2, target_label: 1, wanet: {cross_ratio: 1.0}}",
        f"storage_dir={folder}",
    ).config
    return poison_data(config, DATA, Streams(0))


shapes = st.lists(st.sampled_from([0, 1, 3, 8, 16, 40]), max_size=4)
dtypes = st.sampled_from([torch.uint8, torch.int64, torch.float32, torch.bool])
PARTS = ("roles", "images", "labels", "test_images", "test_labels", "another")


def packed(parts: dict[str, tuple[list[int], torch.dtype]]) -> bytes:
    """Return a file of tensors of ones."""
    return pack({name: torch.ones(shape, dtype=dtype) for name, (shape, dtype) in parts.items()})


others = st.dictionaries(st.sampled_from(PARTS), st.tuples(shapes, dtypes), max_size=6).map(packed)


@seldom
@given(st.one_of(changes, others, st.binary(max_size=80)))
def test_other_kept_poison_gives_the_same_data(how: list[tuple[str, float, int]] | bytes) -> None:
    with place() as folder:
        training, truth = make(folder)
        (file,) = folder.glob(f"cache/*/{POISON_FILE}")
        old = file.read_bytes()[DIGEST_SIZE:]
        body = how if isinstance(how, bytes) else changed(old, how)
        if is_plausible(body, old):
            return
        file.write_bytes(hashlib.sha256(body).digest() + body)
        again, truth_again = make(folder)
        assert torch.equal(again.images, training.images)
        assert torch.equal(again.labels, training.labels)
        assert truth_again.fingerprint() == truth.fingerprint()


def is_plausible(body: bytes, old: bytes) -> bool:
    """Return whether only values of tensors differ: with a right checksum, that is another set."""
    header = 8 + int.from_bytes(old[:8], "little")
    return len(body) == len(old) and body[:header] == old[:header]
