"""A repair is a run of its own: of which model, with which samples, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import ASD
from command.arguments import parse_arguments
from config.load import load_config
from run.product import load_model
from run.repairing import repaired_session
from run.setup import set_up
from tests.conftest import DIGITS, TINY
from tests.data.own_data_cases import make_folder, names
from tests.run.processes import PATIENCE, finished, opened, wait_until
from utils.files import PROJECT
from utils.interrupt import Interrupt

OF_NAD = ("repair.nad.teacher_epochs=1", "repair.nad.num_epochs=2")
OF_PRUNING = ("repair.fine_pruning.num_epochs=2", "repair.fine_pruning.step=0.2")
SHORT = (*OF_NAD, *OF_PRUNING, "repair.clean_fraction=0.2")


def given(storage: Path, name: str, *more: str) -> list[str]:
    words = ["--config", str(DIGITS), "--gpu", "cpu", "--name", name, *TINY, "defense=none"]
    return [*words, "num_epochs=1", *SHORT, f"storage_dir={storage}", *more]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run without a defence."""
    folder = tmp_path_factory.mktemp("repairs")
    assert ASD.main(given(folder, "x_none")) == 0
    return folder


@pytest.mark.parametrize("method", ["fine_pruning", "nad"])
def test_a_repair_leaves_a_run_and_the_first_one_alone(
    method: str, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in (storage / "x_none").glob("*.*")}
    assert ASD.main(given(storage, f"x_{method}", f"repair.method={method}")) == 0
    out = capsys.readouterr().out
    assert "with 60 clean samples" in out
    assert "| x_none" in out  # beside the run that it repairs
    for file, content in before.items():
        assert file.read_bytes() == content
    folder = storage / f"x_{method}"
    result = json.loads((folder / "result.json").read_text())
    assert result["defense"] == method
    assert 0 <= result["acc"] <= 1
    assert 0 <= result["asr"] <= 1
    assert result["seconds"] > 0
    done = json.loads((folder / "repair.json").read_text())
    assert (done["of"], done["clean_samples"]) == ("x_none", 60)
    old, new = (load_model(storage / name)[0].state_dict() for name in ("x_none", folder.name))
    assert any(not torch.equal(old[key], new[key]) for key in old)
    assert (
        len((folder / "log.csv").read_text().splitlines()) == {"fine_pruning": 3, "nad": 4}[method]
    )


def killed(method: str, function: str, call: int) -> str:
    """Return code of a run that is killed when a function of the repair is called again."""
    return (
        "import os, sys\n"
        f"import repair.{method} as room\n"
        f"calls, real = [0], room.{function}\n"
        "def deadly(*given):\n"
        "    calls[0] += 1\n"
        f"    if calls[0] == {call}: os.kill(os.getpid(), 9)\n"
        "    return real(*given)\n"
        f"room.{function} = deadly\n"
        "import ASD\n"
        "sys.exit(ASD.main(sys.argv[1:]))\n"
    )


@pytest.fixture(scope="module")
def repaired(storage: Path) -> dict[str, Any]:
    """The weights of each repair that is never stopped."""
    models = {}
    for method in ("fine_pruning", "nad"):
        words = given(storage, f"whole_{method}", f"repair.method={method}", "repair.of=x_none")
        assert ASD.main(words) == 0
        models[method] = load_model(storage / f"whole_{method}")[0].state_dict()
    return models


# `refuse_not_finite` is called at the end of every epoch, `take_away` first once the channels are
# chosen: NAD has an epoch of the teacher and two of the student, fine-pruning two of fine-tuning.
MOMENTS = [("nad", "refuse_not_finite", call) for call in (1, 2, 3)]
MOMENTS += [("fine_pruning", "take_away", 1)]
MOMENTS += [("fine_pruning", "refuse_not_finite", call) for call in (1, 2)]


@pytest.mark.parametrize(("method", "function", "call"), MOMENTS)
def test_killed_in_any_stage_and_done_again_it_has_the_same_bits(
    method: str, function: str, call: int, storage: Path, repaired: dict[str, Any]
) -> None:
    name = f"killed_{function}{call}_{method}"
    words = given(storage, name, f"repair.method={method}", "repair.of=x_none")
    command = [sys.executable, "-c", killed(method, function, call), *words]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (storage / name).exists()
    assert ASD.main(words) == 0
    again = load_model(storage / name)[0].state_dict()
    assert list(again) == list(repaired[method])
    assert all(torch.equal(again[key], value) for key, value in repaired[method].items())


