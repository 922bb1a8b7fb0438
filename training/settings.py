"""What the YAML says of steps: `loader` of supervised ones, `semi` of MixMatch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from loss.mixmatch import MixMatchLossSettings
from utils.section import Section


class LoaderSection(Section):
    """`loader`: batches of supervised training and of the virtual model."""

    batch_size: int = Field(default=128, ge=2)
    num_workers: int | None = None
    pin_memory: bool | None = None


class SemiLoaderSection(Section):
    """`semi.loader`: batches of MixMatch.

    `balance`: `equal` takes as many images from each pool, as published. `pools` takes them as the
    pools' sizes are, so that a clean pool of nearly all samples is not seen at a third of the rate.
    """

    batch_size: int = Field(default=64, ge=3)
    balance: Literal["equal", "pools"] = "equal"
    num_workers: int | None = None
    pin_memory: bool | None = None


class SemiCriterionSection(Section):
    """`semi.criterion`."""

    mixmatch: MixMatchLossSettings = MixMatchLossSettings()


class MixMatchSection(Section):
    """`semi.mixmatch`: steps an epoch, sharpening temperature, Beta parameter of mixup.

    `alignment`: raise in the guessed labels the classes that are guessed too seldom, towards the
    shares of the verified samples. Without it a lost class never comes back. `adjustment`: train
    on the labels that are kept as if each class had its share of the verified samples among them
    (logit adjustment, Menon et al. 2021): a split drops more labels of hard and of accused classes,
    and a model that sees a class seldom hardly gives it.
    """

    train_iteration: int = Field(default=1024, ge=1)
    temperature: float = Field(default=0.5, gt=0)
    alpha: float = Field(default=0.75, gt=0)
    alignment: bool = False
    adjustment: bool = False
    num_classes: int | None = None


class AverageUse(Section):
    """Where the averaged network stands in for the trained one.

    `record`: to measure the split's losses. `virtual`: as the start of the virtual model. `guess`:
    to guess labels. `test`: for ACC, ASR, report and product.
    """

    record: bool = True
    virtual: bool = True
    guess: bool = False
    test: bool = True


class AverageSection(Section):
    """`semi.ema`: a moving average of weights and BatchNorm statistics; a number is its `decay`.

    `decay`: what the average keeps of itself at each step; 0: there is none, as published.
    """

    decay: float = Field(default=0.0, ge=0, lt=1)
    use: AverageUse = AverageUse()

    def unread(self) -> dict[str, tuple[str, ...]]:
        """Without an average nothing stands in for the network."""
        return {} if self.decay else {"decay": ("use",)}

    @classmethod
    def spelt_out(cls, given: Any) -> Any:
        """Return the mapping that a plain number stands for."""
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        return {"decay": float(given)} if is_number else given


class SemiSection(Section):
    """`semi`: training on both pools."""

    loader: SemiLoaderSection = SemiLoaderSection()
    criterion: SemiCriterionSection = SemiCriterionSection()
    mixmatch: MixMatchSection = MixMatchSection()
    ema: Annotated[AverageSection, BeforeValidator(AverageSection.spelt_out)] = AverageSection()
