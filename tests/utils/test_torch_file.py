"""A file of `torch.save` from anybody: its tensors and plain values, or one line."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.run.checkpoints import MALICIOUS_FORMS, save_malicious, whole_state
from utils.errors import InputError
from utils.torch_file import MOST_ITEMS, MOST_PICKLE, DamagedCheckpoint, read_tensors

BYTEARRAY = b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x05\x85R."  # 20 GB
HUGE_MEMO = b"\x80\x02]r\xff\xff\xff\x7f."


def saved(content: Any, path: Path, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


def rewritten(path: Path, change: Callable[[bytes], bytes], **how: Any) -> Path:
    """Return the archive with another `data.pkl`, or packed in another way."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, body in parts.items():
            archive.writestr(name, change(body) if name.endswith("data.pkl") else body)
    return path


@pytest.mark.parametrize("new", [True, False])
def test_tensors_and_plain_values_come_back(tmp_path: Path, new: bool) -> None:
    content = {
        "a": torch.arange(6.0).reshape(2, 3),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "mask": torch.tensor([True, False]),
        "scalar": torch.tensor(3),
        "none": torch.empty(0, 4),
        "weight": nn.Parameter(torch.ones(2)),
        "view": torch.arange(10)[2:8:2],
        "last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "plain": [1, -(2**40), 2.5, "text", None, True, (1, "b"), {3: [4]}],
        "ordered": OrderedDict(b=1, a=2),
        "counter": Counter({2: 1, 4: 1}),
    }
    found = read_tensors(saved(content, tmp_path / "a.pt", _use_new_zipfile_serialization=new))
    assert list(found) == list(content)
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(found[name], value)
            assert found[name].dtype == value.dtype
            assert not found[name].requires_grad
        else:
            assert found[name] == value
    assert found["last"].stride() == content["last"].stride()  # type: ignore[attr-defined]
    assert type(found["counter"]) is Counter
    assert type(found["ordered"]) is dict


@pytest.mark.parametrize("new", [True, False])
def test_whole_checkpoints_of_both_formats(tmp_path: Path, new: bool) -> None:
    state = whole_state(2, 3)
    found = read_tensors(saved(state, tmp_path / "a.pt", _use_new_zipfile_serialization=new))
    assert found.keys() == state.keys()
    assert found["rows"] == state["rows"]


@pytest.mark.parametrize(
    "body",
    [b"", b"P", b"PK", b"PK\x05\x06" + bytes(18), b"\x80\x02.", b"\x80\x02Q.", b"\x80\x02N.", b"N.",
     b"\x80\x04\x95", BYTEARRAY, HUGE_MEMO, b"\x80\x02" + b"]" * 10**5 + b".", bytes(100),
     pickle.dumps([1], 0), pickle.dumps([1], 4), pickle.dumps(b"x" * 99, 5), b"\x80\x02((((.",
     b"\x80\x02}(K\x01K\x02u.", b"\x80\x02X\xff\xff\xff\x7fa.", b"\x80\x02\x8b\xff\xff\xff\x7f."],
    ids=range(20),
)  # fmt: skip
@pytest.mark.parametrize("inside", [False, True])
def test_bare_and_packed_pickles_of_any_kind(tmp_path: Path, body: bytes, inside: bool) -> None:
    path = tmp_path / "a.pt"
    if inside:
        if body[-2:] in (b"N.", b"u.", b"].", b"\x7f."):
            return  # a plain value, which an archive may hold
        rewritten(saved([torch.ones(3)], path), lambda _: body)
    else:
        path.write_bytes(body)
    with pytest.raises(InputError) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) - len(str(path)) < 200


@pytest.mark.parametrize("form", MALICIOUS_FORMS)
def test_what_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, form: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / "a.pt"
    save_malicious(path, mark, form)
    with pytest.raises(InputError, match="refused") as caught:
        read_tensors(path)
    assert not isinstance(caught.value, DamagedCheckpoint)
    assert not mark.exists()


def alias_bomb() -> list[Any]:
    value: list[Any] = [0]
    for _ in range(28):
        value = [value, value]
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


FOREIGN: dict[str, Callable[[], Any]] = {
    "a set": lambda: {1, 2},
    "bytes": lambda: b"abc",
    "a key that is a tuple": lambda: {(1, 2): 3},
    "a complex tensor": lambda: torch.ones(2, dtype=torch.complex64),
    "a sparse tensor": lambda: torch.eye(3).to_sparse(),
    "a tensor without data": lambda: torch.empty(3, device="meta"),
    "a tensor larger than its bytes": lambda: torch.ones(1).expand(10**12),
    "tensors larger than the file": lambda: (lambda t: [t[i:] for i in range(999)])(
        torch.ones(10**5)
    ),
    "values without end": endless,
    "a bomb of lists": alias_bomb,
    "deep values": lambda: [
        [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]
    ],
    "a module": lambda: nn.Linear(2, 2),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_no_state_consists_of_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        read_tensors(saved(FOREIGN[name](), tmp_path / "a.pt"))


def test_a_storage_never_reaches_beyond_its_bytes(tmp_path: Path) -> None:
    path = saved({"a": torch.ones(7), "b": torch.ones(9)}, tmp_path / "a.pt")
    rewritten(path, lambda body: body.replace(b"K\x07", b"M\xff\xff"))
    with pytest.raises(DamagedCheckpoint):
        read_tensors(path)


def test_archives_are_no_larger_than_their_file(tmp_path: Path) -> None:
    path = saved([torch.zeros(10**6)], tmp_path / "a.pt")
    rewritten(path, lambda body: body, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(DamagedCheckpoint, match="compressed"):
        read_tensors(path)
    twice = saved([1], tmp_path / "b.pt")
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], b"\x80\x02N.")
    with pytest.raises(DamagedCheckpoint):
        read_tensors(twice)
    for body in (b"\x80\x02" + b"N0" * (MOST_PICKLE // 2) + b"N.",
                 b"\x80\x02](" + b"N" * (MOST_ITEMS + 1) + b"e."):  # fmt: skip
        large = rewritten(saved([1], tmp_path / "c.pt"), lambda _, body=body: body)  # type: ignore[misc]
        with pytest.raises(InputError):
            read_tensors(large)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match="cannot be read"):
        read_tensors(tmp_path / "missing")
    for name in ("folder", "pipe", "loop"):
        with pytest.raises(DamagedCheckpoint):
            read_tensors(tmp_path / name)


def test_an_archive_of_torchscript_is_refused(tmp_path: Path) -> None:
    module = torch.jit.script(nn.Linear(2, 2))
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    (tmp_path / "a.pt").write_bytes(buffer.getvalue())
    with pytest.raises(InputError):
        read_tensors(tmp_path / "a.pt")
