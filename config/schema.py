"""The typed configuration: every key of the published YAML, and this project's own.

Assembled from the settings that stand beside what they set. Defaults are the published values for
CIFAR-10. A key that may be left out because it can be derived is None here; `Config` checks that a
given one does not contradict its source.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from data.formats import FORMATS
from data.settings import DataSettings
from defense import DEFENSES
from defense.settings import DefenseSettings, GlobalSection, stages_of
from model import NetworkChoice
from repair.settings import RepairSection
from training.rate import RateSettings
from training.torch_parts import OptimizerChoice, SchedulerChoice
from utils.choice import known_in
from utils.section import Section, contradiction
from utils.speed import SpeedSettings


class SeedSection(Section):
    """`seed`: the run's seed (None draws one) and how exactly CUDA repeats itself."""

    seed: int | None = Field(default=100, ge=0)
    deterministic: bool = False
    benchmark: bool = True


class Config(DataSettings, DefenseSettings):
    """A whole run."""

    seed: SeedSection = SeedSection()
    defense: Annotated[str, BeforeValidator(known_in(DEFENSES))] = "asd"
    saved_dir: str | None = None
    prefetch: bool | None = None
    network: NetworkChoice = Field(default={"resnet18_cifar": None}, validate_default=True)
    sync_bn: bool | None = None
    report: bool = True
    report_formats: list[Annotated[str, BeforeValidator(known_in(FORMATS))]] = Field(
        default_factory=list
    )
    optimizer: OptimizerChoice = Field(default={"Adam": {"lr": 0.002}}, validate_default=True)
    lr_scheduler: SchedulerChoice | None = None
    learning_rate: RateSettings | None = None
    test_interval: int = Field(default=1, ge=1)
    speed: SpeedSettings = SpeedSettings()
    repair: RepairSection = Field(default_factory=RepairSection)
    global_: GlobalSection = Field(default=GlobalSection(), alias="global")

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
        stages = stages_of(given)
        length = given.get("num_epochs", cls.model_fields["num_epochs"].default)
        length = length if stages is None else stages.scheduled_epochs
        cosine = {"CosineAnnealingLR": {"T_max": length, **(settings or {})}}
        return {**given, "lr_scheduler": {**schedule, **cosine}}

    @model_validator(mode="after")
    def _one_course_of_the_rate(self) -> Config:
        if self.lr_scheduler is not None and self.learning_rate is not None:
            why = "both say how the learning rate runs"
            raise contradiction("lr_scheduler", "learning_rate", why)
        return self

    @property
    def method(self) -> str:
        """The defence that is built: a repair has none, whatever `defense` says."""
        return self.defense if self.repair.method is None else "none"

    def is_tested(self, epoch: int) -> bool:
        """Return whether ACC and ASR are measured after the 0-based `epoch`."""
        done = epoch + 1
        return done == self.num_epochs or done % self.test_interval == 0

    def class_counts(self) -> dict[str, int]:
        """Return every given `num_classes`, by dotted key; all must fit the data."""
        of_network = getattr(self.network.settings, "num_classes", None)
        network = {f"network.{self.network.name}.num_classes": of_network} if of_network else {}
        return DataSettings.class_counts(self) | DefenseSettings.class_counts(self) | network

    def of_defense(self) -> DefenseSettings:
        """Return what a defence may know; the attack, first of all, is out of its reach."""
        known = {name: getattr(self, name) for name in DefenseSettings.model_fields}
        return DefenseSettings.model_construct(**{**known, "defense": self.method})

    def as_yaml(self) -> dict[str, Any]:
        """Return all settings that count as they would stand in a YAML, defaults written out."""
        dumped = self.model_dump(by_alias=True, exclude_none=True)
        if self.backdoor is not None:
            dumped["backdoor"] = self.backdoor.as_yaml()
        own = dumped.pop("parts").get(self.defense)
        if own is not None:  # of other methods, nothing in this run depends on it
            dumped[self.defense] = own
        dumped.pop("repair")
        if self.repair.method is not None:
            dumped["repair"] = self.repair.as_yaml()
        return dumped
