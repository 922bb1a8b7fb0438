"""`--gpu cpu,cpu`: processes that meet on this machine alone, and end with their launcher."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ASD
from run.lock import refuse_if_held, sole_writer
from run.resume import Resumption
from tests.conftest import DIGITS, TINY
from tests.run.processes import PATIENCE, SHORT, opened, wait_until
from utils import launch
from utils.errors import InputError, TrainingError
from utils.launch import DONE, LOST_CONTACT
from utils.place import Place, is_first_process, read_place

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def children(process: int) -> list[int]:
    """Return the processes that `process` has started, and that live."""
    listed = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True)
    return [int(word) for word in listed.stdout.split()]


def listening(process: int) -> set[str]:
    """Return the IPv4 and IPv6 addresses, as the kernel writes them, at which a process listens."""
    links = [os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir()]
    own = {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in own:
                found.add(words[1].partition(":")[0])
    return found


def is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="asks Linux who listens")
def test_workers_listen_on_loopback_alone_and_end_with_a_killed_launcher(tmp_path: Path) -> None:
    command = [sys.executable, "ASD.py", "--config", str(DIGITS), "--gpu", "cpu,cpu", *TINY, *SHORT]
    command += [f"storage_dir={tmp_path}", "semi.mixmatch.train_iteration=100000"]
    running = opened(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until((tmp_path / "digits" / "manifest.json").exists, running)
    workers = children(running.pid)
    assert len(workers) == 2
    addresses = set.union(*(listening(process) for process in [running.pid, *workers]))
    assert addresses  # gloo's
    assert addresses <= {"0100007F", "00000000000000000000000001000000"}
    with pytest.raises(InputError, match="is being written by process"):
        refuse_if_held(tmp_path / "digits")
    running.send_signal(signal.SIGKILL)
    running.wait()
    deadline = time.monotonic() + PATIENCE
    while not all(is_gone(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with sole_writer(tmp_path / "digits", Resumption(None, None, False, "")):
        pass


def test_a_terminated_launcher_has_its_processes_save(tmp_path: Path) -> None:
    command = [sys.executable, "ASD.py", "--config", str(DIGITS), "--gpu", "cpu,cpu", *TINY, *SHORT]
    command += [f"storage_dir={tmp_path}", "semi.mixmatch.train_iteration=100000"]
    running = opened(command)
    wait_until((tmp_path / "digits" / "manifest.json").exists, running)
    workers = children(running.pid)
    running.send_signal(signal.SIGTERM)
    out, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode == 128 + signal.SIGTERM, errors
    assert out.count("stopped; saved at epoch 0") == 1
    assert (tmp_path / "digits" / "checkpoint" / "latest_model.pt").exists()
    assert all(is_gone(worker) for worker in workers)


@pytest.mark.parametrize(
    "told",
    [{"LOCAL_RANK": "x"}, {"LOCAL_RANK": "-1"}, {"LOCAL_RANK": ""}, {"LOCAL_RANK": "9" * 400},
     {"LOCAL_RANK": "²"}, {"RANK": "x"}, {"RANK": "1"}, {"WORLD_SIZE": "two"}, {"WORLD_SIZE": "0"},
     {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "2"}, {"LOCAL_WORLD_SIZE": "0"},
     {"WORLD_SIZE": "2", "RANK": "0"}, {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"},
     {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "x"}],
)  # fmt: skip
def test_a_wrong_environment_is_said_in_a_line(
    told: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in (*VARIABLES, "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, text in told.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(ASD, "follow_launcher", lambda: None)
    assert ASD.main(["--config", str(DIGITS), "--check", f"storage_dir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert len(error) <= 301


def test_the_place_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert read_place() == Place(0, 1, 0, 1)
    assert is_first_process()
    for name, text in zip(VARIABLES, ("3", "4", "1", "2"), strict=True):
        monkeypatch.setenv(name, text)
    assert read_place() == Place(3, 4, 1, 2)
    assert not is_first_process()


@pytest.mark.parametrize(
    ("codes", "outcome"),
    [((0, 0), 0), ((4, 4), 4), ((0, 3), 3), ((2, LOST_CONTACT), 2), ((LOST_CONTACT, 1), 1),
     ((143, 143), 143), ((2, None), 2)],
)  # fmt: skip
def test_the_exit_code_of_several(codes: tuple[int | None, ...], outcome: int) -> None:
    assert launch._outcome(codes) == outcome
    assert LOST_CONTACT not in DONE


@pytest.mark.parametrize(
    ("codes", "rank"), [((LOST_CONTACT, -9), 1), ((-11, None), 0), ((None, 77), 1), ((-6, -9), 1)]
)
def test_a_process_that_died_is_named(codes: tuple[int | None, ...], rank: int) -> None:
    with pytest.raises(TrainingError, match=f"process {rank} of 2 died"):
        launch._outcome(codes)


def test_loopback_is_an_interface_of_this_machine() -> None:
    names = [name for _, name in socket.if_nameindex()]
    assert all(name in names for name in launch.loopback().values())
