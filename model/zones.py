"""Which outputs of a convolution reach which taps (positions in the kernel), along one side."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Zone(NamedTuple):
    """Outputs `start` to `stop` along one side of a map; all reach taps `first` to `end`."""

    start: int
    stop: int
    first: int
    end: int

    def taps(self) -> slice:
        """Return the taps."""
        return slice(self.first, self.end)

    def outputs(self) -> slice:
        """Return the outputs."""
        return slice(self.start, self.stop)

    def inputs(self, tap: int, kernel: int, stride: int) -> slice:
        """Return the inputs that the outputs meet under `tap`."""
        first = self.start * stride + tap - kernel // 2
        return slice(first, first + (self.stop - self.start - 1) * stride + 1, stride)


def outputs_along(size: int, stride: int) -> int:
    """Return how many outputs there are along a side of so many inputs."""
    return (size - 1) // stride + 1


def zones(size: int, kernel: int, stride: int) -> list[Zone]:
    """Return the zones along a side of `size` inputs, padded by half a kernel of odd size."""
    found: list[Zone] = []
    for output in range(outputs_along(size, stride)):
        origin = output * stride - kernel // 2  # the input under tap 0
        first, end = max(0, -origin), min(kernel, size - origin)
        same = bool(found) and found[-1][2:] == (first, end)
        start = found.pop().start if same else output
        found.append(Zone(start, output + 1, first, end))
    return found


def zone_of(tap: int, size: int, kernel: int, stride: int) -> Zone | None:
    """Return all outputs along a side that reach `tap`; None where it meets nothing but padding."""
    reaching = [zone for zone in zones(size, kernel, stride) if zone.first <= tap < zone.end]
    return Zone(reaching[0].start, reaching[-1].stop, tap, tap + 1) if reaching else None


def count_outputs(images: Tensor, stride: int) -> int:
    """Return how many outputs (N * H' * W') `images` (N, C, H, W) have, over all of them."""
    height, width = (outputs_along(size, stride) for size in images.shape[2:])
    return images.shape[0] * height * width
