"""What the plain model, or a changed copy of it, says of images as they are or changed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.passes import Pass, answers
from witness.witness import Case

Change = Callable[[Tensor], Tensor]  # (n, H, W, 3) uint8 on the device -> the same


def answers_of(
    case: Case, title: str, network: nn.Module | None = None, changed: Change | None = None
) -> Tensor:
    """Return the answers (N, ...), float32, on the CPU, to all samples in plain views: one pass.

    Of several processes all get the first one's, so that no veto hangs on a last digit.

    Args:
        case: the samples and the plain model.
        title: of the progress bar.
        network: what is asked, on the device: a copy, which answers with logits (N, C), or a part;
            None: the plain model itself.
        changed: what the images are turned into; None: nothing.
    """
    reference, ground = case.reference, case.ground
    asked = answers(
        reference.network if network is None else network,
        ground.training,
        Pass(reference.chain, reference.engine, ground.evaluation_batch, title),
        ground.streams.torch("test"),
        changed,
    )
    found = torch.cat([answer.float().cpu() for _, answer in asked])
    return ground.engine.world.from_first_process(found)


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (N,) by how much the logit of the given label exceeds the highest other one.

    Unlike a probability it tells apart samples of which the model is sure.

    Args:
        logits: (N, C).
        labels: (N,) int64.
    """
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own[:, 0] - others.amax(dim=1)
