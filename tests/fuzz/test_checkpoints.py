"""Checkpoints with any damage: the same state, or one line; and what is taken can be trained on.

`FUZZ_EXAMPLES=2000` goes deeper than the few examples that every run of the tests takes.
"""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from run.checkpoint import load_checkpoint
from run.restore import restore_network, restore_optimizer, restore_progress
from tests.run.checkpoints import (
    LOSSES,
    SAMPLES,
    small_network,
    small_optimizer,
    small_schedule,
    whole_state,
)
from utils.errors import InputError

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
DIRECTORY = 12 * 1024  # bytes at the end of a file, most of which are the archive's directory
LONGEST = 300  # characters of a line, beside the path


@cache
def whole() -> bytes:
    """Return the bytes of a checkpoint inside an epoch."""
    buffer = io.BytesIO()
    torch.save(whole_state(2, 3), buffer)
    return buffer.getvalue()


def damaged(body: bytes, chance: random.Random) -> bytes:
    """Return the bytes with flipped bits, cut off, with a hole, or with something in between."""
    changed = bytearray(body)
    kind = chance.choice(["flip", "flip", "flip at the end", "cut", "hole", "insert", "swap"])
    start = len(body) - DIRECTORY if kind == "flip at the end" else 0
    place = chance.randrange(start, len(body))
    if kind.startswith("flip"):
        for _ in range(chance.choice([1, 1, 1, 8])):
            changed[chance.randrange(start, len(body))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del changed[place:]
    elif kind == "hole":
        del changed[place : place + chance.randrange(1, 2000)]
    elif kind == "insert":
        changed[place:place] = chance.randbytes(chance.randrange(1, 2000))
    else:
        changed[place : place + 64], changed[:64] = changed[:64], changed[place : place + 64]
    return bytes(changed)


def same(ours: Any, theirs: Any) -> bool:
    """Return whether two nested states are the same bit for bit."""
    if isinstance(theirs, torch.Tensor):
        return isinstance(ours, torch.Tensor) and torch.equal(ours, theirs)
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(ours == theirs)


def check_line(error: InputError, path: Path) -> None:
    line = str(error)
    assert "\n" not in line
    assert len(line.replace(str(path), "")) <= LONGEST


def test_any_damage_is_told_or_does_no_harm(tmp_path: Path) -> None:
    path, told = tmp_path / "a.pt", 0
    path.write_bytes(whole())
    intact = load_checkpoint(path)
    for number in range(EXAMPLES):
        path.write_bytes(damaged(whole(), random.Random(number)))
        try:
            assert same(load_checkpoint(path), intact), number
        except InputError as error:
            told += 1
            check_line(error, path)
    assert told > EXAMPLES // 2


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each value of a nested state."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in parts:
        yield (*above, key)
        if isinstance(part, (dict, list)):
            yield from places(part, (*above, key))


def strange(chance: random.Random, old: Any) -> Any:
    """Return a value that was not meant, some of them near to what was."""
    values = [
        None, True, 0, 1, -1, 2**31, 10**400, 0.5, -0.5, float("nan"), float("inf"), "", "1",
        "a\nb",
        "\x1b[31m", "x" * 5000, [], [[]], {}, {"a": 1}, {1: 2}, (), (0.9,), torch.ones(()),
        torch.ones(1), torch.ones(SAMPLES), torch.ones(3, 3), torch.zeros(10**5), torch.empty(0),
        torch.full((SAMPLES,), float("nan")), torch.ones(SAMPLES, dtype=torch.int16),
    ]  # fmt: skip
    if isinstance(old, torch.Tensor):
        values += [
            old.double(),
            old.long(),
            old[None],
            old.flatten(),
            -old.float(),
            old.float() / 0,
        ]
    if isinstance(old, (int, float)) and -1e300 < old < 1e300:
        values += [old + 1, old - 1, -old, str(old), [old], float(old), int(old)]
    if isinstance(old, (list, dict)):
        values += [
            type(old)(list(old)[:1]) if isinstance(old, list) else dict(list(old.items())[:1])
        ]
    return chance.choice(values)


def spoilt(state: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Return the state with one to three values changed, taken away or added."""
    for _ in range(chance.choice([1, 1, 2, 3])):
        *way, key = chance.choice(list(places(state)))
        inner: Any = state
        for step in way:
            inner = inner[step]
        action = chance.choice(["change", "change", "change", "take", "add"])
        if action == "change":
            inner[key] = strange(chance, inner[key])
        elif action == "take":
            del inner[key]
        elif isinstance(inner, dict):
            inner[chance.choice(["more", 7, "lr", "epoch"])] = strange(chance, None)
        else:
            inner.append(strange(chance, None))
    return state


def go_on(state: dict[str, Any], path: Path) -> None:
    """Restore a run of the small network from `state`, and train it for a step and an epoch."""
    network = small_network()
    optimizer = small_optimizer(network)
    schedule = small_schedule(optimizer)
    restore_network(network, state, path)
    if "format" not in state:
        return
    restore_optimizer(optimizer, schedule, state, path, state["epoch"])
    progress = restore_progress(state, path, SAMPLES, LOSSES, 9)
    if progress.clean is not None:
        assert progress.totals is not None
        progress.totals += torch.ones(LOSSES)
        int(progress.clean.sum())
    network(torch.ones(2, 3, 3, 3)).sum().backward()
    optimizer.step()
    schedule.step()
    sum(row["seconds"] for row in progress.rows)


def test_what_is_read_can_be_trained_on(tmp_path: Path) -> None:
    path, told = tmp_path / "a.pt", 0
    for number in range(EXAMPLES):
        chance = random.Random(number)
        state = spoilt(whole_state(2, chance.choice([0, 3])), chance)
        torch.save(state, path)
        try:
            go_on(load_checkpoint(path), path)
        except InputError as error:
            told += 1
            check_line(error, path)
    assert told > EXAMPLES // 2


@pytest.mark.parametrize("packed", [False, True])
def test_pickles_of_any_operations(tmp_path: Path, packed: bool) -> None:
    """Operations in any order, some with arguments that ask for much."""
    from tests.utils.test_torch_file import rewritten

    pieces = [
        b"(", b".", b"0", b"2", b"N", b"]", b"}", b")", b"a", b"e", b"s", b"u", b"b", b"R", b"Q",
        b"t",
        b"\x85", b"\x86", b"\x87", b"\x88", b"\x81", b"\x82\x01", b"K\x01", b"J\xff\xff\xff\x7f",
        b"\x8a\x05\x00\x00\x00\x00\x05", b"X\x01\x00\x00\x00a", b"X\xff\xff\xff\x7f", b"q\x00",
        b"h\x00", b"r\xff\xff\xff\x7f", b"ctorch\nFloatStorage\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n", b"G" + bytes(8),
        b"ccollections\nOrderedDict\n", b"c__builtin__\nbytearray\n", b"cposix\nsystem\n",
        b"X\x07\x00\x00\x00storage", b"\x96\xff\xff\xff\xff\x0f\x00\x00\x00",
    ]  # fmt: skip
    path = tmp_path / "a.pt"
    for number in range(EXAMPLES):
        chance = random.Random(number)
        body = b"\x80\x02" + b"".join(chance.choices(pieces, k=chance.randrange(1, 30))) + b"."
        if packed:
            torch.save([torch.ones(3)], path)
            rewritten(path, lambda _, body=body: body)  # type: ignore[misc]
        else:
            path.write_bytes(body)
        with pytest.raises(InputError) as caught:
            load_checkpoint(path)
        check_line(caught.value, path)
