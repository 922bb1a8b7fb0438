"""What a person says of samples: read strictly, and obeyed by every split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import ASD
from command.arguments import parse_arguments
from data.home import Home
from data.poison import TrainingSet
from data.review import Review, read_review, refuse_emptied
from run.checkpoint import load_checkpoint
from run.setup import set_up
from tests.conftest import colourful_images
from utils.errors import InputError
from utils.interrupt import Interrupt
from utils.tables import table_text


def files_of_six(names: tuple[str, ...] | None = None) -> TrainingSet:
    home = None if names is None else Home(Path("/sets/ours"))
    return TrainingSet(colourful_images(6, 4), torch.arange(6) % 2, ("a", "b"), False, names, home)


def write(tmp_path: Path, text: str) -> str:
    file = tmp_path / "review.csv"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_files_are_found_by_name_and_unreviewed_rows_are_left_out(tmp_path: Path) -> None:
    names = tuple(f"train/a/ü {index}.png" for index in range(6))
    rows = ["rank,file,verdict", "1,train/a/ü 4.png,poisoned", "2,train/a/ü 1.png,"]
    text = "\n".join([*rows, "3,train/a/ü 0.png, Clean"])
    review = read_review(write(tmp_path, text), files_of_six(names))
    assert review.accepted.tolist() == [0] and review.rejected.tolist() == [4]


def test_samples_without_files_go_by_their_number(tmp_path: Path) -> None:
    review = read_review(write(tmp_path, "file,verdict\n5,clean\n2,clean\n"), files_of_six())
    assert review.accepted.tolist() == [2, 5] and len(review.rejected) == 0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_report_that_a_spreadsheet_saved_is_a_review(
    tmp_path: Path, encoding: str, separator: str
) -> None:
    names = tuple(f"train/=Größe/{index}.png" for index in range(6))
    rows = [{"file": name, "verdict": "clean", "score": 0.5} for name in names]
    text = table_text(["file", "score", "verdict"], rows).replace(",", separator)
    file = tmp_path / "review.csv"
    file.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert read_review(str(file), files_of_six(names)).accepted.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_name_is_found_in_another_spelling_and_without_the_folder(tmp_path: Path) -> None:
    names = tuple(f"train/a/\u00fc {index}.png" for index in range(6))
    text = "file,verdict\n./a/u\u0308 1.png,clean\ntrain/a/\u00fc 2.png,poisoned\n"
    review = read_review(write(tmp_path, text), files_of_six(names))
    assert review.accepted.tolist() == [1] and review.rejected.tolist() == [2]


def test_a_name_that_two_files_share_but_for_the_spelling_is_not_guessed(tmp_path: Path) -> None:
    names = ("a/\u00fc.png", "a/u\u0308.png", "b", "c", "d", "e")
    review = read_review(write(tmp_path, f"file,verdict\n{names[1]},clean\n"), files_of_six(names))
    assert review.accepted.tolist() == [1]
    with pytest.raises(InputError, match="no training sample"):
        read_review(write(tmp_path, f"file,verdict\n./{names[1]},clean\n"), files_of_six(names))


def test_a_name_in_a_guessed_encoding_is_told_so(tmp_path: Path) -> None:
    file = tmp_path / "review.csv"
    file.write_bytes("file,verdict\nżółw,clean\n".encode("cp1250"))
    with pytest.raises(InputError, match=r"line 2: .* read as Windows-1252, save it as CSV UTF-8"):
        read_review(str(file), files_of_six())


def test_a_quote_that_is_not_closed_swallows_no_row(tmp_path: Path) -> None:
    text = 'file,verdict\n"1,clean\n2,poisoned\n'
    with pytest.raises(InputError, match="line 2: no CSV: a quote"):
        read_review(write(tmp_path, text), files_of_six())


def test_no_file_is_an_empty_review() -> None:
    review = read_review(None, files_of_six())
    assert (len(review), review.lines()) == (0, [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,verdict\n3,bad\n", "line 2: verdict 'bad'"),
        ("file,verdict\n9,clean\n", "no training sample '9'"),
        ("file,verdict\n3,clean\n3,poisoned\n", "line 3: '3' was called clean before"),
        ("name,verdict\n3,clean\n", "no column 'file'"),
        ("", "no column 'file'"),
        ("file\n3\n", "no column 'verdict'"),
        ("file,verdict\n3,\n", "calls no sample clean or poisoned; nothing is reviewed"),
        ("file,verdict\n", "calls no sample clean or poisoned; nothing is reviewed"),
        ('{"labels": {"3": {}}}', "calls no sample clean or poisoned; nothing is reviewed"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match="review: ") as caught:
        read_review(write(tmp_path, text), files_of_six())
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("named", ["train/a/0.png", "a/0.png", "./train/a/0.png"])
def test_what_is_said_of_a_sample_that_is_left_out_counts_for_nothing(
    tmp_path: Path, named: str
) -> None:
    names = tuple(f"train/a/{index}.png" for index in range(1, 7))
    file = write(tmp_path, f"file,verdict\n{named},clean\ntrain/a/3.png,poisoned\n")
    review = read_review(file, files_of_six(names), ["train/a/0.png", "train/b/0.png"])
    assert (review.accepted.tolist(), review.rejected.tolist()) == ([], [2])
    assert review.lines()[0] == "review: 0 clean, 1 poisoned"
    assert review.lines()[1].startswith("review: 1 of 2 samples that it judges are held out")
    assert review.to(torch.device("cpu")).ignored == 1
    with pytest.raises(InputError, match="no training sample"):
        read_review(file, files_of_six(names))
    file = write(tmp_path, f"file,verdict\n{named},clean\ntrain/a/0.png,poisoned\n")
    with pytest.raises(InputError, match="was called clean before"):
        read_review(file, files_of_six(names), ["train/a/0.png"])


def test_an_export_may_name_a_sample_that_is_left_out(tmp_path: Path) -> None:
    names = tuple(f"train/a/{index}.png" for index in range(1, 7))
    file = tmp_path / "labels.json"
    said = {"/home/x/train/a/0": {"tags": ["clean"]}, "train/a/2": {"tags": ["poisoned"]}}
    file.write_text(json.dumps({"labels": said}))
    review = read_review(str(file), files_of_six(names), ["train/a/0.png"])
    assert (review.ignored, review.rejected.tolist()) == (1, [1])


def test_clean_ones_become_seeds_and_poisoned_ones_are_none() -> None:
    review = Review(accepted=torch.tensor([7, 8]), rejected=torch.tensor([2]))
    assert review.seeds(torch.tensor([1, 2, 7])).tolist() == [1, 7, 8]


def test_a_persons_word_outweighs_what_is_there_and_leaves_it_as_it_was() -> None:
    review = Review(accepted=torch.tensor([0, 3]), rejected=torch.tensor([1]))
    kept, loss = torch.tensor([False, True, False, True]), torch.tensor([0.5, 1.5, 2.5, 3.5])
    assert review.applied_to(kept, True, False).tolist() == [True, False, False, True]
    assert review.applied_to(loss, torch.inf, -torch.inf).tolist() == [
        torch.inf, -torch.inf, 2.5, torch.inf,
    ]  # fmt: skip
    assert kept.tolist() == [False, True, False, True] and loss.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert read_review(None, files_of_six()).applied_to(kept, True, False).equal(kept)


def test_every_split_obeys_a_review(tmp_path: Path, tiny_arguments: list[str]) -> None:
    text = "file,verdict\n" + "".join(f"{i},poisoned\n" for i in range(40))
    text += "".join(f"{i},clean\n" for i in range(40, 60))
    arguments = parse_arguments([*tiny_arguments, f"review={write(tmp_path, text)}"])
    with Interrupt() as interrupt:
        session = ASD.prepare(set_up(arguments, interrupt))
    assert set(range(40, 60)) <= set(session.material.seeds.tolist())
    for epoch in (0, 4, 8):  # one of each stage
        clean = session.defense.split(epoch).clean
        assert not bool(clean[:40].any()) and bool(clean[40:60].all())
    # The split still takes as many as without the review, from the others.
    assert int(session.defense.split(8).clean.sum()) >= 150


def test_a_review_may_be_given_to_a_run_that_goes_on(
    tmp_path: Path, tiny_arguments: list[str]
) -> None:
    assert ASD.main([*tiny_arguments, "report=true"]) == 0
    run = tmp_path / "digits"
    review = f"review={write(tmp_path, 'file,verdict' + chr(10) + '7,poisoned' + chr(10))}"
    assert ASD.main([*tiny_arguments, review, "--report", "report=true"]) == 0
    first = (run / "report" / "suspects.csv").read_text().splitlines()[1]
    assert first.startswith("1,7,7,")
    assert "7" not in (run / "report" / "purified.txt").read_text().splitlines()


def test_a_new_run_tells_how_the_ranking_moved(
    tmp_path: Path, tiny_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ASD.main([*tiny_arguments, "report=true"]) == 0
    assert "in the report before" not in capsys.readouterr().out
    review = f"review={write(tmp_path, 'file,verdict' + chr(10) + '7,clean' + chr(10))}"
    assert ASD.main([*tiny_arguments, review, "--resume", "False", "report=true"]) == 0
    out = capsys.readouterr().out
    assert "in the report before" in out and "of the 64 worst were among the worst before" in out
    state = load_checkpoint(tmp_path / "digits" / "checkpoint" / "latest_model.pt")
    assert state["config"]["review"].endswith("review.csv")


@pytest.mark.parametrize("label", [0, 1])
def test_a_class_without_a_seed_is_refused_before_anything_is_trained(label: int) -> None:
    training, seeds = files_of_six(), torch.arange(6)
    of_class, nobody = seeds[training.labels == label], seeds[:0]
    everything = Review(nobody, of_class)
    with pytest.raises(InputError, match="review: all samples of class"):
        refuse_emptied(everything, everything.seeds(seeds), training)
    for some in (Review(nobody, of_class[:2]), Review(nobody, nobody)):
        refuse_emptied(some, some.seeds(seeds), training)


def test_a_run_without_a_start_is_refused_and_can_still_be_ranked(
    tmp_path: Path, tiny_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A person may call all seeds poisoned, drawn ones above all; only a start needs others."""
    session = ASD.prepare(set_up(parse_arguments(tiny_arguments), Interrupt()))
    rows = "".join(f"{index},poisoned\n" for index in session.material.seeds.tolist())
    file = write(tmp_path, f"file,verdict\n{rows}")
    review = f"review={file}"
    assert ASD.main([*tiny_arguments, review]) == 2
    assert "review: all samples of class" in capsys.readouterr().err
    assert ASD.main([*tiny_arguments, review, "defense=none", "num_epochs=1"]) == 0
    assert ASD.main([*tiny_arguments, "--resume", "False"]) == 0
    assert ASD.main([*tiny_arguments, review, "--report"]) == 0
