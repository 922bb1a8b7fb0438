"""The plan of the house: which room may import which, no circle, no file too long to read."""

from __future__ import annotations

import ast
import re
import statistics
from functools import cache
from itertools import pairwise
from pathlib import Path

from data.poison import Truth
from report.findings import Findings
from utils.files import PROJECT

# From the ground up, a sentence each; a room imports from itself and from those above it in this
# list, never from one below. CONTRIBUTING.md shows the same list to people.
LAYERS = {
    "utils": "what belongs to no domain: errors, files, the console, random streams, devices",
    "loss": "the losses, by name",
    "model": "the networks, by name, and what lets them compute fast",
    "data": "data sets, attacks, transformations, verified samples: from a file to a view",
    "training": "one step, in the paper's order: record, split off, guess, mix, step",
    "witness": "independent opinions on single samples, by name",
    "defense": "the methods that divide all samples and train on the pools, by name",
    "repair": "what mends a trained network afterwards, by name",
    "config": "the whole configuration, put together from the settings of the rooms above",
    "run": "the life of a run: folder, lock, checkpoint, resume, progress, measurement, product",
    "report": "what a finished run says of its data: ranking, verdict, page, files for other tools",
    "command": "what the user asks on the command line: check, predict, export, bench, tables",
    "ASD": "the story of one run, from top to bottom",
    "run_all": "many runs, one table",
    "benchmark": "programs that measure this project; nothing imports them",
    "assets": "programs that draw the pictures of README and docs",
}
LONGEST = 300  # lines of a file
METHODS = ("loss", "model", "training", "witness", "defense", "repair")
JUDGES = ("judge", "score", "estimate", "concentration", "accusations", "purified")
# What only those know who measure a run: all that stands in `Truth`. A person's word on a sample
# has other names (`Review.accepted`, `Review.rejected`).
OF_TRUTH = {
    "poisoned", "roles", "original_labels", "untouched", "clean_test", "triggered_test",
}  # fmt: skip
MEDIAN_FUNCTION = 12  # lines


def sources() -> dict[str, Path]:
    """Return every module outside the tests, by dotted name."""
    found = {}
    for room in LAYERS:
        paths = [PROJECT / f"{room}.py", *sorted((PROJECT / room).rglob("*.py"))]
        for path in filter(Path.is_file, paths):
            name = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def imports() -> dict[str, set[str]]:
    """Return which modules each one imports, also inside functions and for types alone."""
    modules = sources()
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            graph[name] |= {target for target in named(node) if target in modules}
    return graph


def named(node: ast.AST) -> set[str]:
    """Return the modules that an import statement may mean."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        below = {f"{node.module}.{alias.name}" for alias in node.names}
        return {node.module, *below}
    return set()


def room(module: str) -> str:
    """Return the room that a module stands in."""
    return module.partition(".")[0]


def test_every_import_runs_one_way() -> None:
    height = {name: place for place, name in enumerate(LAYERS)}
    against = [
        (module, target)
        for module, targets in imports().items()
        for target in targets
        if height[room(target)] > height[room(module)]
    ]
    assert not against


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of one circle of imports; none where there is none.

    A package's `__init__` that names parts of its own package is no circle by itself.
    """
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        for target in sorted(graph[module]):
            if found := visit(target, [*path, module]):
                return found
        done.add(module)
        return []

    for module in graph:
        if found := visit(module, []):
            return found
    return []


