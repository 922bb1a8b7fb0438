"""A pass over all samples: each is asked about once, in its place, as the views show it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from data.poison import TrainingSet
from data.transform import Chain, Normalize
from tests.conftest import colourful_images
from training.passes import Pass, answers
from utils.engine import Engine
from utils.world import World

COUNT, BATCH = 23, 5
IMAGES = colourful_images(COUNT, 6)
TRAINING = TrainingSet(IMAGES, torch.arange(COUNT) % 2, ("a", "b"))
CHAIN = Chain([], Normalize(), 6, 6)


class Brightness(nn.Module):
    """Says each image's mean; in train mode something else."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3)) * self.weight + self.training


def asked(world: World, **more: object) -> tuple[list[slice], Tensor]:
    """Return the places that were asked about, and the answers in one row; NaN: nobody asked."""
    network, found, places = Brightness().train(), torch.full((COUNT,), torch.nan), []
    engine, generator = Engine(torch.device("cpu"), world=world), torch.Generator()
    way = Pass(CHAIN, engine, BATCH, "ask")
    for part, output in answers(network, TRAINING, way, generator, **more):  # type: ignore[arg-type]
        assert not output.requires_grad
        places.append(part)
        found[part] = output
    return places, found


def test_every_sample_has_its_answer_in_its_place() -> None:
    places, found = asked(World())
    assert [part.stop - part.start for part in places] == [5, 5, 5, 5, 3]
    torch.testing.assert_close(found, IMAGES.float().mean(dim=(1, 2, 3)) / 255)
    assert torch.is_grad_enabled()


def test_images_can_be_shown_changed() -> None:
    _, found = asked(World(), changed=lambda images: 255 - images)
    torch.testing.assert_close(found, 1 - IMAGES.float().mean(dim=(1, 2, 3)) / 255)


def test_each_process_asks_about_its_share() -> None:
    polls: list[int] = []
    world = World(rank=1, size=2, poll_interrupt=lambda: polls.append(1))
    places, found = asked(world)
    own = world.share(COUNT)
    assert (places[0].start, places[-1].stop) == (own.start, own.stop)
    assert found.isnan().nonzero().flatten().tolist() == [
        index for index in range(COUNT) if not own.start <= index < own.stop
    ]
    assert len(polls) == -(-(COUNT // 2) // BATCH)
