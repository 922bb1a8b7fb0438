"""How long the whole run still takes, from the epochs that are done.

Stages differ in cost, so the time of an epoch is taken apart. What a step takes is known from the
speed in the log. All else, splits and tests, is counted in extra forwards of single images; one
that is trained on counts three times. A stage that no epoch was in yet is told with a wider range,
and so is a run with one epoch done, whose first split also asked the witnesses. Where nothing is
done, nothing is told.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from run.measure import tested_images

if TYPE_CHECKING:
    from run.session import Session

UNSEEN = 1.5  # by how much what was not seen yet may take longer, or shorter, than estimated
FORWARD = 1 / 3  # of the time that training on an image takes
CLOSE = 1.25  # a range that is no wider is told as one number
RECENT = 8  # epochs whose speed counts: machines become busy, and free again
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cost:
    """What an epoch costs, by the plan.

    Attributes:
        stage: its name.
        steps: optimiser steps.
        images: forwards of single images in a step; steps with as many take as long.
        extra_forwards: forwards of single images outside the steps.
    """

    stage: str
    steps: int
    images: int
    extra_forwards: int


@dataclass(frozen=True)
class Span:
    """A time, in seconds, that is known to lie in a range."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Span:
        """Return the span of something so many times as large."""
        return Span(self.low * factor, self.high * factor)

    def widened(self) -> Span:
        """Return the span of what was not seen yet."""
        return Span(self.low / UNSEEN, self.high * UNSEEN)

    def __str__(self) -> str:
        if self.high <= self.low * CLOSE:
            return f"about {duration((self.low + self.high) / 2)}"
        first, last = duration(self.low).split(), duration(self.high).split()
        if first == last:
            return f"about {' '.join(first)}"
        same_unit = len(first) == len(last) == 2 and first[1] == last[1]
        return f"{' '.join(first[:1] if same_unit else first)} to {' '.join(last)}"


def duration(seconds: float) -> str:
    """Return a time for a person: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{max(10 * round(seconds / 10), 10)} s"
    return in_minutes(seconds)


def in_minutes(seconds: float) -> str:
    """Return a time of some minutes or hours."""
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def time_left(session: Session) -> Span | None:
    """Return what the epochs that are not done take; None before the first, and after the last."""
    return estimate(plan_costs(session), session.progress.rows)


def plan_costs(session: Session) -> list[Cost]:
    """Return the cost of every epoch of the run, in order."""
    config, defense = session.config, session.defense
    tested = tested_images(session.truth)
    return [
        Cost(
            stage=defense.stage(epoch),
            steps=defense.steps_in(epoch),
            images=defense.images_in_step(epoch),
            extra_forwards=defense.extra_forwards(epoch) + tested * config.is_tested(epoch),
        )
        for epoch in range(config.num_epochs)
    ]


def estimate(costs: Sequence[Cost], rows: Sequence[Row]) -> Span | None:
    """Return the time that is left.

    Args:
        costs: of all epochs.
        rows: of the log, of the epochs that are done; `seconds` and `images_per_second` are read.
    """
    if not rows or len(rows) >= len(costs):
        return None
    done = list(zip(costs, rows, strict=False))
    left, seen = costs[len(rows) :], {cost.stage for cost, _ in done}
    step, forward = step_times(done), forward_time(done)
    total = Span(0.0, 0.0)
    for cost in left:
        around = forward.times(cost.extra_forwards)
        total += around if cost.stage in seen else around.widened()
        total += of_one_step(cost, step).times(cost.steps)
    return total


def step_time(cost: Cost, row: Row) -> float:
    """Return the seconds that a step of a finished epoch took; the log rounds its speed."""
    most = float(row["seconds"]) / max(cost.steps, 1)
    speed = float(row.get("images_per_second") or 0.0)  # an early log has none
    return min(cost.images / speed, most) if speed else most


def step_times(done: Sequence[tuple[Cost, Row]]) -> dict[int, Span]:
    """Return what a step takes, by the images in it, for those that were seen."""
    found: dict[int, list[float]] = defaultdict(list)
    for cost, row in done:
        found[cost.images].append(step_time(cost, row))
    return {images: spread(times[-RECENT:]) for images, times in found.items()}


def of_one_step(cost: Cost, seen: Mapping[int, Span]) -> Span:
    """Return what a step takes; of a kind that was not seen, what as many images of others do."""
    if cost.images in seen:
        return seen[cost.images]
    shares = [span.times(cost.images / images) for images, span in seen.items()]
    return Span(min(one.low for one in shares), max(one.high for one in shares)).widened()


def forward_time(done: Sequence[tuple[Cost, Row]]) -> Span:
    """Return what an extra forward takes: from all epochs but the first, if others had some.

    In the first one witnesses are trained, code is translated, and memory is taken. An epoch that
    keeps its pools and is not tested says nothing.
    """
    times = [time_of_forward(cost, row) for cost, row in done[1:] if cost.extra_forwards]
    if times:
        return spread(times[-RECENT:])
    cost, row = done[0]
    least = FORWARD * step_time(cost, row) / cost.images
    if not cost.extra_forwards:
        return Span(least, least).widened()
    first = time_of_forward(cost, row)
    return Span(min(least, first), first)


def time_of_forward(cost: Cost, row: Row) -> float:
    """Return the seconds of an extra forward in a finished epoch that had some."""
    around = max(float(row["seconds"]) - cost.steps * step_time(cost, row), 0.0)
    return around / cost.extra_forwards


def spread(values: Sequence[float]) -> Span:
    """Return the range of the inner half of what was measured; of few values, of all."""
    if len(values) < 4:
        return Span(min(values), max(values))
    low, _, high = statistics.quantiles(values, n=4)
    return Span(low, high)
