"""Several processes, one run: who they are, how the work is divided, and how parts come together.

Every process holds all data and draws the same random numbers, so only results travel: guesses,
logits, losses and gradients. Each batch, record pass and test pass is cut into one part a process.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from utils.errors import InputError
from utils.place import Place, read_place

Part = TypeVar("Part")

MEETING = "ASD_MEETING"  # in the environment: the file through which processes of a machine meet
SMALLEST_PART = 2  # samples; BatchNorm has no variance of a single one
PATIENCE = timedelta(days=30)  # while the first process decodes images or trains an attack
# PyTorch has a class for the errors of NCCL and of the meeting, and none for those of gloo, which
# begin with the line of gloo's source that raised them.
GLOO_ERROR = re.compile(r"\[[^\]]*\bgloo\b[^\]]*\]")


class Vote:
    """Whether a flag is set in one of the processes; asked now, answered later."""

    def __init__(self, flag: Tensor, pending: distributed.Work | None) -> None:
        self._flag, self._pending = flag, pending

    def outcome(self) -> bool:
        """Wait for all votes and return the answer."""
        if self._pending is not None:
            self._pending.wait()
        return bool(self._flag)


def go_on() -> None:
    """Do nothing: what a run of one process does between two batches."""


@dataclass(frozen=True)
class World:
    """The processes of a run; by default there is one, and every method is the plain thing.

    Attributes:
        rank: this process's number, from 0.
        size: number of processes.
        patient: their group for messages between hosts, which waits for `PATIENCE`, and without
            any GPU; None: the usual group.
        poll_interrupt: to be called by all processes between batches; raises when the run is to
            stop.
    """

    rank: int = 0
    size: int = 1
    patient: distributed.ProcessGroup | None = field(default=None, compare=False, repr=False)
    poll_interrupt: Callable[[], None] = field(default=go_on, compare=False, repr=False)

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return this process's part of `count` samples; all of them where there are too few."""
        return slice(0, count) if self._too_few(count) else self._share_of(self.rank, count)

    def _too_few(self, count: int) -> bool:
        return count < SMALLEST_PART * self.size

    def _share_of(self, rank: int, count: int) -> slice:
        return slice(count * rank // self.size, count * (rank + 1) // self.size)

    def gather(self, part: Tensor, count: int) -> Tensor:
        """Return the whole (count, ...) from the parts (n, ...) that `share` gave out.

        The gradient flows into this process's part alone: a loss of the whole, summed over the
        processes, has the gradient of a single process.
        """
        if self.size == 1:
            return part
        if self._too_few(count):  # each has computed all; one gradient is enough
            return part if self.is_first else part.detach() + 0 * part
        longest = -(-count // self.size)
        padded = part.new_zeros(longest, *part.shape[1:])
        padded[: len(part)] = part.detach()
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        distributed.all_gather(parts, padded)
        for rank in range(self.size):
            share = self._share_of(rank, count)
            parts[rank] = parts[rank][: share.stop - share.start]
        parts[self.rank] = part
        return torch.cat(parts)

    def from_first_process(self, told: Tensor) -> Tensor:
        """Return what the first process computed.

        Args:
            told: on the CPU; all have computed it, in the same shape, perhaps with other bits.
        """
        if self.size == 1:
            return told
        same = told.contiguous().clone()
        distributed.broadcast(same, 0, group=self.patient)
        return same

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is set in one of the processes."""
        return self.vote(flag).outcome()

    def vote(self, flag: bool) -> Vote:
        """Ask all processes whether `flag` is set in one of them."""
        vote = torch.tensor(int(flag))
        if self.size == 1:
            return Vote(vote, None)
        operation = distributed.ReduceOp.MAX
        pending = distributed.all_reduce(vote, operation, group=self.patient, async_op=True)
        return Vote(vote, pending)

    def wait(self) -> None:
        """Wait until all processes are here, however long one of them takes."""
        if self.size > 1:
            distributed.barrier(group=self.patient)

    def watched(self, parts: Iterable[Part], count: int, batch_size: int) -> Iterator[Part]:
        """Yield `parts`, the batches of this process's share, polling for an interrupt between.

        Shares differ by a sample, so one process may have a batch more; it polls no more often.

        Args:
            parts: the batches.
            count: samples of all processes.
            batch_size: of each batch but the last.
        """
        smallest = count if self._too_few(count) else count // self.size
        for number, part in enumerate(parts):
            if number < -(-smallest // batch_size):
                self.poll_interrupt()
            yield part

    @contextmanager
    def one_after_the_other(self) -> Iterator[None]:
        """Let the first process do the block alone, then the others, who find what it has made."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def parallel(self, network: nn.Module) -> nn.Module:
        """Return `network` such that the gradients of all processes are averaged in `backward`."""
        if self.size == 1:
            return network
        # Buffers would be sent at each of a step's three forwards; `same_buffers` does it once.
        known = inspect.signature(DistributedDataParallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        return DistributedDataParallel(network, **{name: False})  # type: ignore[arg-type]

    def same_buffers(self, network: nn.Module) -> None:
        """Give the first process's BatchNorm statistics to all, where each kept its own."""
        if self.size > 1:
            for buffer in network.buffers():
                distributed.broadcast(buffer, 0)


ALONE = World()


def join(device: torch.device) -> World:
    """Return the processes that `torchrun` has started, connected; or the only one.

    Args:
        device: of this process; a GPU is the current one.

    Raises:
        InputError: the environment says no place where they meet.
    """
    place = read_place()
    if place.size == 1:
        return ALONE
    if not distributed.is_initialized():
        try:
            _meet(device, place)
        except (ValueError, distributed.DistError) as error:
            why = " ".join(str(error).split())[:200]
            raise InputError(
                f"the {place.size} processes of WORLD_SIZE do not meet ({why}); start them with "
                f"--gpu 0,1 or torchrun"
            ) from error
    # NCCL gives up after ten minutes, gloo after thirty, and a GPU could do nothing meanwhile.
    patient = distributed.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(patient, distributed.ProcessGroup)
    return World(place.rank, place.size, patient)


def _meet(device: torch.device, place: Place) -> None:
    """Connect the processes: in the file that `utils.launch` names, else where `torchrun` says."""
    meeting = os.environ.get(MEETING)
    more: dict[str, Any] = {}
    if meeting is not None:
        store = distributed.FileStore(meeting, place.size)  # type: ignore[attr-defined]
        more = {"store": store, "rank": place.rank, "world_size": place.size}
    on_gpu = device.type == "cuda"
    # Told the device, NCCL connects now and not at the first message, where it may hang.
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo", device_id=device if on_gpu else None, **more
    )


def leave() -> None:
    """Part from the other processes, if there are any."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def lost_contact(error: Exception) -> bool:
    """Return whether `error` says that another process is gone."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    if isinstance(error, distributed.DistError):
        return True
    return type(error) is RuntimeError and GLOO_ERROR.match(str(error)) is not None
