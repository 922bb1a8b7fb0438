"""From a run to what it has found out."""

from __future__ import annotations

from report.findings import Findings, ask
from report.purified import may_be_kept
from report.score import contradiction, evidence, suspicion
from report.verdict import concentration
from run.session import Session


def examine(session: Session) -> Findings:
    """Ask the model, as it is, about every training sample, and gather what the splits said.

    With several processes all of them must come here.
    """
    training, batch = session.training, session.config.speed.evaluation_batch
    opinion = ask(session.network, training, session.test_chain, session.engine, batch)
    labels, seeds = training.labels.cpu(), session.material.seeds
    history, review = session.progress.history, session.material.review
    classes = training.num_classes
    contradicted = contradiction(opinion, history)
    broad = concentration(contradicted, labels, opinion.predicted, classes, leave_one_out=True)
    against = evidence(opinion, history, labels, classes)
    return Findings(
        training=training,
        opinion=opinion,
        history=history,
        seeds=seeds,
        contradiction=contradicted,
        score=suspicion(against, labels, broad.label, broad.excess, review),
        kept=may_be_kept(opinion, labels, seeds, review),
        poisoned=session.truth.poisoned if session.config.truth_known else None,
    )
