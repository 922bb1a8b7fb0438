"""How far a run has come, in words; also one that another process trains at the moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from run.folder import RunFolder
from run.forecast import Span, time_left
from run.lock import holder, is_held
from run.resume import Resumption
from utils.errors import InputError
from utils.files import signature

if TYPE_CHECKING:
    from run.session import Session


@dataclass(frozen=True)
class Standing:
    """How far a run has come.

    Attributes:
        done, planned: epochs.
        running: whether another process trains on.
        left: what the rest takes, counted from the end of the last epoch; None: nobody can tell.
    """

    done: int
    planned: int
    running: bool = False
    left: Span | None = None

    @property
    def finished(self) -> bool:
        """Whether the run reached its last epoch."""
        return self.done >= self.planned

    def __str__(self) -> str:
        place = f"epoch {self.done} of {self.planned}"
        if self.finished:
            return f"finished, {place}"
        left = "" if self.left is None else f", {self.left} left"
        return f"still training, {place}{left}" if self.running else f"stopped after {place}{left}"


def standing_of(session: Session) -> Standing:
    """Return how far the run has come, by its last checkpoint; a repair is there at its end."""
    done, planned = session.progress.epoch, session.config.num_epochs
    if session.config.repair.method is not None:
        planned = done
    if done >= planned:
        return Standing(done, planned)
    return Standing(done, planned, is_held(session.folder.path), time_left(session))


def remarks_on(session: Session, report: bool, trained: bool) -> list[str]:
    """Return what a person should know who looks at a run.

    Args:
        session: the run.
        report: whether its report is written anew.
        trained: whether it has just been trained.
    """
    if report:
        standing = standing_of(session)
        return [] if standing.finished else [f"{session.folder.path}: {standing}"]
    state = session.setup.start.own_state
    known = None if state is None else state["config"].get("review")
    if trained or session.config.review in (None, known):
        return []
    return [
        f"review: {session.config.review} is not applied, as nothing is trained or ranked: "
        f"--report ranks with it, --resume False trains with it"
    ]


def refuse_without_checkpoint(start: Resumption, folder: RunFolder) -> None:
    """Raise `InputError` where there is nothing yet that a report could be made of."""
    if start.state is not None:
        return
    where = f"--report: there is no checkpoint in {folder.checkpoints}"
    if is_held(folder.path):
        where += f" yet; {holder(folder.path)} writes one at the end of its first epoch"
    raise InputError(where)


def refuse_if_ended_since(start: Resumption, folder: RunFolder) -> None:
    """Raise `InputError` where the run has ended since its checkpoint was read for a report.

    It has written its own report, which that of an earlier epoch must not replace.
    """
    has_moved = start.latest is not None and signature(start.latest) != start.seen
    if has_moved and folder.result.exists():
        raise InputError(
            f"--report: the run ended while its state was looked at, and has left its own report "
            f"in {folder.report}; nothing was written"
        )
