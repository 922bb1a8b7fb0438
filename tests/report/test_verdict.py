"""The verdict: what it calls poisoned, what it does not know, and what it says of that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch

from defense.history import History
from report.accusations import doubts_of, kinds_seen
from report.estimate import Estimate
from report.judge import CHOSEN, UNCHECKED, Accusation, judge
from report.lost import lost_classes
from report.verdict import UNSEEN_KINDS
from tests.report.made_up import clean, made_up, renewed, spread, with_witness


def test_poison_is_found_with_its_target_and_about_its_number() -> None:
    verdict = judge(made_up(poisoned_from=950))
    assert verdict.name == "poisoned" and verdict.suspected_target == "class 3"
    assert 45 <= verdict.estimated_poisoned <= 60
    assert "'class 3'" in verdict.reasons[0]


def test_a_clean_set_shows_no_sign() -> None:
    verdict = judge(clean())
    assert verdict.name == "no_sign"
    assert verdict.suspected_target is None and verdict.estimated_poisoned == 0


def test_unchecked_seeds_never_allow_an_all_clear() -> None:
    verdict = judge(replace(made_up(poisoned_from=1000), origin="drawn"))
    assert verdict.name == "cannot_tell" and "checked" in verdict.reasons[0]
    assert judge(replace(made_up(poisoned_from=950), origin="drawn")).name == "poisoned"


def test_a_weak_model_cannot_tell() -> None:
    findings = clean()
    findings.opinion.predicted[::3] = (findings.opinion.predicted[::3] + 1) % 10
    verdict = judge(findings)
    assert verdict.name == "cannot_tell" and "than on clean sets" in verdict.reasons[-1]


def test_a_set_too_small_to_show_poison_is_not_acquitted() -> None:
    verdict = judge(made_up(1000))
    assert verdict.name == "cannot_tell"
    assert verdict.reasons == (
        "the set is small: 0.5% of it is 5 of its samples, which nobody can tell from hard ones; "
        "from 40 on they would show",
    )


@pytest.mark.parametrize(("low", "name"), [(0, "cannot_tell"), (1, "poisoned")])
def test_nobody_is_accused_where_perhaps_nothing_is_there(
    low: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("report.judge.estimate_poisoned", lambda *_: Estimate(67, low, 205))
    assert judge(made_up(poisoned_from=950)).name == name


def test_a_model_that_has_learnt_every_label_acquits_nobody() -> None:
    assert judge(clean()).name == "no_sign"
    undefended = judge(replace(clean(), history=History()))
    assert undefended.name == "cannot_tell"
    assert "the model was taught every label" in undefended.reasons[0]


def test_a_weak_model_accuses_nobody() -> None:
    findings = made_up(poisoned_from=950)
    assert judge(findings).name == "poisoned"
    others = torch.ones(1000, dtype=torch.bool)
    others[findings.seeds] = False
    others[950:] = False
    others &= torch.arange(1000) % 3 == 0
    findings.opinion.predicted[others] = (findings.opinion.predicted[others] + 1) % 10
    verdict = judge(findings)
    limit = verdict.statistics["poisoned_from"]
    assert verdict.statistics["broad_concentration"] >= limit  # the poison still stands out
    assert verdict.name == "cannot_tell" and "than on clean sets" in verdict.reasons[-2]


def test_a_confusion_of_two_classes_is_not_called_poison() -> None:
    findings = made_up(poisoned_from=950)
    findings.opinion.predicted[950:] = 7
    verdict = judge(findings)
    assert verdict.name == "cannot_tell" and "few other classes" in verdict.reasons[0]


def test_a_class_given_to_another_by_a_labeller_is_not_called_poison() -> None:
    """Nearly all come from one class, and those of the others stand densely at the very top."""
    findings = made_up(4500, count=5000)
    findings.opinion.predicted[4500:4950] = 7
    verdict = judge(findings)
    limit = verdict.statistics["poisoned_from"]
    assert verdict.statistics["broad_concentration"] >= limit
    assert verdict.name == "cannot_tell" and "few other classes" in verdict.reasons[1]


def test_a_lost_class_is_no_alarm() -> None:
    findings = made_up(poisoned_from=1000)
    assert findings.lost_classes == []
    lost = findings.training.labels == 6
    findings.opinion.predicted[lost] = spread(findings.training.labels, 10)[lost]
    findings.contradiction[lost] += 5
    assert findings.lost_classes == [6]
    verdict = judge(findings)
    assert verdict.name == "cannot_tell" and "'class 6'" in verdict.reasons[0]


def test_a_run_that_has_lost_all_classes_cannot_tell() -> None:
    findings = made_up(1000)
    findings.opinion.predicted[:] = spread(findings.training.labels, 10)
    verdict = judge(renewed(findings))
    assert verdict.name == "cannot_tell" and len(verdict.reasons) == 12


def test_poison_is_still_found_beside_a_lost_class() -> None:
    findings = made_up(poisoned_from=950)
    lost = findings.training.labels == 6
    findings.opinion.predicted[lost] = spread(findings.training.labels, 10)[lost]
    findings.contradiction[lost] += 5
    verdict = judge(findings)
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
    verdict = judge(findings)
    assert verdict.name == "poisoned" and verdict.suspected_target == "class 6"


def test_poison_with_every_label_is_not_acquitted() -> None:
    verdict = judge(made_up(850, tuple(range(10))))
    assert verdict.name == "cannot_tell" and "more than on clean sets" in verdict.reasons[-2]


@pytest.mark.parametrize("share", [0.02, 0.04])
def test_errors_of_a_confident_model_in_class_order_are_no_poison(share: float) -> None:
    findings = clean()
    order = findings.training.labels.argsort(stable=True)
    findings.training.labels[:] = findings.training.labels[order]
    labels, wrong = findings.training.labels, torch.zeros(10_000, dtype=torch.bool)
    wrong[5 :: round(1 / share)] = True
    findings.opinion.predicted[:] = torch.where(wrong, spread(labels, 10), labels)
    findings.opinion.given[:] = torch.where(wrong, 0.0, 1.0)
    for loss in findings.history.losses.values():
        loss[:] = torch.where(wrong, 8.0, 1e-6)
    verdict = judge(renewed(findings))
    assert verdict.name == "no_sign" and verdict.statistics["broad_concentration"] < 0.1


@pytest.mark.parametrize("in_class_order", [True, False])
@pytest.mark.parametrize(
    ("poisoned", "name"), [(100, "poisoned"), (50, "cannot_tell"), (5, "no_sign")]
)
def test_little_poison_in_a_confident_model_is_found_or_not_acquitted(
    poisoned: int, name: str, in_class_order: bool
) -> None:
    findings = clean()
    labels = findings.training.labels
    if in_class_order:
        labels[:] = labels[labels.argsort(stable=True)]
    wrong = torch.zeros(10_000, dtype=torch.bool)
    wrong[3::501] = True  # errors of the model, of all classes
    sources = torch.nonzero((labels != 7) & ~wrong).flatten()
    chosen = sources[:: len(sources) // poisoned][:poisoned]
    chosen = chosen[~torch.isin(chosen, findings.seeds)]
    findings.opinion.predicted[:] = torch.where(wrong, spread(labels, 10), labels)
    wrong[chosen], labels[chosen] = True, 7
    findings.opinion.given[:] = torch.where(wrong, 0.0, 1.0)
    for loss in findings.history.losses.values():
        loss[:] = torch.where(wrong, 8.0, 1e-6)
    verdict = judge(renewed(findings))
    assert verdict.name == name
    assert verdict.suspected_targets == (("class 7",) if name == "poisoned" else ())


def test_a_labellers_default_is_not_called_poison_alone() -> None:
    verdict = judge(made_up(930))
    (first, *others) = verdict.lines()
    assert first.startswith("verdict: poisoned, or systematically mislabelled: about ")
    assert "labelled 'class 3'" in first and any("by mistake" in line for line in others)


def test_no_sign_names_what_it_cannot_see() -> None:
    verdict = judge(clean())
    result, lines = verdict.as_result(), verdict.lines()
    assert {"clean_label", "one_source"} <= set(result["unseen_kinds"]) == set(UNSEEN_KINDS)
    assert all(UNSEEN_KINDS[kind] in lines[-1] for kind in UNSEEN_KINDS)
    seen = judge(clean(), seen_kinds=("clean_label",))
    assert set(seen.unseen_kinds) == set(UNSEEN_KINDS) - {"clean_label"}
    assert judge(made_up(950)).unseen_kinds == ()


def test_nobody_is_accused_of_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = made_up(950)
    nothing = Estimate(0, 0, 0)
    monkeypatch.setattr("report.judge.estimate_poisoned", lambda *_: nothing)
    verdict = judge(findings)
    assert verdict.name == "cannot_tell" and verdict.suspected_target is None


def test_another_witness_accuses_what_the_model_believes() -> None:
    findings = clean()
    said = Accusation(
        0.9, Estimate(40, 30, 45), "40 samples lie apart from all that somebody has checked"
    )
    verdict = judge(findings, accusations={6: said})
    assert verdict.name == "poisoned" and verdict.suspected_targets == ("class 6",)
    assert verdict.estimated_poisoned == 40 and said.reason in verdict.reasons
    weak = replace(said, strength=0.1)
    assert judge(findings, accusations={6: weak}).name == "no_sign"


def test_accusations_join_and_do_not_count_twice() -> None:
    findings = made_up(950)
    alone = judge(findings)
    few, many = Estimate(5, 5, 60), Estimate(40, 30, 45)
    said = {3: Accusation(1.0, few, "few"), 6: Accusation(0.8, many, "many")}
    verdict = judge(findings, accusations=said)
    assert verdict.suspected_targets == ("class 3", "class 6")
    assert alone.suspected_targets == ("class 3",)
    assert verdict.estimated_poisoned == 45 and verdict.estimated_range == (35, 105)
    with pytest.raises(ValueError, match="accuses nobody"):
        Accusation(1.0, Estimate(0, 0, 0), "")


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_few_classes_are_no_false_alarm_and_no_all_clear(classes: int) -> None:
    clean = judge(made_up(1000, (1,), classes))
    assert clean.name != "poisoned"
    poisoned = judge(made_up(930, (1,), classes))
    assert poisoned.name == ("cannot_tell" if classes == 2 else "poisoned")


def test_what_the_start_was_is_said_beside_an_accusation() -> None:
    findings = made_up(poisoned_from=950)
    for origin, words in {"verified": None, "chosen": CHOSEN, "drawn": UNCHECKED}.items():
        verdict = judge(replace(findings, origin=origin))
        assert verdict.name == "poisoned"
        assert [said for said in (CHOSEN, UNCHECKED) if said in verdict.reasons] == (
            [] if words is None else [words]
        )


def test_what_a_witness_vetoes_without_an_accusation_forbids_an_all_clear() -> None:
    findings = clean()
    vetoed = findings.training.labels == 5
    few = vetoed & (vetoed.cumsum(0) <= 49)  # one fewer than half a percent of all
    assert doubts_of(with_witness(findings, few, {})) == ()
    (doubt,) = doubts_of(with_witness(findings, vetoed, {}))
    assert "1000 samples labelled 'class 5'" in doubt
    assert doubts_of(with_witness(findings, vetoed, {5: 0.3})) == (doubt,)
    assert doubts_of(with_witness(findings, vetoed, {5: 0.6})) == ()
    verdict = judge(findings, doubts=(doubt,))
    assert verdict.name == "cannot_tell" and doubt in verdict.reasons


@pytest.mark.parametrize(
    ("looked_at", "seen"), [(None, True), (range(10), True), (range(9), False), ((), False)]
)
def test_who_could_not_look_has_seen_nothing(looked_at: Iterable[int] | None, seen: bool) -> None:
    findings = with_witness(clean(), torch.zeros(10_000, dtype=torch.bool), {})
    (name, said), *_ = findings.testimony.statements.items()
    classes = None if looked_at is None else frozenset(looked_at)
    statements = {name: replace(said, looked_at=classes)}
    findings = replace(findings, testimony=replace(findings.testimony, statements=statements))
    assert ("clean_label" in kinds_seen(findings)) == seen
