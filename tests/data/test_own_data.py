"""Own folders: verified samples, a held-out part of them, and nothing about an unknown truth."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tests.data.own_data_cases import (  # noqa: F401 (fixtures)
    draw_image,
    folder,
    listed,
    material,
    names,
    refused,
    seed_files,
)


@pytest.mark.parametrize("prefix", ["train/", "", "./"])
def test_names_are_relative_to_the_folder_or_to_train(folder: Path, prefix: str) -> None:
    text = "# checked by hand\n\n" + "\n".join(names(4, prefix)) + "\n"
    found = material(folder, listed(folder, text), "global.seed_num=4")
    assert seed_files(found) == sorted(names(4))
    assert found.seeds_checked


@pytest.mark.parametrize("header", ["", "file\n", "file,label\n", "label,note,file\n"])
def test_tables_of_names(folder: Path, header: str) -> None:
    rows = []
    for name in names(4):
        cells = {"file": name, "label": name.split("/")[1], "note": "seen, and good"}
        columns = header.strip().split(",") if header else ["file", "label"]
        rows.append(",".join(f'"{cells[column]}"' for column in columns))
    text = "\ufeff" + header + "\n".join(rows)
    found = material(folder, listed(folder, text, "seeds.csv"), "global.seed_num=4")
    assert seed_files(found) == sorted(names(4))


def test_an_umlaut_in_two_parts_is_the_same_letter(folder: Path) -> None:
    text = unicodedata.normalize("NFD", "\n".join(names(4)))
    assert text != "\n".join(names(4))
    assert len(material(folder, listed(folder, text), "global.seed_num=4").seeds) == 12


def test_names_that_begin_with_a_number(tmp_path: Path) -> None:
    for label in ("1", "2"):
        for number in range(4):
            draw_image(tmp_path / "d" / label / f"{number} 1.png", 10 * int(label) + number)
    text = "\n".join(f"{label}/{number} 1.png" for label in "12" for number in range(2))
    found = material(tmp_path / "d", listed(tmp_path / "d", text), "global.seed_num=2")
    assert seed_files(found) == ["1/0 1.png", "1/1 1.png", "2/0 1.png", "2/1 1.png"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["lists no sample"]),
        ("# nothing yet\n", ["lists no sample"]),
        ("file\n", ["lists no sample"]),
        (
            "train/big cat/01.png",
            ["line 1", "'train/big cat/01.png'", "did you mean 'train/big cats/01.png'?"],
        ),
        ("\nÄpfel/99.png", ["line 2", "there is no training sample 'Äpfel/99.png'"]),
        ("Äpfel/01.png\ntrain/Äpfel/01.png", ["line 2", "is named in line 1 already"]),
        (
            "file,label\nÄpfel/01.png,big cats",
            ["line 2", "verified as 'big cats'", "folder of class 'Äpfel'"],
        ),
        ("file,label\nÄpfel/01.png,big cat", ["line 2", "no class 'big cat'", "'big cats'"]),
        ("\n".join(names(5)[:-2]), ["3 samples of class '日本'", "global.seed_num wants 5"]),
    ],
)
def test_a_list_that_does_not_fit(folder: Path, text: str, parts: list[str]) -> None:
    message = refused(folder, listed(folder, text), "global.seed_num=5")
    assert "seeds.txt" in message
    for part in parts:
        assert part in message, message


def test_a_list_that_is_no_text(folder: Path) -> None:
    file = folder.parent / "seeds.txt"
    file.write_bytes(b"\xff\xfe\x00")
    assert "no text in" in refused(folder, f"global.seed_indices={file}")
    assert "there is no file" in refused(folder, "global.seed_indices=nowhere.txt")
