"""The command line as a person meets it: lines, exit codes, and nothing lost."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import ASD
from run.checkpoint import BEST, LATEST, load_checkpoint
from tests.command.cli_cases import CPU, outcome


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished run of seconds: its folder, and the command line that made it."""
    from tests.conftest import TINY

    storage = tmp_path_factory.mktemp("storage")
    arguments = [*CPU, *TINY, f"storage_dir={storage}"]
    assert ASD.main([*arguments, "--resume", "False"]) == 0
    return storage / "digits", arguments


def test_a_run_leaves_everything_that_it_promises(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    promised = {"config.yaml", "manifest.json", "log.csv", "result.json"}
    assert promised | {f"checkpoint/{LATEST}", f"checkpoint/{BEST}"} <= names
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["stage"] for row in rows] == (
        ["class-aware"] * 3 + ["class-agnostic"] * 3 + ["meta-split"] * 3
    )
    assert [int(row["clean_pool"]) for row in rows] == [50, 70, 90] + [150] * 6
    for row in rows:
        for name in ("acc", "asr", "tpr", "fpr", "auroc"):
            assert 0 <= float(row[name]) <= 1
    result = json.loads((folder / "result.json").read_text())
    assert result["acc"] == float(rows[-1]["acc"])
    assert result["asr"] == float(rows[-1]["asr"])
    assert (result["defense"], result["dataset"], result["attack"]) == ("asd", "digits", "badnets")
    assert result["epochs"] == 9
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["poisoned_samples"] == len(manifest["poisoned_indices"]) == 15
    assert len(manifest["seed_indices"]) == 50


