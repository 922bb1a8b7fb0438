"""Wrong use of the command line is one clear line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command.cli_cases import CPU, outcome
from tests.conftest import DIGITS, TINY
from utils.files import PROJECT

BASELINE = str(PROJECT / "config" / "baseline_asd.yaml")


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
        ([*CPU, "--resume", "loader.num=2"], ["no checkpoint", "keys are set before --resume"]),
        ([*CPU, "--predict", "loader.num=2"], ["no file", "keys are set before --predict"]),
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
    assert "not finite; no checkpoint was written" in err  # it was the first epoch
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
        "import sys, ASD; code = ASD.main(sys.argv[1:]);"
        "lines = open('/proc/self/status'); print(*(a for a in lines if a.startswith('VmHWM')));"
        "sys.exit(code)"
    )  # the peak of this program alone: that of `getrusage` starts from the parent's
    given = ["--config", BASELINE, "--gpu", "cpu", "--check"]
    given += [f"dataset_dir={cifar10_folder}", f"storage_dir={tmp_path}"]
    command = [sys.executable, "-c", code, *given]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    peak = int(done.stdout.rsplit("VmHWM:", 1)[1].split()[0])  # KiB
    assert peak < 3_000_000


@pytest.mark.parametrize("taken", [".", "digits", "digits/checkpoint"])
@pytest.mark.parametrize("task", [["--check"], []], ids=["check", "run"])
def test_storage_that_cannot_be_written_is_told_before_the_data_are_read(
    taken: str, task: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "storage" / taken
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("a file")
    given = [*CPU, f"storage_dir={tmp_path / 'storage'}", "dataset_dir=/nowhere", *task]
    code, _, err = outcome(capsys, *given)
    assert (code, err.count("\n")) == (2, 1)
    assert f"storage_dir: {tmp_path / 'storage' / 'digits'} cannot be written (" in err
    assert "Not a directory); name another storage_dir" in err
    assert place.read_text() == "a file"


def test_a_check_leaves_nothing_where_it_has_tried_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(capsys, *CPU, f"storage_dir={tmp_path}", *TINY, "--check")[0] == 0
    assert list(tmp_path.iterdir()) == []
