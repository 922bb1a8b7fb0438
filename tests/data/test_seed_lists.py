"""Lists of verified samples as people save them: encodings, separators, headers, numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data.poison import TrainingSet
from data.seeds import read_seeds
from tests.conftest import colourful_images
from utils.errors import InputError

FILES = ("train/ä/1.png", "train/ä/=2.png", "train/b/3, 4.png", "train/b/5.png")
SET = TrainingSet(colourful_images(4, 4), torch.tensor([0, 0, 1, 1]), ("ä", "b"), files=FILES)
NUMBERED = TrainingSet(SET.images, SET.labels, SET.classes)


def seeds(tmp_path: Path, body: bytes, name: str, training: TrainingSet = SET) -> list[int]:
    file = tmp_path / name
    file.write_bytes(body)
    return read_seeds(str(file), training, 1).tolist()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("file;label\r\nä/1.png;ä\r\nb/3, 4.png;b\r\n", "seeds.csv"),
        ("file\tlabel\r\nä/1.png\tä\r\nb/3, 4.png\t\r\n", "seeds.txt"),
        ('file,label\n# "checked by me\n"ä/1.png",ä\n"b/3, 4.png",b\n', "seeds.csv"),
        ("sep=;\nä/1.png;ä\nb/3, 4.png;b\n", "seeds.txt"),
        ("ä/1.png;ä\nb/3, 4.png;b\n", "seeds.csv"),  # without a header: by what is a sample
        ("Label;File;seen by\nä;train/ä/1.png;me\nb;train/b/3, 4.png;me\n", "seeds.csv"),
        ("ä/1.png\nb/3, 4.png\n", "seeds.txt"),  # a name a line: no separator is looked for
    ],
)
def test_lists_of_names_are_read_as_they_are_saved(
    tmp_path: Path, encoding: str, text: str, name: str
) -> None:
    assert seeds(tmp_path, text.encode(encoding), name) == [0, 2]


def test_a_defused_name_is_undone_in_a_table_only(tmp_path: Path) -> None:
    files = ("=a.png", "'=a.png", "b.png")
    training = TrainingSet(SET.images[:3], torch.tensor([0, 0, 1]), ("x", "y"), files=files)
    assert seeds(tmp_path, b"file\n'=a.png\nb.png\n", "seeds.csv", training) == [0, 2]
    assert seeds(tmp_path, b"file\n''=a.png\nb.png\n", "seeds.csv", training) == [1, 2]
    assert seeds(tmp_path, b"'=a.png\nb.png\n", "seeds.txt", training) == [1, 2]


@pytest.mark.parametrize("text", ["0, 2", "0;2", "0\t2", "0\r2\r", "sep=;\n0;2", "# mine\n0 2"])
def test_numbers_are_read_as_they_are_saved(tmp_path: Path, text: str) -> None:
    assert seeds(tmp_path, text.encode("utf-16"), "seeds.csv", NUMBERED) == [0, 2]


@pytest.mark.parametrize(
    ("body", "name", "told"),
    [
        (b'file,label\n"b/5.png,b\n', "s.csv", "line 2: no CSV: a quote"),
        (b"file;label\nb/5.png;c\n", "s.csv", "line 2: there is no class 'c'"),
        (b"file;label\nb/6.png;b\n", "s.csv", "line 2: there is no training sample 'b/6.png'"),
        ("file\nż/1.png\n".encode("cp1250"), "s.csv", "read as Windows-1252"),
        (b"\xff\xfe\x00", "s.txt", "no text in UTF-16-LE"),
        (b"b/5.png\nb/5.png\n", "s.txt", "line 2: 'b/5.png' is named in line 1"),
    ],
)
def test_what_is_wrong_with_names_is_told(
    tmp_path: Path, body: bytes, name: str, told: str
) -> None:
    with pytest.raises(InputError, match=r"global\.seed_indices: ") as caught:
        seeds(tmp_path, body, name)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0 1\n2 x3\n", "line 2: cannot be read as sample numbers"),
        ("9" * 5000, "cannot be read as sample numbers"),
        ("9" * 400, "of more than 15 digits, there are 0 to 3"),
        ("-1", "names sample -1, there are 0 to 3"),
        ("1 1", "names a sample twice"),
        ("", "lists no sample"),
    ],
)
def test_what_is_wrong_with_numbers_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=r"global\.seed_indices: ") as caught:
        seeds(tmp_path, text.encode(), "seeds.txt", NUMBERED)
    assert told in str(caught.value) and len(str(caught.value)) < 400


def array_bytes(array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    import io

    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


HEADER = "{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"
HUGE = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + HEADER.ljust(117).encode() + b"\n"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x05\x06" + b"\0" * 18,
        HUGE,
        b"PK\x03\x04" + b"\0" * 40,  # an archive that is cut off
        b"\x93NUMPY\x01\x00" + (20).to_bytes(2, "little") + b"{'descr': ('<i8', ".ljust(20),
        array_bytes(np.array([0.5])),
        array_bytes(np.array([0, 2], dtype=object)),
        array_bytes(np.array([], dtype=np.int64)),
        array_bytes(np.array([2**63], dtype=np.uint64)),
    ],
)
def test_arrays_that_hold_no_sample_numbers_are_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(InputError, match=r"global\.seed_indices: ") as caught:
        seeds(tmp_path, body, "seeds.npy", NUMBERED)
    assert "\n" not in str(caught.value)


def test_an_array_of_numbers_is_read(tmp_path: Path) -> None:
    assert seeds(tmp_path, array_bytes(np.array([[2], [0]])), "seeds.npy", NUMBERED) == [0, 2]
