"""The typed configuration: every key of the published YAML, and this project's own.

Defaults are the published values for CIFAR-10. A key that may be left out because it can be derived
is None here; `Config` checks that a given one does not contradict its source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from data.attack import ATTACKS
from data.dataset import DATASETS
from data.transform import TRANSFORMATIONS, Normalize
from defense import DEFENSES
from loss import CRITERIA
from loss.mixmatch import MixMatchLossSettings
from model import NETWORKS
from utils.choice import (
    Choice,
    OptimizerChoice,
    SchedulerChoice,
    dump_choice,
    from_registry,
    nested_error,
)
from utils.device import SpeedSettings
from utils.errors import nearest
from utils.registry import Registry
from utils.section import Section, unknown_key

CriterionChoice = Annotated[
    Choice, BeforeValidator(from_registry(CRITERIA)), PlainSerializer(dump_choice)
]
NetworkChoice = Annotated[
    Choice, BeforeValidator(from_registry(NETWORKS)), PlainSerializer(dump_choice)
]


DEFAULT_IMAGE_SIZE = 32  # pixels


def contradiction(first: str, second: str, why: str) -> PydanticCustomError:
    """Return the error for two keys that cannot both hold."""
    message = {"first": first, "second": second, "why": why}
    return PydanticCustomError("contradiction", "{first} and {second} contradict: {why}", message)


class SeedSection(Section):
    """`seed`: the run's seed (None draws one) and how exactly CUDA repeats itself."""

    seed: int | None = Field(default=100, ge=0)
    deterministic: bool = False
    benchmark: bool = True


def read_chain(given: Any) -> list[Choice]:
    """Validate an ordered mapping of transformations; a null entry is left out."""
    if isinstance(given, list):
        return given
    if given is not None and not isinstance(given, dict):
        raise PydanticCustomError("mapping", "a mapping of transformations is expected")
    choices = []
    for name, settings in (given or {}).items():
        if name not in TRANSFORMATIONS:
            raise unknown_key(str(name), TRANSFORMATIONS)
        if settings is None:
            continue
        try:
            validated = TRANSFORMATIONS.get(name).Settings.model_validate(settings)
        except ValidationError as error:
            raise nested_error(error, name) from error
        choices.append(Choice(name, validated))
    return choices


def dump_chain(choices: list[Choice]) -> dict[str, Any]:
    """Return a chain as it stands in a YAML."""
    return {choice.name: choice.settings.model_dump() for choice in choices}


TransformChain = Annotated[list[Any], BeforeValidator(read_chain), PlainSerializer(dump_chain)]


class RemainingSection(Section):
    """The end of a chain: always to a tensor, perhaps normalised."""

    to_tensor: Literal[True] = True
    normalize: Normalize = Normalize()


class UseSection(Section):
    """The transformations of one use (`train` or `test`)."""

    primary: TransformChain = Field(default_factory=list)
    remaining: RemainingSection = RemainingSection()


class TransformSection(Section):
    """`transform`: `pre` once before the trigger, `train` at every draw, `test` in evaluation."""

    pre: TransformChain = Field(default_factory=list)
    train: UseSection = UseSection()
    test: UseSection = UseSection()


class BackdoorSection(Section):
    """`backdoor`: how much is poisoned, towards which class, and by which attack.

    The attack stands beside the other keys by its name, as in the published YAML.
    """

    poison_ratio: float = Field(default=0.05, ge=0, le=1)
    target_label: int = Field(default=3, ge=0)
    selection: Literal["exact", "official"] = "exact"
    label_rule: Literal["all_to_one", "all_to_all"] = "all_to_one"
    attack: Any

    @model_validator(mode="after")
    def _clean_labels_stay(self) -> BackdoorSection:
        name = self.attack.name
        if self.label_rule == "all_to_all" and ATTACKS.get(name).clean_label:
            why = "a clean-label attack poisons one class and changes no label"
            raise contradiction("backdoor.label_rule: all_to_all", f"backdoor.{name}", why)
        return self

    @model_validator(mode="before")
    @classmethod
    def _find_attack(cls, given: Any) -> Any:
        if not isinstance(given, dict) or isinstance(given.get("attack"), Choice):
            return given
        plain = set(cls.model_fields) - {"attack"}
        named = {key: value for key, value in given.items() if key not in plain}
        for key in named:
            if key not in ATTACKS:
                raise unknown_key(str(key), [*plain, *ATTACKS])
        rest = {key: value for key, value in given.items() if key in plain}
        return {**rest, "attack": choose_attack(named)}


def choose_attack(named: dict[str, Any]) -> Choice:
    """Validate the attack in a `backdoor` section."""
    if len(named) != 1:
        raise PydanticCustomError("one_of", "name exactly one attack, e.g. badnets")
    name, settings = next(iter(named.items()))
    try:
        return Choice(name, ATTACKS.get(name).Settings.model_validate(settings))
    except ValidationError as error:
        raise nested_error(error, name) from error


