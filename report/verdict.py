"""Whether a set looks poisoned, for data of which nobody knows the truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Name = Literal["poisoned", "no_sign", "cannot_tell"]


@dataclass(frozen=True)
class Verdict:
    """What a run says of a data set as a whole.

    Attributes:
        name: `poisoned`, `no_sign` (of poison), or `cannot_tell`.
        suspected_target: the class that the poison is labelled with, by name; None unless
            `poisoned`.
        estimated_poisoned: about how many samples are poisoned; 0 unless `poisoned`.
        statistics: the numbers behind it, by name, and the thresholds they are held against.
        reasons: sentences for a reader.
    """

    name: Name
    suspected_target: str | None
    estimated_poisoned: int
    statistics: dict[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
