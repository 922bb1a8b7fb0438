"""What a run is made from: the samples, what is true of them, and what people know of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from data.build import assemble, load_data, seeds_fingerprint
from data.dataset.decode import Frame
from data.poison import TrainingSet, Truth
from data.review import Review, read_review
from defense import DEFENSES
from run.fingerprints import of_files
from run.setup import Setup
from utils.console import say


@dataclass(frozen=True)
class Material:
    """The data of a run, in host memory. No method reads `truth`.

    Attributes:
        training: what the defender sees.
        truth: what is true of it, and the test images.
        seeds: (n,) int64, sorted, the verified samples, those of the review included.
        review: what a person has said of some samples.
        seeds_checked: whether somebody vouches for the seeds.
        chosen: (n,) int64, sorted, what the witnesses have chosen where no sample is verified; None
            where samples are, or as long as nobody has chosen.
        holds_out: whether ACC is measured on verified samples that training never sees.
        frame: how a file of any size becomes a stored image.
        fingerprints: SHA-256 of all this, by name.
    """

    training: TrainingSet
    truth: Truth
    seeds: Tensor
    review: Review
    seeds_checked: bool
    holds_out: bool
    frame: Frame
    fingerprints: dict[str, str]
    chosen: Tensor | None = None

    def with_chosen(self, chosen: Tensor) -> Material:
        """Return the same once the witnesses have chosen the samples `chosen` (n,) int64."""
        known = {**self.fingerprints, "seeds": seeds_fingerprint(chosen)}
        seeds = self.review.seeds(chosen)
        return replace(self, seeds=seeds, chosen=chosen, fingerprints=known)


def read_material(setup: Setup, dry_run: bool = False) -> Material:
    """Load, poison and verify as configured; say what is to be said.

    In a `dry_run` of a run that has not begun, an attack that learns is left out.

    Raises:
        InputError: the data are not there, contradict the configuration, or are not those that the
            checkpoint was trained on.
    """
    config = setup.config
    with setup.world.one_after_the_other():  # the first downloads, decodes, makes; others read
        data, lines = load_data(config)
        begins = setup.start.own_state is None
        needs_seeds = DEFENSES.get(config.defense).needs_seeds
        unlearnt = dry_run and begins
        made = assemble(config, data, setup.streams, setup.device, unlearnt, needs_seeds)
    review = read_review(config.review, made.training, made.data.left_out)
    for line in [*lines, *made.lines, *review.lines()]:
        say(line)
    fingerprints = {**made.fingerprints(config.truth_known), **of_files(config)}
    setup.start.refuse_other_data(fingerprints)
    assert data.frame is not None  # `load_data` sees to it
    return Material(
        training=made.training,
        truth=made.truth,
        seeds=review.seeds(made.seeds),
        review=review,
        seeds_checked=made.seeds_checked,
        holds_out=made.holds_out,
        frame=data.frame,
        fingerprints=fingerprints,
    )
