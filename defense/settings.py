"""What the YAML says of a defence: splits, virtual model, training on pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from data.settings import SeedsSection
from defense import DEFENSES
from defense.staged_settings import StagedSettings
from loss import CriterionChoice
from training.settings import LoaderSection, SemiSection
from training.torch_parts import OptimizerChoice
from utils.choice import Choice, chosen
from utils.section import Below, Section, contradiction, refuse_unknown_keys
from witness.settings import WitnessSection

HALF = 0.5  # the paper's share


class SplitSection(Section):
    """`split`: the loss by which the pools are divided, and the view on which it is measured.

    `augment: false` measures it on plain images, where the published code uses one augmented view.
    """

    criterion: CriterionChoice = Field(default={"sce": None}, validate_default=True)
    augment: bool = True


class GlobalSection(SeedsSection):
    """`global`: the schedule of the split.

    Stage 1 ends before `epoch_first`, stage 2 before `epoch_second`, stage 3 before `epoch_third`.
    `n` samples more a class join the verified ones every `t` epochs. `epsilon` of all samples make
    the clean pool in stage 2, and in stage 3 unless `epsilon_meta` is given (the paper has two
    symbols). `epsilon: auto` keeps in stage 2 every label that neither the model nor a plain one of
    all samples objects to; see `defense/share.py`. `keep_seeds` holds the seeds in the clean pool
    after stage 1 too. `growth` takes the place of `n` and `t`: the share of each class that joins
    every epoch of stage 1: in epoch e, counted from 0, e times that share has joined. Stage 2 takes
    its own share at once, so a jump is left unless stage 1 has come that far; no preset's does.
    `meta_agreement` lets stage 3 wait until the model gives that share of the verified samples
    their label; until then stage 2 goes on.
    `class_floor` keeps in stages 2 and 3 that share of an even part of the pool for each class, so
    that none is lost: 0 is the paper's split, with 1 every class has equally many. `split_every`:
    in stages 1 and 2 the pools are split anew in every such epoch, counted from the stage's first
    one; the published 1. In between they are kept as they are: no losses are recorded, and the pool
    of stage 1 does not grow. At a split it takes what `n` and `t` or `growth` say for that epoch.
    """

    epoch_first: int = Field(default=60, ge=0)
    epoch_second: int = Field(default=90, ge=0)
    epoch_third: int = Field(default=120, ge=1)
    epsilon: Literal["auto"] | Annotated[float, Field(gt=0, lt=1)] = 0.5
    epsilon_meta: float | None = Field(default=None, gt=0, lt=1)
    t: int = Field(default=5, ge=1)
    n: int = Field(default=10, ge=0)
    keep_seeds: bool = False
    class_floor: float = Field(default=0.0, ge=0, le=1)
    growth: float | None = Field(default=None, gt=0, le=1)
    meta_agreement: float | None = Field(default=None, ge=0, le=1)
    split_every: int = Field(default=1, ge=1)

    @property
    def meta_fraction(self) -> float:
        """The share of the samples that stage 3 keeps."""
        if self.epsilon_meta is not None:
            return self.epsilon_meta
        return HALF if self.epsilon == "auto" else self.epsilon

    @model_validator(mode="after")
    def _ordered(self) -> GlobalSection:
        pairs = [("epoch_first", "epoch_second"), ("epoch_second", "epoch_third")]
        for first, second in pairs:
            if getattr(self, first) > getattr(self, second):
                why = f"{getattr(self, first)} comes after {getattr(self, second)}"
                raise contradiction(f"global.{first}", f"global.{second}", why)
        return self


class MetaSection(Section):
    """`meta`: how the virtual model is trained.

    `epoch` whole epochs, or `train_iteration` steps (the paper writes one step). `layers`: which
    parts learn, as prefixes of parameter names; the network's own choice when left out.
    """

    optimizer: OptimizerChoice = Field(default={"Adam": {"lr": 0.015}}, validate_default=True)
    criterion: CriterionChoice = Field(default={"cross_entropy": None}, validate_default=True)
    epoch: int = Field(default=1, ge=1)
    train_iteration: int | None = Field(default=None, ge=1)
    layers: list[str] | None = Field(default=None, min_length=1)


# What the schedule of the split is made of; `global` also says which samples are verified.
OF_SPLIT = tuple(
    f"global.{name}" for name in GlobalSection.model_fields if name not in SeedsSection.model_fields
)


# What several methods leave aside: the run's own optimiser, and all that divides into pools.
OF_OPTIMIZER = ("optimizer", "lr_scheduler", "learning_rate")
OF_POOLS = ("split", "semi", "meta", "witness", *OF_SPLIT)


def own_sections() -> dict[str, type[Section]]:
    """Return what may stand below the name of each defence that has settings of its own."""
    found = {name: DEFENSES.get(name).Settings for name in DEFENSES}
    return {name: section for name, section in found.items() if section.model_fields}


def stages_of(given: Mapping[str, Any]) -> StagedSettings | None:
    """Return the stages of the method that a configuration names; None where it has none.

    Args:
        given: the whole configuration, not validated yet; what is wrong is told in its place.
    """
    name = str(given.get("defense"))
    section = own_sections().get(name)
    if section is None or not issubclass(section, StagedSettings):
        return None
    try:
        return section.model_validate(given.get(name))
    except ValidationError:
        return None


class DefenseSettings(Section):
    """What a defence may know of the configuration: nothing that tells about the poison."""

    model_config = ConfigDict(populate_by_name=True)

    defense: str = "asd"
    num_epochs: int = Field(default=120, ge=1)
    loader: LoaderSection = LoaderSection()
    split: SplitSection = SplitSection()
    semi: SemiSection = SemiSection()
    criterion: CriterionChoice = Field(default={"cross_entropy": None}, validate_default=True)
    global_: GlobalSection = Field(default=GlobalSection(), alias="global")
    meta: MetaSection = MetaSection()
    witness: WitnessSection = WitnessSection()
    parts: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def below(cls, key: str) -> Below | None:
        """Return what stands below a defence's name, too; `defense` chooses, the name does not."""
        own = own_sections().get(key)
        return super().below(key) if own is None else Below(own)

    @model_validator(mode="before")
    @classmethod
    def _settings_by_name(cls, given: Any) -> Any:
        """Validate what stands below a defence's name, for all that have settings of their own."""
        if not isinstance(given, dict):
            return given
        names = own_sections()
        refuse_unknown_keys(given, {*cls.known_keys(), *names} - {"parts"})
        parts = {name: chosen(DEFENSES, name, given.get(name)).settings for name in names}
        return {**{key: given[key] for key in given if key not in names}, "parts": parts}

    @model_validator(mode="before")
    @classmethod
    def _stages_make_the_length(cls, given: Any) -> Any:
        """Derive `num_epochs` where the stages of a method have lengths of their own."""
        stages = stages_of(given) if isinstance(given, dict) else None
        return given if stages is None else {**given, "num_epochs": stages.num_epochs}

    @model_validator(mode="after")
    def _nothing_contradicts_the_method(self) -> DefenseSettings:
        DEFENSES.get(self.defense).check(self)
        return self

    @property
    def own(self) -> Any:
        """Those of the chosen defence alone, its `Settings`."""
        return self.parts.get(self.defense) or DEFENSES.get(self.defense).Settings()

    @property
    def stages(self) -> StagedSettings | None:
        """The same where they make the length of the run."""
        return self.own if isinstance(self.own, StagedSettings) else None

    @property
    def scheduled_epochs(self) -> int:
        """In how many epochs the run trains with `optimizer`, whose schedule is as long."""
        return self.num_epochs if self.stages is None else self.stages.scheduled_epochs

    @property
    def needs_hearing(self) -> bool:
        """Whether the defence asks others than the model that it trains."""
        return DEFENSES.get(self.defense).needs_hearing(self)

    def class_counts(self) -> dict[str, int]:
        """Return every `num_classes` given below a part of a defence, by dotted key."""
        parts = {"split.criterion": self.split.criterion, "criterion": self.criterion}
        parts["meta.criterion"] = self.meta.criterion
        for name, own in self.parts.items():
            parts |= {f"{name}.{key}": part for key, part in own if isinstance(part, Choice)}
        given = {
            f"{key}.{choice.name}.num_classes": getattr(choice.settings, "num_classes", None)
            for key, choice in parts.items()
        }
        given["semi.mixmatch.num_classes"] = self.semi.mixmatch.num_classes
        return {key: count for key, count in given.items() if count is not None}
