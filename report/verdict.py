"""What a run says of a data set as a whole: the verdict, in words, and in files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from run.results import read_result
from utils.errors import EXIT_CANNOT_TELL, EXIT_POISONED, InputError
from utils.files import read_regular

VERDICT_FILE = "verdict.json"
EPOCH = "epoch"  # of the report: key of that file, for the number of finished ones
MOST_BYTES = 2**24  # of an earlier verdict
Name = Literal["poisoned", "no_sign", "cannot_tell"]
EXIT_CODES = {"no_sign": 0, "poisoned": EXIT_POISONED, "cannot_tell": EXIT_CANNOT_TELL}
# What the absence of a sign says nothing about, by the name that `result.json` has for it.
UNSEEN_KINDS = {
    "clean_label": "poison whose labels are right (SIG, CLB and other clean-label attacks)",
    "one_source": "a backdoor that starts from one class only",
    "many_targets": "poison with more than three labels, or with all",
    "learnt": "poison that the model has learnt, so that it believes the labels",
    "few": "a handful of poisoned samples",
}


@dataclass(frozen=True)
class Verdict:
    """What a run says of a data set as a whole.

    Attributes:
        name: `poisoned`, `no_sign` (of poison), or `cannot_tell`.
        suspected_target: the class that the poison is most clearly labelled with, by name; None
            unless `poisoned`.
        estimated_poisoned: about how many samples are poisoned; 0 unless `poisoned`.
        statistics: the numbers behind it, by name, and the thresholds they are held against.
        reasons: sentences for a reader.
        suspected_targets: all classes that it is labelled with, the clearest first.
        estimated_range: where the number of poisoned samples lies.
        unseen_kinds: of poison, that the verdict `no_sign` says nothing about.
    """

    name: Name
    suspected_target: str | None
    estimated_poisoned: int
    statistics: dict[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    suspected_targets: tuple[str, ...] = ()
    estimated_range: tuple[int, int] = (0, 0)
    unseen_kinds: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what to say of it on the console."""
        said = {"no_sign": "no sign of poison", "cannot_tell": "cannot tell"}
        lines = [f"verdict: {said.get(self.name) or self.accusation()}"]
        return [*lines, *(f"  {reason}" for reason in (*self.reasons, *self.limits()))]

    @property
    def targets(self) -> tuple[str, ...]:
        """All suspected targets; of a verdict read from a file perhaps only the first."""
        first = () if self.suspected_target is None else (self.suspected_target,)
        return self.suspected_targets or first

    def accusation(self) -> str:
        """Return what `poisoned` means, on the console."""
        names = " or ".join(map(repr, self.targets))
        low, high = self.estimated_range
        between = f" ({low:,} to {high:,})" if high else ""
        return (
            f"poisoned, or systematically mislabelled: about {self.estimated_poisoned:,} samples"
            f"{between} labelled {names}"
        )

    def limits(self) -> list[str]:
        """Return what it does not say anything about, as a line; none but for `no_sign`."""
        if not self.unseen_kinds:
            return []
        return [f"not seen by this: {'; '.join(UNSEEN_KINDS[kind] for kind in self.unseen_kinds)}"]

    def as_result(self) -> dict[str, Any]:
        """Return its part of `result.json`."""
        return {
            "verdict": self.name,
            "suspected_target": self.suspected_target,
            "suspected_targets": list(self.suspected_targets),
            "estimated_poisoned": self.estimated_poisoned,
            "estimated_range": list(self.estimated_range),
            "unseen_kinds": list(self.unseen_kinds),
        }


def read_verdict(result: Path) -> Verdict | None:
    """Return the verdict in a finished run's `result.json`; None where there is none, or damage."""
    try:
        found = read_result(result)
    except InputError:
        return None
    if found.get("verdict") not in EXIT_CODES:
        return None
    return Verdict(
        found["verdict"], found.get("suspected_target"), found.get("estimated_poisoned") or 0
    )


def read_report(folder: Path) -> dict[str, Any]:
    """Return what the report in `folder` holds of its verdict; nothing of an unreadable one."""
    try:
        found = json.loads(read_regular(folder / VERDICT_FILE, MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def told(verdict: Verdict | None, result: Path) -> str:
    """Return the line on a verdict that the file `result` holds, and which decides a gate."""
    if verdict is not None:
        return f"{result}: {verdict.name}"
    return (
        f"no verdict is known: {result} holds none, which is exit code {EXIT_CANNOT_TELL}; the run "
        f"gives one at its end, or as it is with --report"
    )


def exit_code(verdict: Verdict | None) -> int:
    """Return the exit code of `--fail-on-suspicion`: 0, 3 (poisoned) or 4 (cannot tell)."""
    return EXIT_CODES["cannot_tell" if verdict is None else verdict.name]
