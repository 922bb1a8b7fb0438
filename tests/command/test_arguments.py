"""The command line: no flag that is given is ignored without a word."""

from __future__ import annotations

import itertools
import shlex

import pytest

from command.arguments import own_command, parse_arguments
from utils.errors import InputError

TASKS = {
    "--check": [],
    "--bench": [],
    "--report": [],
    "--export": ["folder"],
    "--export-clean": ["folder"],
    "--predict": ["image.png"],
    "--export-onnx": ["model.onnx"],
}
UNREAD = [
    (("--fail-on-suspicion",), tuple(task for task in TASKS if task != "--report")),
    (("--resume", "False"), ("--export", "--export-clean", "--predict", "--export-onnx")),
    (("--gpu", "0"), ("--export-onnx",)),
    (("--name", "mine"), ("--export",)),
    (("--json",), tuple(task for task in TASKS if task != "--predict")),
]


def refused(*argv: str) -> str:
    with pytest.raises(InputError, match=r"^command line: ") as caught:
        parse_arguments(argv)
    return str(caught.value)


@pytest.mark.parametrize(("first", "second"), itertools.permutations(TASKS, 2))
def test_one_task_at_a_time(first: str, second: str) -> None:
    line = refused(first, *TASKS[first], second, *TASKS[second])
    assert first in line and second in line


@pytest.mark.parametrize(
    ("flag", "task"), [(flag, task) for flag, tasks in UNREAD for task in tasks]
)
def test_a_flag_that_the_task_does_not_read_is_refused(flag: tuple[str, ...], task: str) -> None:
    line = refused(*flag, task, *TASKS[task])
    assert flag[0] in line


@pytest.mark.parametrize(
    "flag",
    [("--config", "a"), ("--resume", "a"), ("--gpu", "0"), ("--name", "a"), ("--export", "a"),
     ("--export-clean", "a"), ("--predict", "a")],
)  # fmt: skip
def test_a_flag_given_twice_is_refused(flag: tuple[str, str]) -> None:
    assert f"{flag[0]} is given twice" in refused(*flag, *flag)
    assert f"{flag[0]} is given twice" in refused(*flag, f"{flag[0]}=b")


def test_what_goes_together() -> None:
    for argv in (
        ["--check", "--resume", "False", "--name", "mine"],
        ["--report", "--fail-on-suspicion", "--resume", "best_model.pt"],
        ["--predict", "a", "b", "--json", "--name", "mine", "--gpu", "cpu"],
        ["--export-clean", "folder", "--name", "mine"],
        ["--bench", "--resume", "False"],
        ["a.b=1", "--check", "c=2"],
        ["--resume", "--check"],
        ["--predict", "a", "--resume", ""],
    ):
        parse_arguments(argv)
    assert parse_arguments(["a.b=1", "--check", "c=2"]).overrides == ["a.b=1", "c=2"]


def test_a_command_that_is_offered_is_the_users_own() -> None:
    given = ["--config", "my own.yaml", "--name", "int", "seed.seed=7", "--gpu", "cpu"]
    arguments = parse_arguments([*given, "--predict", "x.png"])
    offered = own_command(arguments, "--predict")
    assert offered == "python ASD.py --config 'my own.yaml' --name int --gpu cpu seed.seed=7"
    again = parse_arguments(shlex.split(offered)[2:])
    assert {**vars(again), "predict": ["x.png"]} == vars(arguments)
    assert own_command(arguments, "--predict", "--report") == f"{offered} --report"


def test_half_a_command_is_never_offered() -> None:
    arguments = parse_arguments([f"dataset_dir={'x' * 200}", "--export-clean", "out"])
    words = "this command without --export-clean", "this command with --report for --export-clean"
    task = "--export-clean"
    assert (own_command(arguments, task), own_command(arguments, task, "--report")) == words


@pytest.mark.parametrize(
    "given",
    [["--predict", "-x.png"], ["--predict", "a.png", "-x.png"], ["--export", "-out"], ["-x.png"]],
)
def test_a_name_that_looks_like_a_flag_is_told_how_to_be_given(given: list[str]) -> None:
    with pytest.raises(InputError, match=r"; a name that begins with - is written \./-NAME; see"):
        parse_arguments(given)
    with pytest.raises(InputError) as caught:
        parse_arguments(["--predit", "x.png"])
    assert "./-NAME" not in str(caught.value)