def runtime_only(module: str, path: Path) -> set[str]:
    """Return what `module` imports outside `if TYPE_CHECKING:`, which Python never runs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if "TYPE_CHECKING" not in ast.unparse(node)[:20]]
    return {target for node in ast.walk(tree) for target in named(node)} & imports()[module]


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: runtime_only(name, path) - {name} for name, path in sources().items()}
    assert not circle(graph)


def test_the_look_for_circles_finds_one() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_files_can_be_read_in_one_sitting() -> None:
    tests = {str(path): path for path in (PROJECT / "tests").rglob("*.py")}
    modules = {name: path for name, path in sources().items() if room(name) != "assets"}
    lengths = {
        name: path.read_text(encoding="utf-8").count("\n")
        for name, path in {**modules, **tests}.items()
    }
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST}


def test_functions_are_short() -> None:
    lengths = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in sources().values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION


def test_people_are_shown_the_plan_that_holds() -> None:
    """CONTRIBUTING.md's table of rooms is the list above, in its order and words."""
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \| (.+?) \|$", text, re.MULTILINE)
    assert rows == list(LAYERS.items())


def test_people_are_shown_the_arrows_between_rooms() -> None:
    """The diagram's arrows are the imports between rooms, not one more or less."""
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    diagram = text.partition("```mermaid")[2].partition("```")[0]
    shown = {
        (left, right)
        for line in diagram.splitlines()
        for left, right in pairwise(re.findall(r"\w+", line))
        if "-->" in line
    }
    present = {
        (room(module), room(target))
        for module, targets in imports().items()
        for target in targets
        if room(module) != room(target)
    }
    needed = {pair for pair in present if not longer_way(pair, present)}
    assert shown == needed


def longer_way(pair: tuple[str, str], arrows: set[tuple[str, str]]) -> bool:
    """Return whether the second of `pair` is reached from the first by two arrows or more."""
    start, goal = pair
    reached = {right for left, right in arrows if left == start and right != goal}
    while True:
        further = {right for left, right in arrows if left in reached} - reached
        if not further:
            return goal in reached
        reached |= further


def attributes(text: str) -> set[str]:
    """Return the names of all attributes that a module reads or sets."""
    tree = ast.parse(text)
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def names(text: str) -> set[str]:
    """Return all names that a module uses, those of attributes and imports included."""
    tree = ast.parse(text)
    plain = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return attributes(text) | plain | {n.name for n in ast.walk(tree) if isinstance(n, ast.alias)}


def test_what_defends_does_not_name_the_truth() -> None:
    """It measures, describes and draws verified samples; no room of a method can reach it."""
    for name, path in sources().items():
        if room(name) in METHODS:
            text = path.read_text(encoding="utf-8")
            assert not names(text) & {"truth", "Truth"} | attributes(text) & OF_TRUTH, name


def test_what_judges_a_set_does_not_read_the_truth() -> None:
    """A run's findings hold it for those who measure; the verdict comes about without it."""
    for name in JUDGES:
        path = sources()[f"report.{name}"]
        assert not attributes(path.read_text(encoding="utf-8")) & OF_TRUTH, name


def test_the_look_for_the_truth_finds_it() -> None:
    known = set(Truth.__annotations__) | {
        name for name, part in vars(Truth).items() if isinstance(part, property)
    }
    assert known == OF_TRUTH and "poisoned" in Findings.__annotations__
    for name in OF_TRUTH:
        assert name in attributes(f"def f(given):\n    return len(given.part.{name})")


def test_no_test_forks_itself() -> None:
    """A fork lacks the threads of PyTorch, and waits for them for ever (`tests/processes.py`)."""
    forks = re.compile(r"""get_context\(\s*["']fork|os\.fork\(|set_start_method""")
    files = [path for path in (PROJECT / "tests").rglob("*.py") if path.name != "test_house.py"]
    assert [path.name for path in files if forks.search(path.read_text(encoding="utf-8"))] == []


def test_what_unix_alone_has_is_not_needed_to_start() -> None:
    """Windows has no `fcntl` and no `resource`; whoever wants one imports it where it is used."""
    absent = {"fcntl", "resource", "pwd", "grp", "termios"}
    for name, path in sources().items():
        if room(name) in ("benchmark", "assets"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                assert not absent & {alias.name for alias in node.names}, name
            if isinstance(node, ast.ImportFrom):
                assert node.module not in absent, name