class LoaderSection(Section):
    """`loader`: batches of supervised training and of the virtual model."""

    batch_size: int = Field(default=128, ge=2)
    num_workers: int | None = None
    pin_memory: bool | None = None


class SemiLoaderSection(Section):
    """`semi.loader`: batches of MixMatch."""

    batch_size: int = Field(default=64, ge=3)
    num_workers: int | None = None
    pin_memory: bool | None = None


class SplitSection(Section):
    """`split`: the loss by which the pools are divided, and the view on which it is measured.

    `augment: false` measures it on plain images, where the published code uses one augmented view.
    """

    criterion: CriterionChoice = Field(default={"sce": None}, validate_default=True)
    augment: bool = True


class SemiCriterionSection(Section):
    """`semi.criterion`."""

    mixmatch: MixMatchLossSettings = MixMatchLossSettings()


class MixMatchSection(Section):
    """`semi.mixmatch`: steps an epoch, sharpening temperature, Beta parameter of mixup."""

    train_iteration: int = Field(default=1024, ge=1)
    temperature: float = Field(default=0.5, gt=0)
    alpha: float = Field(default=0.75, gt=0)
    num_classes: int | None = None


class SemiSection(Section):
    """`semi`: training on both pools."""

    loader: SemiLoaderSection = SemiLoaderSection()
    criterion: SemiCriterionSection = SemiCriterionSection()
    mixmatch: MixMatchSection = MixMatchSection()


class GlobalSection(Section):
    """`global`: the schedule of the split.

    Stage 1 ends before `epoch_first`, stage 2 before `epoch_second`, stage 3 before `epoch_third`.
    `seed_num` verified samples a class; `n` more a class join them every `t` epochs. `epsilon` of
    all samples make the clean pool in stage 2, and in stage 3 unless `epsilon_meta` is given (the
    paper has two symbols). `keep_seeds` holds the seeds in the clean pool after stage 1 too.
    `class_floor` keeps in stages 2 and 3 that share of an even part of the pool for each class, so
    that none is lost: 0 is the paper's split, with 1 every class has equally many.
    The verified samples are those that `seed_indices` (a file of sample numbers or file names)
    lists, or the images in `seed_dir`; `seed_num: auto` takes what these give.
    """

    epoch_first: int = Field(default=60, ge=0)
    epoch_second: int = Field(default=90, ge=0)
    epoch_third: int = Field(default=120, ge=1)
    seed_num: Literal["auto"] | Annotated[int, Field(ge=1)] = 10
    seed_indices: str | None = None
    seed_dir: str | None = None
    epsilon: float = Field(default=0.5, gt=0, lt=1)
    epsilon_meta: float | None = Field(default=None, gt=0, lt=1)
    t: int = Field(default=5, ge=1)
    n: int = Field(default=10, ge=0)
    keep_seeds: bool = False
    class_floor: float = Field(default=0.0, ge=0, le=1)

    @property
    def meta_fraction(self) -> float:
        """The share of the samples that stage 3 keeps."""
        return self.epsilon if self.epsilon_meta is None else self.epsilon_meta

    @model_validator(mode="after")
    def _ordered(self) -> GlobalSection:
        pairs = [("epoch_first", "epoch_second"), ("epoch_second", "epoch_third")]
        for first, second in pairs:
            if getattr(self, first) > getattr(self, second):
                why = f"{getattr(self, first)} comes after {getattr(self, second)}"
                raise contradiction(f"global.{first}", f"global.{second}", why)
        if self.seed_dir is not None and self.seed_indices is not None:
            why = "the verified samples come from one place"
            raise contradiction("global.seed_dir", "global.seed_indices", why)
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


class DataSection(Section):
    """`data`: which images, and how they are stored. A set refuses a key that it does not read.

    `train_samples` keeps so many training images, equally many a class. `image_size`: side of the
    stored square images, in pixels; 32 when left out, as the other defaults are for 32x32 images.
    `resize`: length to which the shorter side is scaled before the middle is cut out; `image_size`
    when left out. `classes`: a text file with one class folder a line. `skip_unreadable`: leave
    broken images out in place of stopping. `cache_dir`: where decoded images are kept, below
    `storage_dir` when left out.
    """

    train_samples: int | None = Field(default=None, ge=1)
    image_size: int | None = Field(default=None, ge=1)
    resize: int | None = Field(default=None, ge=1)
    classes: str | None = None
    skip_unreadable: bool = False
    cache_dir: str | None = None

    @property
    def side(self) -> int:
        """Side of the stored images, in pixels."""
        return DEFAULT_IMAGE_SIZE if self.image_size is None else self.image_size

    @model_validator(mode="after")
    def _scaled_image_holds_the_crop(self) -> DataSection:
        if self.resize is not None and self.resize < self.side:
            why = f"{self.resize} pixels do not hold a square of {self.side}"
            raise contradiction("data.resize", "data.image_size", why)
        return self


