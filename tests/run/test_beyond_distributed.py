"""What goes beyond the paper, in two processes: they hear the same, and their pools begin alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run.test_distributed import log, run_tiny

BEYOND = (
    "witness.heard=[unverified_group, pattern]",
    "witness.vetoed=contradicted",
    "witness.reference.network={fastnet: {width: 4}}",
    "witness.reference.epochs=2",
    "witness.reference.steps=4",
    "global.epsilon=auto",
    "global.class_floor=0.5",
    "global.growth=0.05",
    "global.keep_seeds=true",
    "split.criterion={cross_entropy: null}",
    "split.augment=false",
    "semi.ema=0.9",
    "semi.loader.balance=pools",
    "semi.mixmatch.alignment=true",
    "semi.mixmatch.adjustment=true",
)


def test_a_run_with_all_that_goes_beyond_the_paper_in_two_processes(tmp_path: Path) -> None:
    alone = run_tiny(tmp_path / "one", "cpu", *BEYOND)
    together = run_tiny(tmp_path / "two", "cpu,cpu", "sync_bn=true", *BEYOND)
    assert (alone.returncode, together.returncode) == (0, 0), together.stderr + alone.stderr
    said = [
        [line for line in run.stdout.splitlines() if line.startswith("witness ")]
        for run in (alone, together)
    ]
    assert len(said[0]) == 2 and said[0] == said[1]
    one, two = log(tmp_path / "one"), log(tmp_path / "two")
    assert [row["stage"] for row in one] == [row["stage"] for row in two]
    assert one[0]["clean_pool"] == two[0]["clean_pool"]
    assert float(two[0]["loss"]) == pytest.approx(float(one[0]["loss"]), rel=1e-3)
    kept = [float(rows[1]["kept_share"]) for rows in (one, two)]
    assert kept[1] == pytest.approx(kept[0], abs=0.05)
