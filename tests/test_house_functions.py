"""No function is too long to read or takes too much; the list of those that do can only shrink."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

from tests.test_house import sources
from utils.files import PROJECT

LONGEST = 30  # lines of a function, its docstring not counted
MOST = 7  # parameters of a function; those that Python or PyTorch gives are not counted
GIVEN = {"self", "cls", "ctx"}
# The paper's story is read from top to bottom.
STORY = {"ASD.py::train", "ASD.py::run", "ASD.py::main"}
# Functions that are longer today, and their lines. Who shortens one changes or takes its entry.
LONG = {
    "tests/command/test_onnx.py::test_the_file_gives_what_predict_gives": 33,
    "tests/command/test_run_all.py::test_a_failure_stops_nothing_and_finished_runs_are_skipped": 44,
    "tests/data/test_attacks_adaptive_blend.py::test_strengths_on_the_real_cifar10": 32,
    "tests/data/test_own_data_runs.py::test_a_run_on_own_data_says_nothing_of_a_truth": 40,
    "tests/model/test_kernels.py::test_normalising_and_its_gradients_are_pytorchs": 37,
    "tests/repair/test_repair.py::test_the_students_loss_and_gradient_are_plain_formulas": 36,
    "tests/run/checkpoints.py::whole_state": 34,
    "tests/run/test_checkpoint.py::test_a_damaged_latest_falls_back_to_the_one_before": 32,
    "tests/run/test_repairing.py::test_a_repair_is_written_by_one_process": 32,
    "tests/utils/test_gpu.py::test_passes_send_their_numbers_pinned_and_wait_for_none": 32,
}
# Functions that take more today, and how many.
MANY = {"tests/model/test_kernels.py::test_normalising_and_its_gradients_are_pytorchs": 8}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(node: ast.AST, inside: str = "") -> Iterator[tuple[str, Function]]:
    """Yield every function below `node` with its name, led by those of what it stands in."""
    for child in ast.iter_child_nodes(node):
        name = inside
        if isinstance(child, Function | ast.ClassDef):
            name = f"{inside}.{child.name}".removeprefix(".")
        if isinstance(child, Function):
            yield name, child
        yield from functions(child, name)


def lines_of(function: Function) -> int:
    """Return the lines from `def` to the end, without those of the docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def parameters_of(function: Function) -> int:
    """Return the number of parameters, `*args` and `**kwargs` among them."""
    given = function.args
    several = [one for one in (given.vararg, given.kwarg) if one is not None]
    taken = [*given.posonlyargs, *given.args, *given.kwonlyargs, *several]
    return len(taken) - (bool(taken) and taken[0].arg in GIVEN)


@cache
def measured() -> dict[str, tuple[int, int]]:
    """Return lines and parameters of every function of the project, those of tests included.

    Of several with one name, as a property and its setter, it is the most.
    """
    found: dict[str, tuple[int, int]] = {}
    for path in [*sources().values(), *sorted((PROJECT / "tests").rglob("*.py"))]:
        file = path.relative_to(PROJECT).as_posix()
        for name, function in functions(ast.parse(path.read_text(encoding="utf-8"))):
            lines, count = found.get(f"{file}::{name}", (0, 0))
            most = max(lines, lines_of(function)), max(count, parameters_of(function))
            found[f"{file}::{name}"] = most
    return found


def test_functions_can_be_read_in_one_go() -> None:
    """The same on both sides: a new long function fails, and so does an entry that is too high."""
    long = {name: lines for name, (lines, _) in measured().items() if lines > LONGEST}
    assert {name: lines for name, lines in long.items() if name not in STORY} == LONG


def test_functions_take_what_a_person_can_keep_in_mind() -> None:
    assert {name: count for name, (_, count) in measured().items() if count > MOST} == MANY


def test_the_story_is_still_told_in_one_place() -> None:
    assert measured().keys() >= STORY


def test_the_measure_of_functions_measures() -> None:
    text = '''
class A:
    def f(self, a, /, b, *c, d=1, **e):
        """Nothing.

        Not counted.
        """
        async def g():
            return (
                1
            )
        return g

    @staticmethod
    def h(
        ctx,
        a,
    ): ...

if True:
    def i(a): pass
'''
    found = {name: (lines_of(f), parameters_of(f)) for name, f in functions(ast.parse(text))}
    assert found == {"A.f": (6, 5), "A.f.g": (4, 0), "A.h": (4, 1), "i": (1, 1)}
