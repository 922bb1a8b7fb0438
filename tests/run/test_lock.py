"""One run's folder, one process that trains into it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from run.checkpoint import BEST, DAMAGED, LATEST, PREVIOUS, load_checkpoint, set_damaged_aside
from run.folder import RunFolder
from run.lock import holder_file, lock_file, refuse_if_held, sole_writer
from run.resume import Resumption, find_start
from run.standing import refuse_if_ended_since, refuse_without_checkpoint
from tests.run.checkpoints import whole_state
from tests.run.processes import finished, opened, start, wait_until
from utils.errors import InputError

SCRATCH = Resumption(None, None, False, "from scratch")
HOLD = """
import sys
from pathlib import Path
from run.lock import sole_writer
from run.resume import Resumption
with sole_writer(Path(sys.argv[1]), Resumption(None, None, False, "")):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Start a process that holds the lock of `folder` until its input ends."""
    process = opened([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stderr=None)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_written_by_one_process_however_that_ends(tmp_path: Path) -> None:
    folder, link = tmp_path / "new" / "run", tmp_path / "link"
    link.symlink_to(folder)
    process = hold(folder)
    said = f"is being written by process {process.pid} on {socket.gethostname()}"
    for path in (folder, link):
        with pytest.raises(InputError, match=said):
            refuse_if_held(path)
        with pytest.raises(InputError, match=said), sole_writer(path, SCRATCH):
            pass
    with sole_writer(tmp_path / "new" / "other", SCRATCH):
        pass
    process.kill()
    process.communicate()
    for _ in range(2):
        refuse_if_held(folder)
        with sole_writer(folder, SCRATCH):
            pass


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"process": "x", "host": 1}', b"\xff", b"[" * 4000]
)
def test_a_holder_that_has_not_said_who_it_is(tmp_path: Path, content: bytes) -> None:
    process = hold(tmp_path / "run")
    holder_file(tmp_path / "run").write_bytes(content)
    with (
        pytest.raises(InputError, match="by another process"),
        sole_writer(tmp_path / "run", SCRATCH),
    ):
        pass
    process.communicate("")
    assert process.returncode == 0


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="storage_dir"),
        sole_writer(tmp_path / "file" / "run", SCRATCH),
    ):
        pass
    lock_file(tmp_path / "run").mkdir()
    with (
        pytest.raises(InputError, match="cannot be locked"),
        sole_writer(tmp_path / "run", SCRATCH),
    ):
        pass


@pytest.mark.parametrize("before", [None, 1])
def test_what_was_written_since_it_was_read_is_not_overwritten(
    tmp_path: Path, before: int | None
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    latest = folder.checkpoints / LATEST
    if before is not None:
        torch.save(whole_state(before), latest)
    found = find_start(folder, None, 9)
    with sole_writer(folder.path, found):
        torch.save(whole_state(2), folder.checkpoints / "new.pt")
        os.replace(folder.checkpoints / "new.pt", latest)
    with pytest.raises(InputError, match="give the command again"), sole_writer(folder.path, found):
        pass
    with sole_writer(folder.path, find_start(folder, "False", 9)):
        pass


def test_a_damaged_latest_never_takes_the_place_of_the_good_one_before(tmp_path: Path) -> None:
    (tmp_path / LATEST).write_bytes(b"damaged")
    torch.save(whole_state(1), tmp_path / PREVIOUS)
    set_damaged_aside(tmp_path / BEST)
    assert (tmp_path / LATEST).exists()
    set_damaged_aside(tmp_path / PREVIOUS)
    assert not (tmp_path / LATEST).exists()
    assert (tmp_path / DAMAGED).read_bytes() == b"damaged"
    assert load_checkpoint(tmp_path / PREVIOUS)["epoch"] == 1
    (tmp_path / LATEST).mkdir()  # a folder in its place; nothing can be in the way of it
    (tmp_path / DAMAGED).unlink()
    set_damaged_aside(tmp_path / PREVIOUS)
    assert (tmp_path / DAMAGED).is_dir()


def seeds_in(folder: Path) -> set[int]:
    """Return all seeds that a finished run's files tell."""
    told = {
        json.loads((folder / name).read_text())["seed"] for name in ("manifest.json", "result.json")
    }
    return told | {load_checkpoint(folder / "checkpoint" / LATEST)["seed"]}


def test_two_starts_of_one_name(tmp_path: Path) -> None:
    """The second is refused while the first trains; a report of it may be written meanwhile."""
    first = start(tmp_path, "seed.seed=100", paused=True)
    wait_until((tmp_path / "digits" / "checkpoint" / LATEST).exists, first)
    second, report = start(tmp_path, "seed.seed=7"), start(tmp_path, "seed.seed=100", "--report")
    code, _, errors = finished(second)
    assert code == 2
    assert f"is being written by process {first.pid} on {socket.gethostname()}" in errors
    assert len(errors.splitlines()) == 1
    code, said, _ = finished(report)
    assert code == 0
    told = r"still training, epoch 1 of 3, .+ left"
    assert re.search(told, said)
    page = tmp_path / "digits" / "report" / "report.html"
    assert re.search(told, page.read_text(encoding="utf-8"))
    (tmp_path / "go").touch()
    assert finished(first)[0] == 0
    assert seeds_in(tmp_path / "digits") == {100}
    assert not (tmp_path / "digits.1").exists()


def test_a_report_asked_for_in_the_first_epoch_says_when_there_will_be_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    with pytest.raises(InputError, match="there is no checkpoint in") as alone:
        refuse_without_checkpoint(SCRATCH, folder)
    assert "first epoch" not in str(alone.value)
    process = hold(folder.path)
    said = f"process {process.pid} on .* writes one at the end of its first epoch"
    with pytest.raises(InputError, match=said):
        refuse_without_checkpoint(SCRATCH, folder)
    process.communicate("")


def test_a_report_of_an_early_epoch_never_replaces_that_of_the_end(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    latest = folder.checkpoints / LATEST
    torch.save(whole_state(1), latest)
    found = find_start(folder, None, 2)
    refuse_if_ended_since(found, folder)
    torch.save(whole_state(2), folder.checkpoints / "new.pt")
    os.replace(folder.checkpoints / "new.pt", latest)
    refuse_if_ended_since(found, folder)  # it goes on, and only the end leaves a report
    folder.result.write_text("{}")
    with pytest.raises(InputError, match="the run ended while"):
        refuse_if_ended_since(found, folder)
    refuse_if_ended_since(find_start(folder, None, 2), folder)


def test_two_starts_at_the_same_moment(tmp_path: Path) -> None:
    both = {seed: start(tmp_path, f"seed.seed={seed}") for seed in (100, 7)}
    ended = {seed: finished(process) for seed, process in both.items()}
    codes = {seed: code for seed, (code, _, _) in ended.items()}
    (refused,) = [seed for seed, code in codes.items() if code == 2]
    (kept,) = [seed for seed, code in codes.items() if code == 0]
    assert ended[refused][2].count("\n") == 1
    assert seeds_in(tmp_path / "digits") == {kept}


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    killed = start(tmp_path, paused=True)
    wait_until((tmp_path / "digits" / "checkpoint" / LATEST).exists, killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    code, said, _ = finished(start(tmp_path))
    assert code == 0
    assert "going on at epoch 1" in said
