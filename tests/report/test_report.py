"""The list of suspects and the verdict: from what a defender can see, and nothing else."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ASD
from data.poison import TrainingSet
from data.review import Review
from defense.defense import Pools
from defense.history import KEPT_REDUCTIONS, History
from report.findings import Findings, Opinion
from report.lost import lost_classes
from report.moved import what_moved
from report.purified import may_be_kept
from report.score import contradiction, evidence, ranks, rarity, suspicion
from report.suspects import write_suspects
from report.verdict import (
    VERDICT_FILE,
    Verdict,
    concentration,
    estimate_poisoned,
    exit_code,
    judge,
    read_verdict,
)
from report.write import doubts
from tests.conftest import colourful_images
from tests.report.report_example import make_findings

NOBODY = Review(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_ranks_are_shares_of_lower_samples(values: list[int]) -> None:
    found = ranks(torch.tensor(values))
    for value, rank in zip(values, found.tolist(), strict=True):
        lower = sum(other < value for other in values)
        equal = sum(other == value for other in values)
        assert rank == pytest.approx((lower + equal / 2) / len(values))


def test_the_history_keeps_what_the_splits_say() -> None:
    history = History()
    for epoch in range(8):
        clean = torch.tensor([True, epoch < 3, False])
        loss = torch.tensor([0.1, 0.2, float(epoch)])
        reduction = None if epoch < 2 else loss + 1
        history.note("early" if epoch < 2 else "late", Pools(clean, loss, reduction))
    assert history.epochs == 8
    assert history.polluted is not None and history.polluted.tolist() == [0, 5, 8]
    assert history.losses["early"][2] == 1 and history.losses["late"][2] == 7
    assert len(history.reductions) == KEPT_REDUCTIONS
    assert [float(kept[2]) for kept in history.reductions] == [4, 5, 6, 7, 8]


def test_a_method_that_does_not_split_leaves_no_history() -> None:
    history = History()
    history.note("supervised", Pools(torch.ones(3, dtype=torch.bool)))
    assert history == History()


def made_up(poisoned_from: int, classes: int = 10, count: int = 1000) -> Findings:
    """A set in which the last samples, from `poisoned_from` on, are labelled 3 and look like it."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    labels[poisoned_from:] = 3
    poisoned = torch.arange(count) >= poisoned_from
    loss = torch.rand(count, generator=generator) + 3 * poisoned
    wrong = poisoned | (torch.rand(count, generator=generator) < 0.02)
    predicted = torch.where(wrong, spread(labels, classes), labels)
    chosen = torch.full((count,), 0.9)
    opinion = Opinion(predicted, chosen, torch.where(wrong, 0.02, 0.9) - loss / 100)
    history = History()
    for stage in ("class-aware", "class-agnostic", "meta-split"):
        reduction = loss if stage == "meta-split" else None
        history.note(stage, Pools(loss < loss.median(), loss, reduction))
    training = TrainingSet(
        colourful_images(count, 4), labels, tuple(f"class {i}" for i in range(classes))
    )
    seeds = torch.arange(0, poisoned_from, 47)  # of all classes
    against = evidence(opinion, history, labels, classes)
    return Findings(
        training=training,
        opinion=opinion,
        history=history,
        seeds=seeds,
        contradiction=contradiction(opinion, history),
        score=suspicion(against, labels, 3, 0.5, NOBODY),
        kept=may_be_kept(opinion, labels, seeds, NOBODY),
        poisoned=None,
    )


def test_poison_is_found_with_its_target_and_about_its_number() -> None:
    verdict = judge(made_up(poisoned_from=950), seeds_checked=True)
    assert verdict.name == "poisoned" and verdict.suspected_target == "class 3"
    assert 45 <= verdict.estimated_poisoned <= 60
    assert "'class 3'" in verdict.reasons[0]


def test_a_clean_set_shows_no_sign() -> None:
    verdict = judge(made_up(poisoned_from=1000), seeds_checked=True)
    assert verdict.name == "no_sign"
    assert verdict.suspected_target is None and verdict.estimated_poisoned == 0


