"""How far values scatter, told so that a few outliers among them hardly matter."""

from __future__ import annotations

from torch import Tensor

MAD_TO_SIGMA = 1.4826  # of normal values: sigma over the median absolute deviation


def robust_deviation(distances: Tensor) -> Tensor:
    """Return the standard deviation of values, a scalar, from their median distance.

    Of normal values it is their standard deviation; of others as well it is a unit that less than
    half of them cannot move far. It is 0 where more than half of the values are equal.

    Args:
        distances: (n,) float of at least one value, each less their middle; the sign is not read.
    """
    return MAD_TO_SIGMA * distances.abs().median()