def test_a_finished_run_is_only_evaluated(
    finished: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments = finished
    before = (folder / "checkpoint" / LATEST).stat().st_mtime_ns
    code, out, _ = outcome(capsys, *arguments, "--resume", LATEST)
    assert code == 0
    assert "a finished run, evaluated only" in out
    result = json.loads((folder / "result.json").read_text())
    assert f"{100 * result['acc']:.2f} %" in out
    assert f"{100 * result['asr']:.2f} %" in out
    assert (folder / "checkpoint" / LATEST).stat().st_mtime_ns == before


def test_check_trains_nothing_and_makes_nothing(
    tiny_arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = outcome(capsys, *tiny_arguments, "--check")
    assert code == 0
    for part in ("15 training samples", "class-aware", "50 to 90", "150", "9 epochs of 3: 27"):
        assert part in out
    assert list(tmp_path.iterdir()) == []


def test_a_changed_experiment_is_refused_and_named(
    finished: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, arguments = finished
    code, _, err = outcome(capsys, *arguments, "network.fastnet.width=5", "global.n=3")
    assert code == 2
    assert "network.fastnet.width (4 in the checkpoint, 5 now)" in err
    assert "global.n" in err


def test_another_seed_file_is_refused(
    finished: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments = finished
    path = folder / "checkpoint" / LATEST
    state = torch.load(path, weights_only=True)
    state["fingerprints"]["seeds"] = "another"
    torch.save(state, tmp_path / "changed.pt")
    code, _, err = outcome(capsys, *arguments, "--resume", str(tmp_path / "changed.pt"))
    assert code == 2
    assert "the run was started with other seeds" in err


def test_scratch_moves_the_earlier_run_aside(
    finished: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, arguments = finished
    short = [*arguments, f"storage_dir={tmp_path}", "num_epochs=1", "--resume", "False"]
    assert outcome(capsys, *short)[0] == 0
    code, out, _ = outcome(capsys, *short)
    assert code == 0
    assert f"moved to {tmp_path / 'digits.1'}" in out
    assert (tmp_path / "digits.1" / "result.json").exists()
    assert (tmp_path / "digits" / "result.json").exists()


def test_a_checkpoint_of_the_published_code_is_evaluated(
    finished: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments = finished
    ours = torch.load(folder / "checkpoint" / LATEST, weights_only=True)
    weights = {f"module.{key}": value for key, value in ours["model_state_dict"].items()}
    published = {
        "epoch": 119,
        "result": {"acc": 0.5},
        "model_state_dict": weights,
        "optimizer_state_dict": ours["optimizer_state_dict"],
        "best_acc": 0.5,
        "best_epoch": 100,
    }
    torch.save(published, tmp_path / "theirs.pt")
    result = json.loads((folder / "result.json").read_text())
    for more in ((), ("semi.ema=0.9",)):  # it has no average; the model itself is tested
        given = [*arguments, *more, "--resume", str(tmp_path / "theirs.pt")]
        code, out, _ = outcome(capsys, *given)
        assert code == 0
        assert "of the published code, evaluated only" in out
        # No run of this name: the model is called by its path.
        row = next(line for line in out.splitlines() if line.startswith(f"| {tmp_path}"))
        assert f"{100 * result['acc']:.2f} %" in row


def test_results_on_the_same_poison_stand_side_by_side(
    finished: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments = finished
    other = folder.with_name("digits_none")
    other.mkdir()
    result = json.loads((folder / "result.json").read_text())
    result |= {"defense": "none", "acc": 0.9512, "asr": 0.9987}
    (other / "result.json").write_text(json.dumps(result))
    _, out, _ = outcome(capsys, *arguments)
    assert "digits_none" in out
    assert "99.87 %" in out
    result["fingerprints"]["poison"] = "another"
    (other / "result.json").write_text(json.dumps(result))
    _, out, _ = outcome(capsys, *arguments)
    assert "digits_none" not in out


def test_check_learns_no_attack(
    tiny_arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt = "backdoor={iab: {epochs: 500, mask_epochs: 500}}"
    code, out, _ = outcome(capsys, *tiny_arguments, learnt, "--check")
    assert code == 0
    assert "iab, learnt when the run starts" in out
    assert "what is shown here is of the clean set" in out
    assert not any(tmp_path.rglob("*.bin"))


def test_check_says_how_many_targets_there_are(
    tiny_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for attack, words in {
        "backdoor.label_rule=all_to_all": "badnets, 10 target labels",
        "backdoor={label_noise: null, poison_ratio: 0.3}": "label_noise, 10 target labels",
        "backdoor.target_label=4": "badnets, target 4 (4)",
    }.items():
        code, out, _ = outcome(capsys, *tiny_arguments, attack, "--check")
        assert code == 0
        assert words in out


def test_a_finished_run_says_what_it_thinks_and_what_it_does_not_read(
    finished: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments = finished
    review = tmp_path / "review.csv"
    review.write_text("file,verdict\n3,poisoned\n")
    verdict = json.loads((folder / "result.json").read_text())["verdict"]
    code, out, _ = outcome(capsys, *arguments, f"review={review}", "--fail-on-suspicion")
    assert code == {"no_sign": 0, "poisoned": 3, "cannot_tell": 4}[verdict]
    assert f"result.json: {verdict}" in out
    assert f"review: {review} is not applied" in out


def after_two_epochs(checkpoint: Path) -> dict[str, Any]:
    """Return a checkpoint as if the run had come to its third epoch."""
    state = load_checkpoint(checkpoint)
    return state | {"epoch": 2, "rows": state["rows"][:2], "best_epoch": 1}


@pytest.mark.parametrize("checkpoint", [LATEST, "kept.pt"])
def test_a_gate_says_which_verdict_it_goes_by(
    finished: tuple[Path, list[str]],
    checkpoint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, arguments = finished
    gate = [*arguments, "--name", "other", "--fail-on-suspicion"]
    path = folder / "checkpoint" / checkpoint
    if not path.exists():
        shutil.copy(folder / "checkpoint" / LATEST, path)
    verdict = json.loads((folder / "result.json").read_text())["verdict"]
    code, out, _ = outcome(capsys, *gate, "--resume", str(path))
    assert code == {"no_sign": 0, "poisoned": 3, "cannot_tell": 4}[verdict]
    assert f"{folder / 'result.json'}: {verdict}" in out
    assert not (folder.parent / "other").exists()
    # The model is no run of that name, and is called by its path.
    assert [row.split()[1] for row in out.splitlines() if row.startswith("| ")][1] == str(path)


def test_a_gate_says_that_no_verdict_is_known(
    finished: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments = finished
    checkpoints = folder.parent / "second" / "checkpoint"
    shutil.copytree(folder / "checkpoint", checkpoints)
    torch.save(after_two_epochs(checkpoints / LATEST), checkpoints / BEST)
    gate = ["--name", "second", "--resume", BEST, "--fail-on-suspicion"]
    code, out, _ = outcome(capsys, *arguments, *gate)
    assert code == 4
    assert "no verdict is known" in out and "exit code 4" in out
    shutil.rmtree(folder.parent / "second")


def test_the_kept_images_of_an_unfinished_run_are_told_so(
    finished: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments = finished
    third, latest = folder.parent / "third", folder.parent / "third" / "checkpoint" / LATEST
    shutil.copytree(folder, third)
    assert ASD.main([*arguments, "--name", "third", "--report"]) == 0
    export = [*arguments, "--name", "third", "--export-clean"]
    code, out, _ = outcome(capsys, *export, str(tmp_path / "whole"))
    assert code == 0 and "written after" not in out and "unfinished" not in out
    torch.save(after_two_epochs(latest), latest)
    code, out, _ = outcome(capsys, *export, str(tmp_path / "part"))
    assert code == 0
    assert f"{third}: unfinished, epoch 2 of 9" in out
    assert "purified.txt: written after epoch 9, and the run has come to 2" in out
    shutil.rmtree(third)
