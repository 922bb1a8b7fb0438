"""The command line as a person meets it: lines, exit codes, and nothing lost."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import ASD
from run.checkpoint import BEST, LATEST
from tests.conftest import DIGITS
from utils.files import PROJECT

CPU = ("--config", str(DIGITS), "--gpu", "cpu")
BASELINE = str(PROJECT / "config" / "baseline_asd.yaml")


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return the exit code, what went to stdout, and to stderr."""
    code = ASD.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


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
    code, _, err = outcome(capsys, *arguments, "network.resnet18_cifar.width=5", "global.n=3")
    assert code == 2
    assert "network.resnet18_cifar.width (4 in the checkpoint, 5 now)" in err
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
    code, out, _ = outcome(capsys, *arguments, "--resume", str(tmp_path / "theirs.pt"))
    assert code == 0
    assert "of the published code, evaluated only" in out
    result = json.loads((folder / "result.json").read_text())
    assert f"{100 * result['acc']:.2f} %" in out


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


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--config", "no/such.yaml"], ["no/such.yaml"]),
        (["--config", str(DIGITS), "--gpu", "7"], ["--gpu 7", "--gpu cpu"]),
        (["--config", str(DIGITS), "--gpu", "7,8"], ["--gpu 7,8", "--gpu cpu"]),
        (["--config", str(DIGITS), "--gpu", "fast"], ["--gpu fast"]),
        ([*CPU, "sead.seed=1"], ["sead", "'seed'"]),
        (["--config", str(DIGITS), "--fast"], ["--fast", "--help"]),
        ([*CPU, "--resume", "x.pt"], ["no checkpoint x.pt"]),
        (
            [*CPU, "backdoor.target_label=10"],
            ["target_label", "0 to 9"],
        ),
        (
            [*CPU, "backdoor.badnets.trigger_path=no.png"],
            ["trigger_path", "no.png"],
        ),
        (
            [
                "--config",
                str(DIGITS),
                "--gpu",
                "cpu",
                "transform.train.primary.random_crop.size=32",
            ],
            ["random_crop.size", "16x16"],
        ),
        (
            [*CPU, "global.n=100", "global.t=1"],
            ["global.n", "polluted pool"],
        ),
        (
            [*CPU, "meta.layers=[backbone.layer9]"],
            ["meta.layers", "backbone.layer9"],
        ),
        (
            [*CPU, "speed.channels_last=true", "network.resnet18_cifar.width=8"],
            ["speed.channels_last", "16"],
        ),
        (
            [*CPU, "data.train_samples=2000"],
            ["data.train_samples", "2000"],
        ),
        (
            [
                "--config",
                str(DIGITS),
                "--gpu",
                "cpu",
                "storage_dir=/proc/nothing",
                "--resume=False",
            ],
            ["storage_dir", "/proc/nothing"],
        ),
    ],
)
def test_wrong_use_is_one_clear_line_and_code_2(
    arguments: list[str], parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not any("storage_dir" in argument for argument in arguments):
        arguments = [*arguments, f"storage_dir={tmp_path}"]
    code, _, err = outcome(capsys, *arguments)
    assert code == 2, err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for part in parts:
        assert part in err


def test_missing_cifar10_names_the_archive_and_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(_: str, root: str, **__: Any) -> None:
        Path(root).mkdir(parents=True)  # as a download does, before it fails
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", no_network)
    place = tmp_path / "not" / "here"
    arguments = ["--config", BASELINE, "--gpu", "cpu", f"dataset_dir={place}"]
    code, _, err = outcome(capsys, *arguments, f"storage_dir={tmp_path}", "--check")
    assert code == 2
    assert not place.parent.exists()  # a mistyped path does not become a folder
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz" in err
    assert str(place) in err


def test_cifar10_is_found_by_its_root_and_by_its_own_folder(
    cifar10_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (cifar10_folder, f"{cifar10_folder}/cifar-10-batches-py"):
        arguments = ["--config", BASELINE, "--gpu", "cpu", f"dataset_dir={folder}", "--check"]
        code, out, err = outcome(capsys, *arguments, f"storage_dir={tmp_path}")
        assert code == 0, err
        for part in ("2500 training samples (5.00 %)", "25000", "100 to 1200", "122,880"):
            assert part in out


def test_a_loss_that_is_not_finite_ends_the_run_with_code_1(
    tiny_arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = outcome(capsys, *tiny_arguments, "optimizer={SGD: {lr: 1.0e+9}}")
    assert code == 1
    assert "not finite" in err
    assert err.count("\n") == 1


def test_no_truth_no_columns_about_it(
    tiny_arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, _ = outcome(capsys, *tiny_arguments, "backdoor=null", "num_epochs=1")
    assert code == 0
    header = (tmp_path / "digits" / "log.csv").read_text().splitlines()[0].split(",")
    assert not {"asr", "tpr", "fpr", "auroc", "poisoned_in_clean_pool"} & set(header)
    result = json.loads((tmp_path / "digits" / "result.json").read_text())
    assert not {"asr", "attack", "poisoned_samples"} & set(result)
    assert result["seeds_checked"] is True  # the digits are known to be clean
    manifest = json.loads((tmp_path / "digits" / "manifest.json").read_text())
    assert not {"attack", "poisoned_samples", "poisoned_indices"} & set(manifest)
    assert "poison" not in result["fingerprints"]


def test_seeds_from_a_file_are_used(
    tiny_arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(capsys, *tiny_arguments, "num_epochs=1")[0] == 0
    manifest = json.loads((tmp_path / "digits" / "manifest.json").read_text())
    file = tmp_path / "seeds.txt"
    chosen = sorted(set(range(300)) - set(manifest["poisoned_indices"]))[:200]
    file.write_text("\n".join(map(str, chosen)))
    arguments = [*tiny_arguments, "num_epochs=1", f"global.seed_indices={file}"]
    code, _, err = outcome(capsys, *arguments, "--resume", "False", "global.seed_num=2")
    assert code == 0, err
    manifest = json.loads((tmp_path / "digits" / "manifest.json").read_text())
    assert manifest["seed_indices"] == chosen


def test_the_papers_experiment_is_prepared_in_less_than_3_gb(
    cifar10_folder: str, tmp_path: Path
) -> None:
    code = (
        "import resource, sys, ASD; code = ASD.main(sys.argv[1:]);"
        "print('KiB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    given = ["--config", BASELINE, "--gpu", "cpu", "--check"]
    given += [f"dataset_dir={cifar10_folder}", f"storage_dir={tmp_path}"]
    command = [sys.executable, "-c", code, *given]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    peak = int(done.stdout.rsplit("KiB", 1)[1])
    assert peak < 3_000_000