def test_unchecked_seeds_never_allow_an_all_clear() -> None:
    verdict = judge(made_up(poisoned_from=1000), seeds_checked=False)
    assert verdict.name == "cannot_tell" and "checked" in verdict.reasons[0]
    assert judge(made_up(poisoned_from=950), seeds_checked=False).name == "poisoned"


def test_a_weak_model_cannot_tell() -> None:
    findings = made_up(poisoned_from=1000)
    findings.opinion.predicted[::3] = (findings.opinion.predicted[::3] + 1) % 10
    verdict = judge(findings, seeds_checked=True)
    assert verdict.name == "cannot_tell" and "by itself" in verdict.reasons[-1]


def test_a_weak_model_accuses_nobody() -> None:
    findings = made_up(poisoned_from=950)
    assert judge(findings, seeds_checked=True).name == "poisoned"
    others = torch.ones(1000, dtype=torch.bool)
    others[findings.seeds] = False
    others[950:] = False
    others &= torch.arange(1000) % 3 == 0
    findings.opinion.predicted[others] = (findings.opinion.predicted[others] + 1) % 10
    verdict = judge(findings, seeds_checked=True)
    assert verdict.statistics["broad_concentration"] >= 0.5  # the poison still stands out
    assert verdict.name == "cannot_tell" and "by itself" in verdict.reasons[-1]


def test_a_confusion_of_two_classes_is_not_called_poison() -> None:
    findings = made_up(poisoned_from=950)
    findings.opinion.predicted[950:] = 7
    verdict = judge(findings, seeds_checked=True)
    assert verdict.name == "cannot_tell" and "one other class" in verdict.reasons[0]


def test_a_lost_class_is_no_alarm() -> None:
    findings = made_up(poisoned_from=1000)
    assert findings.lost_classes == []
    lost = findings.training.labels == 6
    findings.opinion.predicted[lost] = spread(findings.training.labels, 10)[lost]
    findings.contradiction[lost] += 5
    assert findings.lost_classes == [6]
    verdict = judge(findings, seeds_checked=True)
    assert verdict.name == "cannot_tell" and "'class 6'" in verdict.reasons[0]


def test_poison_is_still_found_beside_a_lost_class() -> None:
    findings = made_up(poisoned_from=950)
    lost = findings.training.labels == 6
    findings.opinion.predicted[lost] = spread(findings.training.labels, 10)[lost]
    findings.contradiction[lost] += 5
    verdict = judge(findings, seeds_checked=True)
    assert verdict.name == "poisoned" and verdict.suspected_target == "class 3"


def test_a_class_is_lost_when_half_of_its_verified_samples_are() -> None:
    labels = torch.tensor([0] * 10 + [1] * 5)
    predicted = labels.clone()
    predicted[:4] = 1
    assert lost_classes(labels, predicted, 3) == []  # nobody has verified any of class 2
    predicted[:5] = 1
    assert lost_classes(labels, predicted, 3) == [0]


def test_a_class_with_more_poison_than_clean_samples_is_not_lost() -> None:
    findings = made_up(poisoned_from=1000)
    many = torch.ones(1000, dtype=torch.bool)
    many[findings.seeds] = False
    lost = (findings.training.labels == 6) & many
    findings.opinion.predicted[lost] = spread(findings.training.labels, 10)[lost]
    findings.contradiction[lost] += 5
    verdict = judge(findings, seeds_checked=True)
    assert verdict.name == "poisoned" and verdict.suspected_target == "class 6"


