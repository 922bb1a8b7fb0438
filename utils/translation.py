"""Whether translating a run's steps pays: what it takes against what it saves, both estimated.

A step as it is waits for the CPU to start its kernels, as many as there are layers and passes
through them. A translated one is started at once and takes what its arithmetic takes. Both rates
are of one card, and stand here alone; docs/speed.md says how they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from utils.threads import multiply_adds


@dataclass(frozen=True)
class Size:
    """A network, as far as the time of a step follows from it.

    Attributes:
        layers: parts with weights of their own.
        multiply_adds: of a forward of one image.
    """

    layers: int
    multiply_adds: int


@dataclass(frozen=True)
class Steps:
    """Steps of one kind that a run still has to take.

    Attributes:
        count: how many.
        forwards, backwards: of the network in each.
        images: in a forward.
    """

    count: int
    forwards: int
    backwards: int
    images: int

    @property
    def passes(self) -> int:
        """Passes through all layers in a step: a backward is two, for images and for weights."""
        return self.forwards + 2 * self.backwards

    def flops(self, size: Size) -> float:
        """Return the arithmetic of a step of a network of `size`."""
        return 2.0 * size.multiply_adds * self.passes * self.images


@dataclass(frozen=True)
class Measured:
    """What was measured of one step of one network, in seconds.

    Attributes:
        size, step: of what it was measured.
        translating: until the translated step was ready.
        usual: a step as it is, which waits for the CPU.
        translated: a translated one, which computes all the time.
    """

    size: Size
    step: Steps
    translating: float
    usual: float
    translated: float

    def cost(self, size: Size, steps: Steps) -> float:
        """Return the seconds that translating takes; never less than was measured."""
        passes = self.step.passes * self.size.layers
        return self.translating * max(1.0, steps.passes * size.layers / passes)

    def saved(self, size: Size, steps: Steps) -> float:
        """Return the seconds that all `steps` take less when they are translated."""
        start = self.usual / (self.step.passes * self.size.layers)  # of a layer in a pass
        second = self.step.flops(self.size) / self.translated  # FLOP in it
        each = start * steps.passes * size.layers - steps.flops(size) / second
        return steps.count * max(0.0, each)


# By the kind of device. NVIDIA H200, PyTorch 2.11: the MixMatch step of ResNet-18, width 64, batch
# 64, 32x32 pixels (docs/speed.md, "The first GPU"). On a CPU a translated step took between 2 %
# less and 9 % more than one as it is ("On a CPU nothing is translated"), so it saves nothing there.
MEASURED = {
    "cuda": Measured(
        Size(layers=41, multiply_adds=555_422_720),
        Steps(count=1, forwards=5, backwards=3, images=64),
        translating=32.0,
        usual=0.0294,
        translated=0.0064,
    )
}


@dataclass(frozen=True)
class Decision:
    """Which way `speed.compile: auto` went, and why, for a line."""

    translate: bool
    why: str


def size_of(network: nn.Module, image: tuple[int, int]) -> Size:
    """Return the size of `network` for images of (H, W) pixels; nothing is learnt."""
    layers = sum(any(True for _ in part.parameters(recurse=False)) for part in network.modules())
    return Size(layers, multiply_adds(network, image))


def decide(kind: str, processes: int, size: Callable[[], Size], steps: Iterable[Steps]) -> Decision:
    """Return whether steps are translated.

    Args:
        kind: of the device, `cuda` or `cpu`.
        processes: that share a step.
        size: returns the network's; asked only where it matters.
        steps: that the run still has to take, each kind of them once; each is translated by itself.
    """
    if processes > 1:
        return Decision(False, "steps run as they are, since several processes share each of them")
    measured = MEASURED.get(kind)
    if measured is None:
        return Decision(False, f"steps run as they are; on a {kind.upper()} that takes no longer")
    whole, asked = size(), [each for each in steps if each.count]
    cost = sum(measured.cost(whole, each) for each in asked)
    saved = sum(measured.saved(whole, each) for each in asked)
    left = f"the {sum(each.count for each in asked):,} steps that are left"
    if saved > cost:
        why = f"steps are translated; that takes about {cost:,.0f} s and saves {saved:,.0f} s of"
        return Decision(True, f"{why} {left}")
    why = f"steps run as they are; translating takes about {cost:,.0f} s and would save"
    return Decision(False, f"{why} {saved:,.0f} s of {left}")
