"""What README and docs show works."""

from __future__ import annotations

import csv
import importlib
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from torch.distributed import run as torchrun

import ASD
import run_all
from command.arguments import parse_arguments
from command.jobs import plan_jobs
from command.reference import FILE, anchor, contents, reference
from config.load import load_config
from data.attack import ATTACKS
from data.build import load_data, poison_data
from data.dataset import DATASETS
from defense import DEFENSES
from model import NETWORKS
from repair import REPAIRS
from tests.conftest import tiny_config
from tests.pages import add_part_of_the_page
from utils.errors import InputError
from utils.files import PROJECT
from utils.streams import Streams
from witness import WITNESSES

README = (PROJECT / "README.md").read_text(encoding="utf-8")
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md"]
PAGES += sorted((PROJECT / "docs").glob("*.md"))


@pytest.fixture
def stripe(monkeypatch: pytest.MonkeyPatch) -> str:
    """The attack of docs/extending.md, as the file and the line that it tells one to write."""
    add_part_of_the_page(monkeypatch, ATTACKS, "data/attack/stripe.py", longest=30)
    return "backdoor={poison_ratio: 0.1, stripe: {column: 3}}"


def test_an_attack_is_one_class_and_one_line(stripe: str) -> None:
    config = tiny_config("backdoor=null", stripe).config
    data, _ = load_data(config)
    training, truth = poison_data(config, data, Streams(0))
    assert int(truth.poisoned.sum()) == 30
    poisoned = training.images[truth.poisoned]
    assert (poisoned[:, :, 3] == 255).all()
    assert not (poisoned[:, :, 4] == 255).all()


def test_a_run_with_that_attack(stripe: str, tiny_arguments: list[str], tmp_path: Path) -> None:
    more = ["backdoor=null", stripe, "num_epochs=1", "defense=none"]
    assert ASD.main([*tiny_arguments, *more]) == 0
    with open(tmp_path / "digits" / "log.csv") as file:
        assert next(csv.DictReader(file))["asr"]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("defences", [*DEFENSES, *REPAIRS]),
        ("witnesses", WITNESSES),
        ("attacks", ATTACKS),
        ("data sets", DATASETS),
        ("networks", NETWORKS),
    ],
)
def test_every_part_is_in_the_readme(kind: str, names: Iterable[str]) -> None:
    (row,) = [line for line in README.splitlines() if line.startswith(f"| {kind} | ")]
    assert sorted(re.findall(r"`([^`]+)`", row.split("|")[2])) == sorted(names)


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.splitlines()) <= 200
    assert len(README.encode()) <= 12 * 1024


def test_the_reference_is_what_the_schema_says() -> None:
    """`python -m command.reference` writes it anew."""
    assert FILE.read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_long_page_begins_with_its_sections(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if len(text.splitlines()) > 160 and page.parent.name == "docs":
        assert "\n".join(contents(text)) in text.partition("\n## ")[0] + "\n"


def links(page: Path) -> list[str]:
    """Return where a page's links into the repository lead."""
    return re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8"))


def test_links_are_seen() -> None:
    """Else the search has gone blind."""
    found = {page.name: links(page) for page in PAGES}
    assert "docs/extending.md" in found["README.md"]
    assert any("#" in link for each in found.values() for link in each)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        file, _, place = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.M) if place else []
        assert not place or place in map(anchor, headings), link


def test_every_page_is_found_from_the_readme() -> None:
    assert {page.name for page in (PROJECT / "docs").glob("*.md")} <= set(
        re.findall(r"\(docs/([\w-]+\.md)\)", README)
    )


# ------------------------------------------------------------------------------------ commands

LANGUAGES = {"sh", "python", "yaml", "json", "mermaid", "text"}  # of the pages' blocks
SETTING = re.compile(r"[A-Z_]+=\S*")  # of the environment, before a command
# Programs that no page asks for; a page that does needs a parser for them here.
OTHERS = ("pytest", "ruff", "mypy", "git", "curl", "wget", "docker", "conda", "uv", "apt", "brew")
# What a page leaves to its reader, and what stands for it here; the rest is given as it is.
STAND_INS = {"X.yaml": "config/baseline_asd.yaml", "N": "2", "M": "2", "K": "0"}


def shown() -> list[str]:
    """Return the commands of all pages: each line of a block for a shell, and those in a text."""
    found = set[str]()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        assert {language for language, _ in blocks} <= LANGUAGES, page
        lines = [line for language, block in blocks if language == "sh"
                 for line in block.splitlines()]  # fmt: skip
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
        lines += [span for span in spans if is_command(span)]
        parts = (part for line in lines for part in line.partition(" #")[0].split(" && "))
        found |= {part.strip() for part in parts if part.strip()}
    return sorted(found)


def is_command(span: str) -> bool:
    """Return whether what stands between two backticks is a command, and no other code."""
    words = [word for word in span.split() if not SETTING.fullmatch(word)]
    starts = Path(words[0]).name if words else ""
    return starts in PROGRAMS or (len(words) > 1 and starts.endswith((".py", *OTHERS)))


