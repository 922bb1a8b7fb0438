"""Labels to which a mere filter leads, and the samples that owe them to it.

A warp, a reflection, a coarse palette leave traces in how rough or smooth an image is. A plain
model that has learnt such a trigger takes filtered images of all classes for the target: on a set
with WaNet a slight blur leads 87 of 100 images there, on clean ones no more than 12. So a class is
accused to which much more leads. Which of its samples have the trigger? Softening moves an image's
features in a direction; samples with the trigger lie far along it already. Sharpening undoes the
trigger; the samples lose their label by it. Verified samples say what is usual; where there are
none, those samples are vetoed that are the higher one of two groups.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from utils.section import Section
from witness.asking import answers_of, margins
from witness.line import divide_line
from witness.pattern import softened
from witness.reference import classify
from witness.witness import FEWEST, USUAL, Case, Statement, Witness, deviations

SHARPENED = (1.0, 2.5)  # how often what softening takes away is added
WARPS = 2  # random ones, beside the plain blur
WARP_GRID = 4  # control points a side
WARP_PIXELS = 0.5  # by which a warp moves a point on average, as images of 32 pixels have it
RIDGE = 0.05  # of the mean variance of a feature, added to all
FEWEST_VERIFIED = 2
Filter = Callable[[Tensor], Tensor]


class FilteredPrediction(Witness):
    """Accuses classes to which softened images lead; vetoes what sharpening takes from them."""

    asked_for_seeds = True

    class Settings(Section):
        """What it takes to accuse.

        `led`: share of the other classes' images that a soft filter leads to the class, beyond
        those that are there without it. `trusted`: quantile of the verified samples' scores up to
        which a sample of an accused class keeps its label.
        """

        led: float = Field(default=0.35, gt=0, lt=1)
        trusted: float = Field(default=0.5, gt=0, lt=1)

    settings: FilteredPrediction.Settings

    def testify(self, case: Case) -> Statement:
        """Filter all images; accuse classes, and look at the samples of those that are."""
        limits, count = self.settings, len(case.labels)
        soft = [filtered_features(case, filter_) for filter_ in soft_filters(case)]
        led = torch.stack([led_to_each(case, features) for features in soft]).amax(dim=0)
        suspicion, vetoed = torch.zeros(count), torch.zeros(count, dtype=torch.bool)
        accused = {
            label: min(1.0, share / (2 * limits.led))
            for label, share in enumerate(led.tolist())
            if share >= limits.led and self.may_be_told(case, label)
        }
        sharp = [filtered_features(case, sharpen(by)) for by in SHARPENED] if accused else []
        for label in accused:
            members = torch.nonzero(case.labels == label).flatten()
            score = trace_scores(case, members, soft, sharp)
            verified = case.verified[members]
            suspicion[members] = score.float().clamp(-USUAL, USUAL)
            if bool(verified.any()):
                vetoed[members] = (score > score[verified].quantile(limits.trusted)) & ~verified
            else:  # the higher one of two groups
                vetoed[members] = divide_line(score).high > 0.5
        suspicion = torch.where(vetoed, suspicion + USUAL, suspicion)
        return Statement(suspicion, vetoed, accused, cost=len(soft) + len(sharp))

    def may_be_told(self, case: Case, label: int) -> bool:
        """Return whether a class has enough samples, and enough verified ones where there are any.

        Of few images a plain model has learnt so little that a blur leads anywhere.
        """
        own = case.labels == label
        told = not len(case.seeds) or int(case.verified[own].sum()) >= FEWEST_VERIFIED
        return told and int(own.sum()) >= FEWEST


def led_to_each(case: Case, features: Tensor) -> Tensor:
    """Return the share (C,) of other classes' images that a filter leads to each class.

    Args:
        case: with the unfiltered answers.
        features: (N, F) of the filtered images.
    """
    moved = classified(case, features).softmax(dim=1) - case.reference.logits.softmax(dim=1)
    own = functional.one_hot(case.labels, case.num_classes).bool()
    others = (~own).sum(dim=0).clamp_min(1)
    return moved.masked_fill(own, 0.0).sum(dim=0) / others


def trace_scores(case: Case, members: Tensor, soft: list[Tensor], sharp: list[Tensor]) -> Tensor:
    """Return how much a class's samples owe their label to a filter, (n,) float64."""
    reference, label = case.reference, int(case.labels[members[0]])
    others = torch.nonzero(case.labels != label).flatten()
    plain, found = reference.features, []
    for features in soft:
        way = direction(features[others] - plain[others], plain[others])
        found.append(plain[members].double() @ way)
    given = case.labels[members]
    before = margins(reference.logits[members].double(), given)
    for features in sharp:
        found.append(before - margins(classified(case, features)[members].double(), given))
    return torch.stack([deviations(values).double() for values in found]).mean(dim=0)


def direction(moves: Tensor, points: Tensor) -> Tensor:
    """Return the way (F,) of the mean of `moves` (n, F), as `points` (n, F) spread by nature."""
    centred = points.double() - points.double().mean(dim=0)
    spread = centred.t() @ centred / len(centred)
    ridge = RIDGE * spread.diagonal().mean().clamp_min(1e-9)
    spread += ridge * torch.eye(len(spread), dtype=spread.dtype)
    return torch.linalg.solve(spread, moves.double().mean(dim=0))


def classified(case: Case, features: Tensor) -> Tensor:
    """Return the reference's logits (N, C) of features (N, F)."""
    linear = case.reference.network.linear
    with torch.no_grad():
        return classify(linear, features.to(linear.weight.device))


def filtered_features(case: Case, filter_: Filter) -> Tensor:
    """Return the reference's features (N, F) float32 of filtered images, on the CPU."""

    def changed(images: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2).float() / 255
        return (filter_(pixels).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)

    return answers_of(case, "filtered", case.reference.network.backbone, changed)


def soft_filters(case: Case) -> list[Filter]:
    """Return a blur and some random warps."""
    height, width = case.ground.training.images.shape[1:3]
    generator = case.ground.streams.torch("witness-filter")
    return [softened, *(warp(height, width, generator) for _ in range(WARPS))]


def warp(height: int, width: int, generator: torch.Generator) -> Filter:
    """Return a smooth random warp of images of that size."""
    field = torch.rand((1, 2, WARP_GRID, WARP_GRID), generator=generator) * 2 - 1
    field = field / field.abs().mean() * (2 * WARP_PIXELS / 32)
    moves = functional.interpolate(field, (height, width), mode="bicubic", align_corners=True)
    still = functional.affine_grid(torch.eye(2, 3)[None], [1, 3, height, width], align_corners=True)
    grid = (still + moves.permute(0, 2, 3, 1)).clamp(-1, 1)

    def warped(pixels: Tensor) -> Tensor:
        places = grid.to(pixels.device).expand(len(pixels), -1, -1, -1)
        return functional.grid_sample(pixels, places, align_corners=True)

    return warped


def sharpen(by: float) -> Filter:
    """Return a filter that adds `by` times what softening takes away."""

    def sharpened(pixels: Tensor) -> Tensor:
        return pixels + by * (pixels - softened(pixels))

    return sharpened