def spread(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Own labels that all differ from the given ones, and in as many ways as there are."""
    return (labels + 1 + torch.arange(len(labels)) % (classes - 1)) % classes


@given(st.permutations(range(40)), st.integers(2, 5), st.booleans())
def test_a_random_order_is_never_fully_concentrated(
    order: list[int], classes: int, leave_one_out: bool
) -> None:
    labels = torch.arange(40) % classes
    own = spread(labels, classes)
    found = concentration(-torch.tensor(order).double(), labels, own, classes, leave_one_out)
    assert 0 <= found.excess < 1 and 0 <= found.share <= 1


def test_concentration_and_estimate_of_a_known_order() -> None:
    labels = torch.tensor([1] * 20 + [0, 2] * 40)
    against, own = -torch.arange(100).double(), spread(labels, 3)
    found = concentration(against, labels, own, 3, leave_one_out=False)
    assert found.label == 1 and found.share == 1 and found.first >= 16
    assert concentration(against, labels, own, 3, leave_one_out=True).label == 1


def test_the_estimate_leaves_out_what_is_usual() -> None:
    labels, predicted = torch.arange(100) % 5, torch.arange(100) % 5
    predicted[:5] = (predicted[:5] + 1) % 5  # one of each class
    assert estimate_poisoned(labels, predicted, 2, 5) == 0
    labels = torch.cat([labels, torch.full((60,), 2)])
    predicted = torch.cat([predicted, torch.tensor([0, 1, 3, 4]).repeat(10), torch.full((20,), 3)])
    assert estimate_poisoned(labels, predicted, 2, 5) == 40  # ten of each class, and confusions


def test_rarity_is_of_the_own_label_within_the_given_one() -> None:
    labels, predicted = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 0, 1])
    found = rarity(labels, predicted, 2)
    assert found.tolist() == pytest.approx(
        [-math.log(3 / 4)] * 3 + [-math.log(1 / 4), -math.log(1 / 2), -math.log(1 / 2)]
    )


def test_poison_outranks_hard_samples_of_its_own_target() -> None:
    """Both look alike but for the own labels: of the hard ones they are all the same."""
    findings = made_up(poisoned_from=950)
    opinion, labels = findings.opinion, findings.training.labels
    hard = torch.nonzero(labels[:950] == 3).flatten()[:60]
    opinion.predicted[hard] = 5
    opinion.given[hard] = opinion.given[950:].mean()
    for loss in findings.history.losses.values():
        loss[hard] = loss[950:].mean()
    against = evidence(opinion, findings.history, labels, 10)
    score = suspicion(against, labels, 3, 0.5, NOBODY)
    assert score[950:].median() > score[hard].max()


def test_a_class_that_is_large_by_nature_is_not_suspicious() -> None:
    labels = torch.tensor([0] * 9 + [1]).repeat(100)
    found = concentration(-torch.arange(1000).double(), labels, 1 - labels, 2, leave_one_out=False)
    assert found.excess < 0.05


def test_what_a_person_says_decides_the_score_and_what_is_kept() -> None:
    findings = made_up(poisoned_from=950)
    review = Review(clean=torch.tensor([990]), poisoned=torch.tensor([10]))
    labels = findings.training.labels
    against = evidence(findings.opinion, findings.history, labels, 10)
    score = suspicion(against, labels, 3, 0.5, review)
    assert score[990] == 0 and score[10] == 1 and score.min() >= 0 and score.max() <= 1
    kept = may_be_kept(findings.opinion, findings.training.labels, findings.seeds, review)
    assert kept[990] and not kept[10]
    assert int(kept[950:].sum()) == 1  # none of the poisoned samples but the reviewed one


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished run with its report, and the command line that made it."""
    from tests.conftest import DIGITS, TINY

    storage = tmp_path_factory.mktemp("storage")
    arguments = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, "report=true"]
    arguments.append(f"storage_dir={storage}")
    assert ASD.main(arguments) == 0
    return storage / "digits", arguments


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "report" / "suspects.csv").open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_a_benchmark_run_leaves_a_full_list(finished: tuple[Path, list[str]]) -> None:
    run, _ = finished
    rows = rows_of(run)
    assert list(rows[0])[:7] == [
        "rank",
        "file",
        "index",
        "label",
        "predicted",
        "probability",
        "score",
    ]
    assert {"loss_class_aware", "loss_class_agnostic", "loss_meta_split"} <= set(rows[0])
    assert sorted(int(row["index"]) for row in rows) == list(range(300))
    assert [int(row["rank"]) for row in rows] == list(range(1, 301))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True) and scores[-1] >= 0 and scores[0] <= 1
    manifest = json.loads((run / "manifest.json").read_text())
    told = {int(row["index"]) for row in rows if row["poisoned"] == "1"}
    assert told == set(manifest["poisoned_indices"])
    kept = (run / "report" / "purified.txt").read_text().split()
    assert kept == sorted((row["file"] for row in rows if row["kept"] == "1"), key=int)
    assert set(map(str, manifest["seed_indices"])) <= set(kept)