def test_a_repair_is_written_by_one_process(
    storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second start is refused while the first repairs, at once or when it would write."""
    code = (
        "import pathlib, sys, time\n"
        "from repair.nad import AttentionDistillation as kind\n"
        "real, folder = kind.train, pathlib.Path(sys.argv[1])\n"
        "def train(self, stage, *more):\n"
        "    (folder / 'met').touch()\n"
        "    while not (folder / 'go').exists(): time.sleep(0.05)\n"
        "    return real(self, stage, *more)\n"
        "kind.train = train\n"
        "import ASD\n"
        "sys.exit(ASD.main(sys.argv[2:]))\n"
    )
    words = given(storage, "held_nad", "repair.method=nad", "repair.of=x_none")
    command = [sys.executable, "-c", code, str(storage), *words]
    first = opened(command)
    wait_until((storage / "met").exists, first)
    said = f"held_nad: is being written by process {first.pid} on {socket.gethostname()}"
    for _ in range(2):
        assert ASD.main(words) == 2
        message = capsys.readouterr().err
        assert said in message
        assert message.count("\n") == 1
        monkeypatch.setattr("run.setup.refuse_if_held", lambda _: None)  # both began at once
    assert not (storage / "held_nad").exists()
    (storage / "go").touch()
    code_of_first, _, errors = finished(first)
    assert code_of_first == 0, errors
    assert not (storage / "held_nad.1").exists()
    assert (storage / "held_nad" / "result.json").is_file()


@pytest.mark.parametrize(
    ("name", "more", "part"),
    [
        ("y_nad", (), "no finished run"),
        ("odd", (), "repair.of"),
        ("x_nad", ("seed.seed=7",), "had other poison"),
        ("x_nad", ("network.fastnet.width=8",), "section network"),
        ("x_nad", ("repair.clean_fraction=1.0",), "clean_fraction"),
        ("x_nad", ("repair.nad.beta=3",), "unknown key"),
        ("x_nad", ("repair.method=nat",), "'nad'"),
        ("x_nad", ("repair.nod={}",), "did you mean 'nad'"),
        ("x_nad", ("repair.parts.nad=5",), "parts: unknown key"),
        ("x_nad", ("repair.parts={}",), "parts: unknown key"),
        ("x_nad", ("repair.clean_fraction=0.004",), "2 clean samples at least"),
        ("x_nad", ("--report",), "--report: repair.method names a repair"),
        ("x_nad", ("--bench",), "--bench: repair.method names a repair"),
    ],
)
def test_what_does_not_fit_is_one_line(
    name: str, more: tuple[str, ...], part: str, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = given(storage, name, "repair.method=nad", *more)
    assert ASD.main(words) == 2
    message = capsys.readouterr().err
    assert part in message
    assert message.count("\n") == 1


def test_a_repair_takes_what_a_review_calls_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "d", per_class=4)
    more = ["dataset=image_folder", f"dataset_dir={root}", "data.image_size=16", "backdoor=null"]
    more += ["data.train_samples=null", "num_classes=3", "global.seed_num=1"]
    assert ASD.main(given(tmp_path, "x_none", *more)) == 0
    repair = given(tmp_path, "x_nad", *more, "repair.method=nad")
    assert ASD.main(repair) == 2
    assert "nobody has checked any" in capsys.readouterr().err
    rows = "".join(f"{name},clean\n" for name in names(2))
    (tmp_path / "review.csv").write_text(f"file,verdict\n{rows}")
    assert ASD.main([*repair, f"review={tmp_path / 'review.csv'}"]) == 0
    assert "with 6 clean samples" in capsys.readouterr().out


def test_settings_of_methods_that_are_not_used_are_not_part_of_the_run() -> None:
    plain = load_config(DIGITS, ["repair.nad.power=3.0", "abl.fraction=0.3"]).config.as_yaml()
    assert not {"repair", "abl", "dbd"} & set(plain)
    chosen = load_config(DIGITS, ["repair.method=nad", "repair.nad.power=3.0"]).config.as_yaml()
    assert chosen["repair"]["nad"]["power"] == 3.0
    assert "fine_pruning" not in chosen["repair"]


def test_a_session_of_a_repair_is_at_its_end(storage: Path) -> None:
    words = given(storage, "z_nad", "repair.method=nad", "repair.of=x_none")
    session = repaired_session(set_up(parse_arguments(words), Interrupt()))
    assert session.last_score is not None
    assert session.progress.epoch == len(session.progress.rows) == 3
    assert session.progress.rows[-1]["acc"] == session.last_score.acc
    assert session.progress.rows[0]["acc"] is None
    assert not os.listdir(session.folder.checkpoints)


def test_the_plan_names_the_repair(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ASD.main(given(storage, "x_nad", "repair.method=nad", "--check")) == 0
    out = capsys.readouterr().out
    assert f"nad, of the model of {storage / 'x_none'}" in out
    assert "supervised" not in out


def test_a_repair_done_again_says_what_moved(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = given(storage, "again_nad", "repair.method=nad", "repair.of=x_none", "report=true")
    assert ASD.main(words) == 0
    assert "in the report before" not in capsys.readouterr().out
    whole = (storage / "again_nad" / "result.json").read_bytes()
    assert ASD.main(words) == 0  # it is done
    assert "a finished repair; --resume False does it again" in capsys.readouterr().out
    assert ASD.main([*words, "--fail-on-suspicion"]) in (3, 4)
    assert (storage / "again_nad" / "result.json").read_bytes() == whole
    assert not (storage / "again_nad.1").exists()
    capsys.readouterr()
    assert ASD.main([*words, "--resume", "False"]) == 0
    out = capsys.readouterr().out
    assert f"the earlier run was moved to {storage / 'again_nad.1'}" in out
    assert "in the report before" in out


def test_a_defended_model_is_not_repaired(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, words in {"y": ["defense=asd"], "y_nad": ["repair.method=nad"]}.items():
        assert ASD.main(given(storage, name, "repair.of=x_none", *words)) == 0
        capsys.readouterr()
        for check in ([], ["--check"]):
            of = given(storage, "z_nad", "repair.method=nad", f"repair.of={name}", *check)
            assert ASD.main(of) == 2
            assert f"{storage / name} was trained by" in capsys.readouterr().err
    assert ASD.main(given(storage, "v_nad", "repair.method=nad", "--check")) == 2
    assert "no finished run" in capsys.readouterr().err


def test_a_repair_is_done_again_when_its_model_was_trained_anew(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = given(storage, "w_nad", "repair.method=nad")
    for source in ((), ("optimizer.Adam.lr=0.01",)):
        assert ASD.main([*given(storage, "w_none", *source), "--resume", "False"]) == 0
        capsys.readouterr()
        for said in (False, True):  # the second time it is done
            assert ASD.main(words) == 0
            assert ("a finished repair" in capsys.readouterr().out) == said


def test_two_processes_repair_a_model_as_one_does(storage: Path) -> None:
    """Each makes the whole repair, so what BatchNorm has seen is not to be counted twice."""
    made = []
    for name, devices in (("alone", "cpu"), ("together", "cpu,cpu")):
        words = given(storage, f"{name}_nad", "repair.method=nad", "repair.of=x_none")
        words[words.index("--gpu") + 1] = devices
        more = ["sync_bn=true", "speed.precision=fp32", "speed.threads=1"]
        done = subprocess.run(
            [sys.executable, "ASD.py", *words, *more],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        made.append(load_model(storage / f"{name}_nad")[0].state_dict())
    for name, weight in made[0].items():
        torch.testing.assert_close(weight, made[1][name], rtol=1e-5, atol=1e-6, msg=name)


def test_a_repair_is_done_again_when_a_file_that_it_reads_holds_something_else(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = given(storage, "x_nad", "repair.method=nad", f"review={tmp_path / 'r.csv'}")
    for rows in ("1,clean\n", "1,clean\n2,clean\n"):
        (tmp_path / "r.csv").write_text(f"file,verdict\n{rows}")
        for said in (False, True):  # the second time it is done
            assert ASD.main(words) == 0
            assert ("a finished repair" in capsys.readouterr().out) == said
