"""Ctrl-C before a program has read PyTorch, and a process without stdout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils.files import PROJECT

PATIENCE = 300.0  # seconds
ENDLESS = "import time\nprint('reading', flush=True)\ntime.sleep(600)\n"
PROGRAMS = {
    "ASD": ["ASD.py"],
    "run_all": ["run_all.py", "config/small/blend.yaml"],
    "benchmark": ["-m", "benchmark.scale"],
}


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_ctrl_c_while_pytorch_is_read_is_one_line(program: list[str], tmp_path: Path) -> None:
    """A PyTorch takes its place here whose import never ends."""
    (tmp_path / "torch.py").write_text(ENDLESS)
    started = subprocess.Popen(
        [sys.executable, *program],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stdout is not None and started.stdout.readline() == "reading\n"
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=PATIENCE)
    finally:
        started.kill()
    assert (started.returncode, err) == (130, "stopped; nothing was under way\n")


def test_a_process_without_stdout_gives_its_number_to_no_file(tmp_path: Path) -> None:
    """Where stdout is closed, the next file would get its number, and all that is printed."""
    text = "import os; os.close(1)"
    text += "; import sys; sys.stdout = None"
    text += "; from utils.starting import hear_interrupts; hear_interrupts()"
    text += f"; file = open({str(tmp_path / 'file')!r}, 'w'); os.write(1, b'line')"
    subprocess.run([sys.executable, "-c", text], cwd=PROJECT, check=True, timeout=PATIENCE)
    assert (tmp_path / "file").read_text() == ""
