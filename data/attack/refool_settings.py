"""Ranges from which Refool draws; see `data.attack.refool`."""

from __future__ import annotations

from pydantic import Field, model_validator

from utils.section import Section

MOST_SIGMA = 100.0  # pixels; a wider blur leaves one grey of images of any usual size


class Range(Section):
    """Two numbers, `low` and `high`, between which one is drawn."""

    low: float = Field(ge=0)
    high: float = Field(ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


class Transmission(Range):
    """The share of the light that comes through the glass."""

    low: float = Field(default=0.55, ge=0, le=1)
    high: float = Field(default=0.95, ge=0, le=1)


class Sigma(Range):
    """Standard deviation of the blur, in pixels."""

    low: float = Field(default=1.0, gt=0, le=MOST_SIGMA)
    high: float = Field(default=5.0, gt=0, le=MOST_SIGMA)


class Offset(Section):
    """Distance of the two images of a ghost along each axis, in pixels, both ends included."""

    low: int = Field(default=3, ge=0)
    high: int = Field(default=8, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Offset:
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self
