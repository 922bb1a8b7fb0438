"""How many threads of the CPU compute a run."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# Multiply-adds of one image below which a run takes one thread by itself. A second one made an
# epoch of digits 1.5 times as fast, with the network of then (7 million; 4 million today); but
# every part of a step waits for all threads, so two such runs at once on two cores had not ended
# after eight minutes, where one alone took 25 s.
SMALL = 10_000_000

Threads = Literal["auto"] | int


@torch.no_grad()
def multiply_adds(network: nn.Module, size: tuple[int, int]) -> int:
    """Return the multiply-adds of a forward of one image of `size` (H, W); nothing is learnt."""
    was_training = network.training
    network.eval()
    device = next((weight.device for weight in network.parameters()), None)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *size, device=device))
    network.train(was_training)
    return counter.get_total_flops() // 2


def set_threads(asked: Threads, network: nn.Module, size: tuple[int, int]) -> None:
    """Let the asked number of threads compute; `auto`: PyTorch's own, but one if there is little.

    By the network alone, never by how busy the machine is: last digits depend on the number.

    Args:
        asked: `speed.threads`.
        network: on the CPU, not yet changed for its device.
        size: of the images, (H, W).
    """
    if asked != "auto":
        torch.set_num_threads(asked)
    elif multiply_adds(network, size) < SMALL:
        torch.set_num_threads(1)
