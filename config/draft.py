"""A configuration that is being settled: nested settings by dotted keys."""

from __future__ import annotations

from typing import Any

from data.survey import Facts
from model.backbone import is_pretrained


class Draft:
    """A configuration that is being settled.

    Args:
        merged: nested settings, some of them `auto`; changed in place.
        facts: about data and device.
    """

    def __init__(self, merged: dict[str, Any], facts: Facts) -> None:
        self.merged, self.facts = merged, facts

    def get(self, key: str) -> Any:
        """Return the value at a dotted key; None where there is none."""
        place: Any = self.merged
        for part in key.split("."):
            place = place.get(part) if isinstance(place, dict) else None
        return place

    def set(self, key: str, value: Any) -> None:
        """Put `value` at a dotted key that is there."""
        *parents, last = key.split(".")
        place = self.merged
        for part in parents:
            place = place[part]
        place[last] = value

    def number(self, key: str, otherwise: float) -> int:
        """Return the whole number at a dotted key, or `otherwise` where there is none above 0."""
        value = self.get(key)
        is_number = isinstance(value, int) and not isinstance(value, bool) and value > 0
        return int(value) if is_number else round(otherwise)

    @property
    def device(self) -> str:
        """What the run is on, for a sentence."""
        return "on a GPU" if self.facts.gpu else "on a CPU"

    @property
    def side(self) -> int:
        """Side of the stored images, in pixels."""
        return self.number("data.image_size", self.facts.side)

    @property
    def pretrained(self) -> bool:
        """Whether the network starts from weights that were learnt elsewhere."""
        return is_pretrained(self.get("network"))

    @property
    def epochs(self) -> int:
        """Epochs of the run."""
        return self.number("num_epochs", 1)