def known_in(registry: Registry[Any]) -> Callable[[Any], Any]:
    """Return the validator for a key whose value is a part's name, without settings."""

    def check(given: Any) -> Any:
        if isinstance(given, str) and given not in registry:
            message = {"kind": registry.kind, "given": given, "hint": nearest(given, registry)}
            raise PydanticCustomError("unknown_name", "no {kind} is called {given}{hint}", message)
        return given

    return check


class Config(Section):
    """A whole run."""

    model_config = ConfigDict(populate_by_name=True)

    seed: SeedSection = SeedSection()
    defense: Annotated[str, BeforeValidator(known_in(DEFENSES))] = "asd"
    dataset: Annotated[str | None, BeforeValidator(known_in(DATASETS))] = None
    dataset_dir: str | None = None
    num_classes: int | None = Field(default=None, ge=2)
    data: DataSection = DataSection()
    saved_dir: str | None = None
    storage_dir: str = "./storage"
    prefetch: bool | None = None
    transform: TransformSection = TransformSection()
    backdoor: BackdoorSection | None = None
    loader: LoaderSection = LoaderSection()
    split: SplitSection = SplitSection()
    semi: SemiSection = SemiSection()
    network: NetworkChoice = Field(default={"resnet18_cifar": None}, validate_default=True)
    sync_bn: bool | None = None
    review: str | None = None
    report: bool = True
    optimizer: OptimizerChoice = Field(default={"Adam": {"lr": 0.002}}, validate_default=True)
    lr_scheduler: SchedulerChoice | None = None
    num_epochs: int = Field(default=120, ge=1)
    test_interval: int = Field(default=1, ge=1)
    criterion: CriterionChoice = Field(default={"cross_entropy": None}, validate_default=True)
    global_: GlobalSection = Field(default=GlobalSection(), alias="global")
    meta: MetaSection = MetaSection()
    speed: SpeedSettings = SpeedSettings()

    @property
    def truth_known(self) -> bool:
        """Whether anybody knows which samples are poisoned: this run poisoned them itself.

        Where nobody does, nothing that needs the truth is computed or shown.
        """
        return self.backdoor is not None

    @model_validator(mode="before")
    @classmethod
    def _cosine_over_the_whole_run(cls, given: Any) -> Any:
        """Derive the length of a cosine that is left out, so that it follows `num_epochs`."""
        schedule = given.get("lr_scheduler") if isinstance(given, dict) else None
        if not isinstance(schedule, dict) or "CosineAnnealingLR" not in schedule:
            return given
        settings = schedule["CosineAnnealingLR"]
        if settings is not None and not isinstance(settings, dict):
            return given
        length = given.get("num_epochs", cls.model_fields["num_epochs"].default)
        cosine = {"CosineAnnealingLR": {"T_max": length, **(settings or {})}}
        return {**given, "lr_scheduler": {**schedule, **cosine}}

    @model_validator(mode="after")
    def _agree(self) -> Config:
        if self.truth_known and self.global_.seed_dir is not None:
            why = "the attack would poison verified images; leave one of them out"
            raise contradiction("global.seed_dir", "backdoor", why)
        ramp = self.semi.criterion.mixmatch.rampup_length
        if self.defense == "asd":
            if self.num_epochs > self.global_.epoch_third:
                why = f"the last of the stages ends at {self.global_.epoch_third}"
                raise contradiction("num_epochs", "global.epoch_third", why)
            if ramp is not None and ramp != self.num_epochs:
                why = f"{ramp} is not {self.num_epochs}; leave it out"
                raise contradiction("semi.criterion.mixmatch.rampup_length", "num_epochs", why)
        return self

    def class_counts(self) -> dict[str, int]:
        """Return every given `num_classes`, by dotted key; all must fit the data."""
        given = {"num_classes": self.num_classes}
        given["semi.mixmatch.num_classes"] = self.semi.mixmatch.num_classes
        choices = {"split.criterion": self.split.criterion, "network": self.network}
        choices |= {"criterion": self.criterion, "meta.criterion": self.meta.criterion}
        for key, choice in choices.items():
            given[f"{key}.{choice.name}.num_classes"] = getattr(
                choice.settings, "num_classes", None
            )
        return {key: count for key, count in given.items() if count is not None}

    def as_yaml(self) -> dict[str, Any]:
        """Return all settings as they would stand in a YAML, defaults written out."""
        dumped = self.model_dump(by_alias=True, exclude_none=True)
        if self.backdoor is not None:
            dumped["backdoor"].pop("attack")
            dumped["backdoor"] |= dump_choice(self.backdoor.attack) or {}
        return dumped


# Keys of the published YAML that change nothing here, and why; each one given is said in a line.
NO_EFFECT = {
    "prefetch": "the images are on the device already",
    "saved_dir": "poisoned indices are kept in the run's folder, below storage_dir",
    "loader.num_workers": "batches are made on the device, without workers",
    "loader.pin_memory": "batches are made on the device",
    "semi.loader.num_workers": "batches are made on the device, without workers",
    "semi.loader.pin_memory": "batches are made on the device",
}
