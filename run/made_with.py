"""With what a run was made: device, program and versions, as they were when its weights were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from run.fingerprints import same_data
from run.results import read_result
from run.versions import git_commit, versions
from utils.device import device_name
from utils.errors import InputError

if TYPE_CHECKING:
    from run.session import Session


def made_with(session: Session) -> dict[str, Any]:
    """Return what trained the model as it is: `device`, `engine`, `git_commit`, `versions`.

    Where this process has trained nothing, as with `--report`, the run's own word stands; beside it
    is what has looked at it now, if that is another one.
    """
    now = {
        "device": device_name(session.engine.device),
        "engine": str(session.engine),
        "git_commit": git_commit(),
        "versions": versions(),
    }
    then = trained_with(session)
    if not now.keys() <= then.keys():
        return now
    kept = {key: then[key] for key in now}
    return kept if kept == now else kept | {"reported_with": now}


def trained_with(session: Session) -> dict[str, Any]:
    """Return the result that the run has left with these weights; empty where there is none."""
    try:
        result = read_result(session.folder.result)
    except InputError:
        return {}
    same = same_data(result.get("fingerprints", {}), session.material.fingerprints)
    return result if same and result.get("epochs") == session.progress.epoch else {}
