"""A patch at a fixed place, of which a part of one label's images hold the same copy.

It needs no model, and it sees poison in so few images that no model has learnt it yet. Natural
images hold the same few pixels as others only where they are flat (which is left out), where the
images themselves are copies of each other (frames of a film: the rest of them is alike, too), where
the pixels are an edge (which then stands at other places as well), or where a class has a stroke,
as digits do (which others then have nearly so). Pixels that are pasted are the same at one place,
in images that otherwise differ, and hardly any are nearly the same. It does not see patches that
move, that are blended in, or that a lossy file format has changed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from utils.section import Section
from witness.witness import FEWEST, OUTLIER, Case, Statement, Witness

SIDE = 3  # pixels of the window that is compared
LARGEST = 32  # pixels; larger images are looked at in this size
CANDIDATES = 128  # images of a label whose windows are looked for in all others
LARGEST_PATCH = 6  # pixels around a window, in which the same pattern may stand again
CHUNK = 256  # images compared in one go
NEARLY = 5  # times the difference between copies, up to which a window is nearly the same
SCENE = 8  # pixels, side of what is compared of the rest of an image
COST = 10.0  # of a pass of the plain model on a CPU, about; without a network


@dataclass(frozen=True)
class Copies:
    """Images of one label that hold the same window.

    Attributes:
        members: (m,) int64, their places among all samples.
        place: number of the window, counted row by row.
        window: (27,) its values, 0..255.
        radius: root mean square of the difference, below which a window is the same.
    """

    members: Tensor
    place: int
    window: Tensor
    radius: Tensor


class PastedPatch(Witness):
    """Accuses labels in a part of whose images the same pixels stand at one place; vetoes these."""

    class Settings(Section):
        """What it takes to accuse.

        `fewest` and `share`: images that hold the copy, at least so many, and at least that part of
        the label; twice as many where no sample is verified. `largest`: part of the label that may.
        `difference`: between copies, root mean square as a part of the window's contrast.
        `contrast`: standard deviation of a window's values (0..255), from which it is looked at.
        `scene`: how much these images must differ beside it, as a part of how much as many of the
        label do: in their spread, and in the distance of each from the most similar one.
        `gap`: how many times as many of the label may hold nearly the same, with up to five times
        the difference.
        `others`: how many times as often other labels may hold it, since poison can have several
        targets.
        """

        fewest: int = Field(default=10, ge=2)
        share: float = Field(default=0.01, ge=0, lt=1)
        largest: float = Field(default=0.75, gt=0, le=1)
        difference: float = Field(default=0.1, gt=0, lt=1)
        contrast: float = Field(default=20.0, gt=0, le=128)
        scene: float = Field(default=0.65, ge=0)
        gap: float = Field(default=1.1, ge=1)
        others: float = Field(default=4.0, ge=0)

    settings: PastedPatch.Settings

    def testify(self, case: Case) -> Statement:
        """Look for the window that most images of each label hold."""
        images = reduced(case.ground.training.images.cpu())
        vetoed = torch.zeros(len(case.labels), dtype=torch.bool)
        accused: dict[int, float] = {}
        for label in range(case.num_classes):
            members = torch.nonzero(case.labels == label).flatten()
            if len(members) < FEWEST:
                continue
            copies = most_copied(images, members, self.settings)
            if self.accuses(copies, images, members, case):
                accused[label] = min(1.0, len(copies.members) / (2 * self.needed(members, case)))
                vetoed[copies.members] = True
        vetoed &= ~case.verified
        return Statement(vetoed.float() * OUTLIER, vetoed, accused, cost=COST)

    def needed(self, members: Tensor, case: Case) -> float:
        """Return the number of copies that accuses a label."""
        fewest = max(self.settings.fewest, self.settings.share * len(members))
        return fewest if bool(case.verified[members].any()) else 2 * fewest

    def accuses(self, copies: Copies, images: Tensor, members: Tensor, case: Case) -> bool:
        """Return whether the copies have been pasted into images of the label `members` (n,)."""
        count, verified = len(copies.members), case.verified
        if not self.needed(members, case) <= count <= self.settings.largest * len(members):
            return False
        # Whoever verified the samples has not seen poison: what they hold as often is natural.
        checked, held = int(verified[members].sum()), int(verified[copies.members].sum())
        if checked and 2 * held / checked > count / len(members):
            return False
        return (
            holding(images, copies) - count <= self.settings.others * count
            and are_different(images, copies.members, members, self.settings.scene)
            and not stands_elsewhere(images, members, copies)
        )


def reduced(images: Tensor) -> Tensor:
    """Return images (N, H, W, 3) uint8, at most 32 pixels wide and high."""
    sides = [min(side, LARGEST) for side in images.shape[1:3]]
    if sides == list(images.shape[1:3]):
        return images
    parts = [
        functional.interpolate(part.permute(0, 3, 1, 2).float(), sides, mode="area").round().byte()
        for part in images.split(CHUNK)
    ]
    return torch.cat(parts).permute(0, 2, 3, 1).contiguous()


def windows(images: Tensor) -> Tensor:
    """Return all windows of images (n, H, W, 3) uint8: (L, n, 27) float32, by place."""
    return functional.unfold(images.permute(0, 3, 1, 2).float(), SIDE).permute(2, 0, 1)


def chosen_candidates(images: Tensor, members: Tensor) -> Tensor:
    """Return as many of `members` as are compared with all; which ones depends on no order."""
    digests = [
        hashlib.blake2b(images[k].numpy().tobytes(), digest_size=8).digest() for k in members
    ]
    order = sorted(range(len(members)), key=digests.__getitem__)
    return members[order[:CANDIDATES]]


def most_copied(images: Tensor, members: Tensor, limits: PastedPatch.Settings) -> Copies:
    """Return the window of a candidate that most images of the label hold at its place.

    Of windows that hardly any others hold nearly: thirty frames of a film hide no ten copies.
    """
    candidates = windows(images[chosen_candidates(images, members)])  # (L, c, 27)
    contrast = candidates.std(dim=2, correction=0)
    radius = limits.difference * contrast
    limit = radius.pow(2)[..., None] * candidates.shape[2]  # (L, c, 1)
    counts, nearly = (torch.zeros(contrast.shape) for _ in range(2))
    for part in members.split(CHUNK):
        distances = squared_distances(candidates, windows(images[part]))
        counts += number_below(distances, limit)
        nearly += number_below(distances, NEARLY**2 * limit)
    counts[(contrast < limits.contrast) | (nearly > limits.gap * counts)] = 0
    place, candidate = divmod(int(counts.argmax()), counts.shape[1])
    window, near = candidates[place, candidate], radius[place, candidate]
    same = torch.cat([_is_at(images[part], place, window, near) for part in members.split(CHUNK)])
    return Copies(members[same], place, window, near)


def squared_distances(some: Tensor, others: Tensor) -> Tensor:
    """Return the squared distances (L, c, n) of windows (L, c, 27) from windows (L, n, 27)."""
    products = torch.baddbmm(some.pow(2).sum(dim=2)[..., None], some, others.mT, alpha=-2)
    return products.add_(others.pow(2).sum(dim=2)[:, None])


def number_below(distances: Tensor, limit: Tensor) -> Tensor:
    """Return (L, c) float32, how many of (L, c, n) are below (L, c, 1).

    As a product of floats, which takes a sixth of the time that a sum of truth values takes.
    """
    below = torch.lt(distances, limit, out=torch.empty_like(distances))
    return below @ torch.ones(distances.shape[2])


def _is_at(images: Tensor, place: int, window: Tensor, radius: Tensor) -> Tensor:
    """Return which of images (n, H, W, 3) hold the window at the place, (n,) bool."""
    top, left = divmod(place, images.shape[2] - SIDE + 1)
    found = images[:, top : top + SIDE, left : left + SIDE].permute(0, 3, 1, 2).flatten(1).float()
    return (found - window).pow(2).mean(dim=1) < radius**2


def holding(images: Tensor, copies: Copies) -> int:
    """Return how many of images (n, H, W, 3) hold the window at its place."""
    parts = images.split(CHUNK)
    return sum(int(_is_at(p, copies.place, copies.window, copies.radius).sum()) for p in parts)


def are_different(images: Tensor, held: Tensor, members: Tensor, scene: float) -> bool:
    """Return whether images that hold the window differ otherwise, as others of the label do.

    Frames of one film are like each other; their label's other images are not like them.
    """
    held = chosen_candidates(images, held)
    label = chosen_candidates(images, members)
    spread, whole = (float(scenes(images[part]).var(dim=0).sum()) for part in (held, label))
    nearest, usual = (nearest_distance(images[part]) for part in (held, label[: len(held)]))
    return spread >= scene * whole and nearest >= scene * usual


def scenes(images: Tensor) -> Tensor:
    """Return images (n, H, W, 3) uint8 coarsely, without their brightness, (n, 192) float32."""
    pixels = images.permute(0, 3, 1, 2).float()
    coarse = functional.adaptive_avg_pool2d(pixels, SCENE).flatten(1)
    return coarse - coarse.mean(dim=1, keepdim=True)


def nearest_distance(images: Tensor) -> float:
    """Return the mean distance of images (n, H, W, 3) from the one that is most like each."""
    coarse = scenes(images)
    distances = torch.cdist(coarse, coarse).fill_diagonal_(torch.inf)
    return float(distances.min(dim=1).values.mean())


def stands_elsewhere(images: Tensor, members: Tensor, copies: Copies) -> bool:
    """Return whether the window stands more often at other places, far from its own.

    A pasted pattern may repeat itself, so near places do not count.
    """
    held, label = (chosen_candidates(images, part) for part in (copies.members, members))
    across = images.shape[2] - SIDE + 1
    here = elsewhere = 0
    for part in torch.cat([held, label]).unique().split(CHUNK):
        found = windows(images[part])
        same = ((found - copies.window).pow(2).mean(dim=2) < copies.radius**2).sum(dim=1)
        place = torch.arange(len(same))
        rows, columns = place // across, place % across
        far = (rows - copies.place // across).abs().maximum((columns - copies.place % across).abs())
        here += int(same[copies.place])
        elsewhere += int(same[far > LARGEST_PATCH].sum())
    return elsewhere > here
