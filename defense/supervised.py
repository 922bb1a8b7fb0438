"""One step of plain supervised training, of the undefended model and of the virtual one."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import Optimizer

from data.transform import Draws
from defense.defense import Setting
from loss import Criterion


def supervised_step(
    setting: Setting,
    network: nn.Module,
    optimizer: Optimizer,
    criterion: Criterion,
    index: Tensor,
    draws: Draws,
) -> Tensor:
    """Take a step on the samples `index` (B,) with their given labels; return the loss."""
    views = setting.chain.view(setting.training.images, index, draws)
    with setting.engine.autocast():
        logits = network(views)
    loss = criterion(logits, setting.training.labels[index])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()
