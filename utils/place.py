"""Which of several processes this one is, as a launcher has told it in the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from utils.errors import InputError

MOST_PROCESSES = 2**16


@dataclass(frozen=True)
class Place:
    """One of several processes; by default there is one.

    Attributes:
        rank: its number among all, from 0.
        size: number of all.
        local_rank: its number on this machine, from 0.
        local_size: number of those on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def read_place() -> Place:
    """Return this process's place.

    Raises:
        InputError: the environment holds no numbers, or some that contradict each other.
    """
    size = _number("WORLD_SIZE", 1, 1)
    local_size = _number("LOCAL_WORLD_SIZE", 1, 1)
    local_rank = _number("LOCAL_RANK", 0, 0)
    if size > 1 and "RANK" not in os.environ:
        raise InputError(
            f"WORLD_SIZE={size} in the environment, but no RANK: start with --gpu 0,1 or torchrun, "
            f"or take WORLD_SIZE away"
        )
    rank = _number("RANK", 0, 0)
    if rank >= size:
        raise InputError(f"RANK={rank} in the environment, of WORLD_SIZE={size} processes")
    return Place(rank, size, local_rank, local_size)


def _number(name: str, default: int, least: int) -> int:
    """Return a variable's number."""
    text = os.environ.get(name, str(default)).strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 9):
        raise InputError(f"{name}={text[:20]!r} in the environment: a number is expected")
    if not least <= int(text) <= MOST_PROCESSES:
        raise InputError(f"{name}={text} in the environment: not a number of processes")
    return int(text)


def is_first_process() -> bool:
    """Return whether this is the first process, or the only one; also before they are connected."""
    try:
        return read_place().rank == 0
    except InputError:
        return True  # it says so
