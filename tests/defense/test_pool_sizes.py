"""Settings that leave too few samples to train on are refused before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest

import ASD
from tests.conftest import DIGITS, TINY

SAMPLES = 300
TWO_STAGES = ["num_epochs=3", "global.epoch_first=1", "global.epoch_second=3"]
THREE_STAGES = ["num_epochs=3", "global.epoch_first=1", "global.epoch_second=2"]
END = "global.epoch_third=3"


def checked(
    storage: Path, capsys: pytest.CaptureFixture[str], *given: str, check: bool = True
) -> tuple[int, str]:
    arguments = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={storage}", *given]
    code = ASD.main([*arguments, *(["--check"] if check else [])])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([*TWO_STAGES, END, "global.epsilon=0.003"], f"global.epsilon: 0 of {SAMPLES}"),
        ([*TWO_STAGES, END, "global.epsilon=0.004"], f"global.epsilon: 1 of {SAMPLES}"),
        ([*THREE_STAGES, END, "global.epsilon_meta=0.003"], f"global.epsilon_meta: 0 of {SAMPLES}"),
        (["defense=dbd", "global.epsilon=0.003"], f"global.epsilon: 0 of {SAMPLES}"),
        (["defense=abl", "abl.fraction=0.999"], f"abl.fraction: 0 of {SAMPLES}"),
        (["defense=abl", "abl.fraction=0.997"], f"abl.fraction: 1 of {SAMPLES}"),
    ],
)
def test_a_share_that_keeps_too_few_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], told: str
) -> None:
    code, error = checked(tmp_path, capsys, *given)
    assert code == 2
    assert error.startswith(f"error: {told} training samples would keep their label")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "given",
    [
        [*TWO_STAGES, END, "global.epsilon_meta=0.003"],  # no stage 3 is reached
        ["num_epochs=1", "global.epoch_first=1", "global.epsilon=0.003"],
        [*TWO_STAGES, END, "global.epsilon=0.003", "global.keep_seeds=true"],
        [*TWO_STAGES, END, "global.epsilon=0.007"],
        ["defense=abl", "abl.fraction=0.9934"],
    ],
)
def test_what_keeps_enough_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    code, error = checked(tmp_path, capsys, *given)
    assert code == 0, error


def test_a_review_that_leaves_nothing_to_train_on_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    review = tmp_path / "review.csv"
    rows = "".join(f"{index},poisoned\n" for index in range(SAMPLES))
    review.write_text(f"file,verdict\n{rows}")
    code, error = checked(tmp_path, capsys, "defense=abl", f"review={review}", check=False)
    assert code == 2
    assert "review" in error


def test_a_nearly_empty_polluted_pool_gives_no_batch_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["semi.loader.batch_size=8", "semi.loader.balance=pools", "global.epsilon=0.98"]
    steps = "semi.mixmatch.train_iteration=1"
    code, error = checked(tmp_path, capsys, *TWO_STAGES, END, steps, *small, check=False)
    assert code == 0, error
