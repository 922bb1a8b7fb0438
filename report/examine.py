"""From a run to what it has found out."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from data.formats import FORMATS
from data.formats.due import due
from data.poison import TrainingSet
from data.review import Review
from defense.history import History
from report.concentration import Suspects, stand_out
from report.findings import Findings, Opinion, Origin, ask
from report.judge import read_thresholds
from report.lost import lost_classes
from report.purified import may_be_kept
from report.score import contradiction, evidence, suspicion
from run.session import Session
from witness.hearing import NOBODY, Testimony

SURE = 0.9  # how densely an accused class is taken to stand among the suspects, 0..1


def examine(session: Session) -> Findings:
    """Ask the model, as it is, about every training sample, and gather what the splits said.

    With several processes all of them must come here.
    """
    training, batch = session.training, session.config.speed.evaluation_batch
    formats = due(session.config.report_formats, session.folder.report)
    wanted = any(FORMATS.get(name).needs_probabilities for name in formats)
    chain, engine = session.test_chain, session.engine
    opinion = ask(session.model, training, chain, engine, batch, all_classes=wanted)
    truth = session.truth.poisoned if session.config.truth_known else None
    history, seeds = session.progress.history, session.material.seeds
    hearing = session.defense.setting.knowledge.hearing
    testimony = NOBODY if hearing is None else hearing.testimony
    review = session.material.review
    origin = origin_of_seeds(session)
    found = gather(training, opinion, history, seeds, review, testimony, origin)
    return replace(found, poisoned=truth)


def origin_of_seeds(session: Session) -> Origin:
    """Return where the samples come from that the run started from."""
    if session.config.global_.chosen:
        return "chosen"
    return "verified" if session.material.seeds_checked else "drawn"


def gather(
    training: TrainingSet,
    opinion: Opinion,
    history: History,
    seeds: Tensor,
    review: Review,
    testimony: Testimony = NOBODY,
    origin: Origin = "verified",
) -> Findings:
    """Return what follows from what the model and the splits say of N samples, without the truth.

    Args:
        training: images and given labels.
        opinion: of the model.
        history: what the splits said.
        seeds: (n,) int64, the samples from which the run started.
        review: what a person has said.
        testimony: of witnesses beside the model.
        origin: of the seeds.
    """
    labels, predicted, classes = training.labels.cpu(), opinion.predicted, training.num_classes
    contradicted = contradiction(opinion, history)
    lost = lost_classes(labels[seeds], predicted[seeds], classes)
    suspects = Suspects(contradicted, labels, predicted, training.classes)
    found = stand_out(suspects, lost, read_thresholds()["poisoned_from"])
    trusted = seeds if origin == "verified" else seeds[:0]
    against = evidence(opinion, history, labels, classes, testimony)
    standing_out = {one.label: one.excess for one in found} | dict.fromkeys(testimony.accused, SURE)
    return Findings(
        training=training,
        opinion=opinion,
        history=history,
        seeds=seeds,
        contradiction=contradicted,
        score=suspicion(against, labels, standing_out, review),
        kept=may_be_kept(opinion, labels, trusted, review, testimony),
        poisoned=None,
        testimony=testimony,
        origin=origin,
        rejected=tuple(review.rejected.tolist()),
    )