def test_result_and_verdict_agree(finished: tuple[Path, list[str]]) -> None:
    run, _ = finished
    result = json.loads((run / "result.json").read_text())
    verdict = json.loads((run / "report" / "verdict.json").read_text())
    assert result["verdict"] == verdict["name"] in {"poisoned", "no_sign", "cannot_tell"}
    assert result["suspected_target"] == verdict["suspected_target"]
    assert result["estimated_poisoned"] == verdict["estimated_poisoned"]
    assert 0 <= result["suspects_auroc"] <= 1 and 0 <= result["suspects_precision"] <= 1


def test_the_report_can_be_written_anew_without_training(
    finished: tuple[Path, list[str]],
) -> None:
    run, arguments = finished
    before = {file.name: file.read_bytes() for file in (run / "report").glob("*.*")}
    checkpoint = (run / "checkpoint" / "latest_model.pt").read_bytes()
    (run / "report" / "suspects.csv").unlink()
    assert ASD.main([*arguments, "--report"]) == 0
    assert {file.name: file.read_bytes() for file in (run / "report").glob("*.*")} == before
    assert (run / "checkpoint" / "latest_model.pt").read_bytes() == checkpoint


def test_a_report_of_nothing_is_refused(
    tiny_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ASD.main([*tiny_arguments, "--report"]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("no_sign", 0), ("poisoned", 3), ("cannot_tell", 4)])
def test_the_exit_code_can_stop_a_release(
    finished: tuple[Path, list[str]], name: str, code: int
) -> None:
    run, arguments = finished
    path = run / "result.json"
    told = path.read_text()
    path.write_text(json.dumps({**json.loads(told), "verdict": name}))
    try:
        assert ASD.main([*arguments, "--fail-on-suspicion"]) == code
        assert ASD.main(arguments) == 0
    finally:
        path.write_text(told)


def test_no_result_is_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    assert read_verdict(tmp_path / "result.json") is None
    assert exit_code(None) == 4


def test_a_mislabelled_seed_is_named() -> None:
    findings = made_up(poisoned_from=1000)
    findings.opinion.given[:] = 0.95
    findings.opinion.given[findings.seeds[4]] = 1e-4
    assert findings.doubtful_seeds == [int(findings.seeds[4])]
    (line,) = doubts(findings)
    assert line.startswith("1 verified samples look") and repr(str(int(findings.seeds[4]))) in line
    findings.opinion.given[findings.seeds[4]] = 0.95
    assert doubts(findings) == []


def test_an_attack_that_poisons_nothing_is_a_false_alarm_test(
    tmp_path: Path, tiny_arguments: list[str]
) -> None:
    assert ASD.main([*tiny_arguments, "report=true", "backdoor.poison_ratio=0"]) == 0
    result = json.loads((tmp_path / "digits" / "result.json").read_text())
    assert result["poisoned_samples"] == 0 and 0 <= result["asr"] <= 1
    assert "suspects_auroc" not in result
    assert (tmp_path / "digits" / "report" / "report.html").exists()


def test_the_furthest_rise_is_told_and_standing_still_is_not(tmp_path: Path) -> None:
    findings = make_findings()
    write_suspects(findings, tmp_path)
    verdict = Verdict("poisoned", "class 1", 5)
    (tmp_path / VERDICT_FILE).write_text(json.dumps(asdict(verdict)))
    told = "ranking: 40 of the 40 worst were among the worst before"
    assert what_moved(tmp_path, findings, verdict)[-1] == told
    score = findings.score.clone()
    score[20] = 2.0  # was the 21st, of scores that fall with the index
    moved = what_moved(tmp_path, replace(findings, score=score), verdict)
    assert moved[-1] == f"{told}; {findings.name(20)} has risen furthest, from rank 21 to 1"
