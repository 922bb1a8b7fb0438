"""What README and docs show works."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import pytest

import ASD
import run_all
from command.arguments import parse_arguments
from command.jobs import plan_jobs
from command.reference import FILE, reference
from config.load import load_config
from data.attack import ATTACKS
from data.build import load_data, poison_data
from data.dataset import DATASETS
from defense import DEFENSES
from model import NETWORKS
from tests.conftest import tiny_config
from tests.pages import add_part_of_the_page
from utils.files import PROJECT
from utils.streams import Streams

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


@pytest.mark.parametrize("name", [*ATTACKS, *DATASETS, *NETWORKS, *DEFENSES])
def test_every_part_is_in_the_readme(name: str) -> None:
    assert re.search(rf"`[^`]*\b{name}\b[^`]*`", README)


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.splitlines()) <= 200
    assert len(README.encode()) <= 12 * 1024


def test_the_reference_is_what_the_schema_says() -> None:
    """`python -m command.reference` writes it anew."""
    assert FILE.read_text(encoding="utf-8") == reference()


def anchor(heading: str) -> str:
    """Return what a link to a heading ends with, as the repository's page makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, place = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.M) if place else []
        assert not place or place in map(anchor, headings), link


def test_every_page_is_found_from_the_readme() -> None:
    assert {page.name for page in (PROJECT / "docs").glob("*.md")} <= set(
        re.findall(r"\(docs/([\w-]+\.md)\)", README)
    )


def commands(program: str) -> list[str]:
    """Return the commands of README and docs that start `program`, without comments."""
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return sorted({line for line in lines if f"python {program}" in line})


@pytest.mark.parametrize("line", commands("ASD.py"))
def test_commands_of_the_pages_can_be_given(line: str) -> None:
    words = shlex.split(line.partition(">")[0])
    arguments = parse_arguments(words[words.index("ASD.py") + 1 :])
    assert load_config(PROJECT / arguments.config, arguments.overrides).config


@pytest.mark.parametrize("line", commands("run_all.py"))
def test_lists_of_runs_of_the_pages_can_be_given(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    words = shlex.split(line)
    assert plan_jobs(run_all.parse(words[words.index("run_all.py") + 1 :]))
