"""What others have published: confirmed figures and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from command.published import distance, published_for, read_published
from data.attack import ATTACKS
from utils.errors import InputError
from utils.files import PROJECT

# Percent, as they are confirmed; (data set, attack, defence, kind).
CONFIRMED = {
    ("cifar10", "badnets", "none", "paper"): (94.9, 100),
    ("cifar10", "badnets", "asd", "paper"): (93.4, 1.2),
    ("cifar10", "badnets", "none", "rerun"): (92.95, 100),
    ("cifar10", "badnets", "asd", "rerun"): (93.53, 1.71),
    ("gtsrb", "badnets", "none", "paper"): (97.6, 100),
    ("gtsrb", "badnets", "asd", "paper"): (96.7, 0),
    ("gtsrb", "badnets", "none", "rerun"): (97.2, 99),
    ("gtsrb", "badnets", "asd", "rerun"): (95.42, 6.16),
    ("imagenet30", "blend", "dbd", "paper"): (None, 100),
}


def test_the_file_holds_what_is_confirmed_and_nothing_else() -> None:
    figures = read_published()
    found = {
        (figure.dataset, figure.attack, figure.defense, figure.kind): tuple(
            None if value is None else pytest.approx(100 * value)
            for value in (figure.acc, figure.asr)
        )
        for figure in figures
    }
    assert len(found) == len(figures) == len(CONFIRMED)
    for place, percent in CONFIRMED.items():
        assert percent == found[place], place
    assert all(figure.attack in ATTACKS for figure in figures)


SAID = re.compile(r"[Pp]aper\b[^\n;]*?ACC ([\d.]+) %, ASR ([\d.]+) %")


def test_presets_say_no_other_figures_of_the_paper() -> None:
    confirmed = {value for place, value in CONFIRMED.items() if place[3] == "paper"}
    said = {
        (float(acc), float(asr))
        for path in (PROJECT / "config").rglob("*.yaml")
        for acc, asr in SAID.findall(path.read_text(encoding="utf-8"))
    }
    assert said
    assert said <= confirmed


def test_the_distance_is_measured_minus_the_papers() -> None:
    figure = published_for(read_published(), "cifar10", "badnets", "asd")
    assert figure is not None
    away = distance(figure, {"acc": 0.924, "asr": 0.022})
    assert away == {"acc": pytest.approx(-0.01), "asr": pytest.approx(0.01)}
    assert distance(figure, {"acc": None}) == {}
    assert published_for(read_published(), "cifar10", "blend", "asd") is None
    assert distance(None, {"acc": 0.9}) == {}
    unknown_acc = published_for(read_published(), "imagenet30", "blend", "dbd")
    assert distance(unknown_acc, {"acc": 0.8, "asr": 0.5}) == {"asr": pytest.approx(-0.5)}


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"dataset": "cifar10"}]'])
def test_a_broken_file_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InputError, match=r"p\.json"):
        read_published(tmp_path / "p.json")
