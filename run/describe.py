"""What a run says of itself in its JSON files: result, manifest, and the model's description."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from data.chosen_set import dataset_name
from data.seen import listing_of
from data.transform.settings import TransformSection
from run.folder import RunFolder
from run.made_with import made_with
from run.measure import Score
from run.product import Description, FrameSection
from utils.console import say
from utils.errors import InputError
from utils.files import find_file
from utils.paths import lies_in

if TYPE_CHECKING:
    from config.schema import Config
    from run.session import Session


USUAL_RULE = "all_to_one"


def begin_folder(session: Session) -> Path | None:
    """Make the run's folder with its configuration and manifest; one process calls this.

    Returns:
        where an earlier run of that name was moved, if there was one.

    Raises:
        InputError: it cannot be made, or that would take the review's file away.
    """
    folder, earlier = session.folder, None
    if folder.holds_a_run():
        refuse_review_inside(session.config.review, folder)
        earlier = folder.move_aside()
        say(f"the earlier run was moved to {earlier}")
    folder.create()
    folder.write_config(session.config.as_yaml())
    seen = {"listing": listing_of(session.config)}  # looked up once: a report lists no folders
    folder.write_json("manifest.json", manifest_of(session) | seen)
    return earlier


def refuse_review_inside(review: str | None, folder: RunFolder) -> None:
    """Raise `InputError` where moving the earlier run aside would take the review's file away."""
    if review is not None and lies_in(find_file(review, "review"), folder.path):
        raise InputError(
            f"review: {review} lies in the folder of the earlier run, which is moved aside where "
            f"one begins anew; copy it to another place, and name that"
        )


def result_of(session: Session, score: Score) -> dict[str, Any]:
    """Return the content of `result.json`; all figures are of the last epoch."""
    config, state, classes = session.config, session.progress, session.training.classes
    return {
        "defense": config.repair.method or config.defense,
        "dataset": config.dataset,
        **attack_of(config),
        "epochs": state.epoch,
        "acc": score.acc,
        **({"asr": score.asr} if config.truth_known else {}),
        "recalls": dict(zip_longest(classes, score.recalls)) if score.recalls else {},
        "seconds": round(sum(row["seconds"] for row in state.rows), 1),
        "tested_samples": len(session.truth.clean_test),
        "tested_on_held_out": session.material.holds_out,
        "seed": session.setup.streams.seed,
        "training_samples": len(session.training),
        **known_truth(session),
        "seeds_checked": session.material.seeds_checked,
        "seed_choice": config.global_.seed_choice,
        "best_acc": None if state.best_epoch < 0 else state.best_acc,
        "best_epoch": None if state.best_epoch < 0 else state.best_epoch,
        "fingerprints": session.material.fingerprints,
        **made_with(session),
    }


def attack_of(config: Config) -> dict[str, str]:
    """Return the attack's name, and how it labels where that is not usual.

    "imported" where it was made elsewhere, nothing without one.
    """
    if config.backdoor is not None:
        rule = config.backdoor.label_rule
        unusual = {} if rule == USUAL_RULE else {"label_rule": rule}
        return {"attack": config.backdoor.attack.name, **unusual}
    return {"attack": "imported"} if config.truth_known else {}


def describe_model(session: Session, score: Score, verdict: dict[str, Any] | None) -> Description:
    """Return what `model.json` says of the network as it is."""
    config, frame, made = session.config, session.material.frame, made_with(session)
    normalize = config.transform.test.remaining.normalize
    return Description(
        network=config.network,
        classes=list(session.training.classes),
        input_size=list(session.test_chain.output_size),
        mean=normalize.mean,
        std=normalize.std,
        frame=FrameSection(size=frame.size, shorter_side=frame.shorter_side),
        transform=TransformSection(pre=config.transform.pre, test=config.transform.test),
        acc=score.acc,
        verdict=verdict,
        dataset=dataset_name(config)[0],
        epochs=session.progress.epoch,
        data_fingerprint=session.material.fingerprints["data"],
        git_commit=made["git_commit"],
        versions=made["versions"],
    )


def manifest_of(session: Session) -> dict[str, Any]:
    """Return what the run was made of, sample by sample."""
    config, material = session.config, session.material
    files, seeds = session.training.files, material.seeds.tolist()
    held_out = material.truth.clean_test.files if material.holds_out else None
    return {
        "seed": session.setup.streams.seed,
        "dataset": config.dataset,
        "classes": list(session.training.classes),
        "fingerprints": material.fingerprints,
        **attack_of(config),
        **known_truth(session, indices=True),
        "seeds_checked": material.seeds_checked,
        "seed_choice": config.global_.seed_choice,
        "seed_indices": seeds,
        **({} if files is None else {"seed_files": [files[index] for index in seeds]}),
        **({} if held_out is None else {"held_out_files": list(held_out)}),
        **made_with(session),
    }


def known_truth(session: Session, indices: bool = False) -> dict[str, Any]:
    """Return how many samples are poisoned, perhaps which; nothing where nobody knows."""
    if not session.config.truth_known:
        return {}
    poisoned = torch.nonzero(session.material.truth.poisoned).flatten().tolist()
    known: dict[str, Any] = {"poisoned_samples": len(poisoned)}
    return known | ({"poisoned_indices": poisoned} if indices else {})