def words_of(command: str) -> list[str]:
    """Return the words of a command as a shell gives them, without a redirection."""
    given = [STAND_INS.get(word, word) for word in shlex.split(command.partition(" >")[0])]
    words: list[str] = []
    for word in given:
        name, is_set, value = word.rpartition("=")
        word = f"{name}={STAND_INS.get(value, value)}" if is_set else word
        found = sorted(PROJECT.glob(word)) if "*" in word else []
        words += [str(path.relative_to(PROJECT)) for path in found] or [word]
    return [word for word in words if word != "..."]


def of_python(words: Sequence[str], tests: pytest.Config) -> None:
    """Give the words behind `python` to the parser of the program that they start."""
    if words[0] == "-m":
        of_module(words[1], words[2:], tests)
    elif words[0] == "ASD.py":
        arguments = parse_arguments(words[1:])
        assert load_config(PROJECT / arguments.config, arguments.overrides).config
    elif words[0] == "run_all.py":
        jobs = plan_jobs(run_all.parse(words[1:]))
        assert jobs and not [job.error for job in jobs if job.error]
    else:
        folder, _, name = words[0].removesuffix(".py").partition("/")
        assert folder == "assets" and (PROJECT / words[0]).is_file(), words[0]
        importlib.import_module(f"assets.{name}").parse(words[1:])


def of_module(name: str, words: Sequence[str], tests: pytest.Config) -> None:
    """Give the words behind `python -m NAME` to its parser; what has none takes no words."""
    if name == "pytest":
        known, unknown = tests._parser.parse_known_and_unknown_args(list(words))
        assert not unknown
        assert all((PROJECT / path).exists() for path in known.file_or_dir)
    elif name == "venv":
        assert words == [".venv"]
    elif name.startswith("benchmark."):
        importlib.import_module(name).parse(words)
    else:
        assert name == "command.reference" and not words, name


def of_torchrun(words: Sequence[str], tests: pytest.Config) -> None:
    """Give the words behind `torchrun` to its parser, and those behind the program to that one."""
    program = [] if "ASD.py" in words else ["ASD.py"]
    given = torchrun.get_args_parser().parse_args([*words, *program])
    of_python([given.training_script, *given.training_script_args], tests)


def of_pip(words: Sequence[str], tests: pytest.Config) -> None:
    """Assert that a package is installed by a name, or by a file that is there."""
    assert words[0] == "install" and words[1:]
    names = [word for word in words[1:] if word != "-r"]
    for name in names:
        assert (PROJECT / name).is_file() if "-r" in words else re.fullmatch(r"[\w.<>=,-]+", name)


PROGRAMS: dict[str, Callable[[Sequence[str], pytest.Config], None]] = {
    "python": of_python,
    "python3": of_python,
    "pip": of_pip,
    "torchrun": of_torchrun,
}


def give(command: str, tests: pytest.Config) -> None:
    """Give a command to the parser of what it starts; one that starts anything else fails."""
    if "[--" in command:  # what may be given at all, to be chosen from
        parse_arguments(shlex.split(re.sub(r"[][]|\.\.\.", "", command))[2:])
        return
    words = words_of(command)
    while SETTING.fullmatch(words[0]):
        name = words.pop(0).partition("=")[0]
        files = (PROJECT / "tests" / "fuzz").glob("*.py")
        assert any(name in file.read_text("utf-8") for file in files), name
    if words[0] == ".":  # a virtual environment that an earlier command has made
        assert words[1:] == [".venv/bin/activate"]
    elif words[0].endswith(".py"):
        of_python(words, tests)
    else:
        PROGRAMS[Path(words[0]).name](words[1:], tests)


@pytest.mark.parametrize("command", shown())
def test_a_command_of_the_pages_can_be_given(
    command: str, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.chdir(PROJECT)
    give(command, pytestconfig)


def test_every_sort_of_command_is_among_them() -> None:
    """Else the search has gone blind."""
    for sort in ("python ASD.py ", "python run_all.py ", "python -m benchmark.", "python assets/",
                 "torchrun ", "python -m pytest ", "pip install ", "FUZZ_EXAMPLES="):  # fmt: skip
        assert any(sort in command for command in shown()), sort


@pytest.mark.parametrize(
    "command",
    [
        "python nothing.py",
        "python -m benchmark.nothing",
        "python -m benchmark.processor nothing:3",
        "python assets/draw_nothing.py",
        "python ASD.py --nothing",
        "python run_all.py config/nothing.yaml",
        "python -m pytest tests/nothing",
        "torchrun --nothing 3 ASD.py",
        "NOTHING_KNOWN=3 python ASD.py",
        "pip install -r nothing.txt",
        "rm -r storage",
    ],
)
def test_a_command_that_cannot_be_given_fails(
    command: str, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.chdir(PROJECT)
    with pytest.raises((AssertionError, InputError, ImportError, KeyError, SystemExit)):
        give(command, pytestconfig)
