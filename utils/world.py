"""Several processes, one run: who they are, how the work is divided, and how parts come together.

Every process holds all data and draws the same random numbers, so only results travel: guesses,
logits, losses and gradients. Each batch, record pass and test pass is cut into one part a process.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

SMALLEST_PART = 2  # samples; BatchNorm has no variance of a single one


@dataclass(frozen=True)
class World:
    """The processes of a run; by default there is one, and every method is the plain thing.

    Attributes:
        rank: this process's number, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

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

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is set in one of the processes."""
        if self.size == 1:
            return flag
        votes: list[bool] = [False] * self.size
        distributed.all_gather_object(votes, flag)
        return any(votes)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()

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
    """Return the processes that `torchrun` has started, connected; or the only one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else every process would talk through the first GPU
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(distributed.get_rank(), size)


def is_first_process() -> bool:
    """Return whether this is the first process, or the only one; also before they are connected."""
    return os.environ.get("RANK", "0") == "0"


def leave() -> None:
    """Part from the other processes, if there are any."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def lost_contact(error: RuntimeError) -> bool:
    """Return whether `error` says that another process is gone; PyTorch has no class for that."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    return any(word in str(error) for word in ("gloo", "NCCL", "Connection", "peer", "socket"))
