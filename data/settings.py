"""What a run's data depend on: a part of the configuration that knows no defence."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from data.attack.settings import BackdoorSection
from data.dataset import DATASETS
from data.dataset.settings import DataSection
from data.transform.settings import TransformSection
from utils.choice import known_in
from utils.contents import Opened
from utils.section import Section, contradiction


class SeedsSection(Section):
    """The part of `global` that says which samples are verified.

    `seed_num` a class. They are those that `seed_indices` (a file of sample numbers or file names)
    lists, or the images in `seed_dir`; `seed_num: auto` takes what these give. Where nobody has
    verified any, `seed_choice: witnesses` lets the witnesses choose those that they trust most; see
    `witness/trust.py`.
    """

    seed_num: Literal["auto"] | Annotated[int, Field(ge=1)] = 10
    seed_indices: Annotated[str | None, Opened()] = None
    seed_dir: Annotated[str | None, Opened()] = None
    seed_choice: Literal["verified", "witnesses"] = "verified"

    @property
    def chosen(self) -> bool:
        """Whether no sample is verified, and witnesses choose those from which stage 1 starts."""
        return self.seed_choice == "witnesses"

    @model_validator(mode="after")
    def _one_place(self) -> SeedsSection:
        if self.seed_dir is not None and self.seed_indices is not None:
            why = "the verified samples come from one place"
            raise contradiction("global.seed_dir", "global.seed_indices", why)
        return self

    @model_validator(mode="after")
    def _chosen_where_nobody_verified(self) -> SeedsSection:
        for key in ("seed_dir", "seed_indices"):
            if self.chosen and getattr(self, key) is not None:
                why = "what a person has verified is better; leave one of them out"
                raise contradiction("global.seed_choice: witnesses", f"global.{key}", why)
        return self


class DataSettings(Section):
    """Which images, which poison, which verified samples.

    `storage_dir` holds what is kept between runs: decoded images, what an attacker has learnt.
    """

    model_config = ConfigDict(populate_by_name=True)

    dataset: Annotated[str | None, BeforeValidator(known_in(DATASETS))] = None
    dataset_dir: str | None = None
    num_classes: int | None = Field(default=None, ge=2)
    data: DataSection = DataSection()
    storage_dir: str = "./storage"
    transform: TransformSection = TransformSection()
    backdoor: BackdoorSection | None = None
    review: Annotated[str | None, Opened()] = None
    global_: SeedsSection = Field(default=SeedsSection(), alias="global")

    @property
    def truth_known(self) -> bool:
        """Whether anybody knows which samples are poisoned: this run, or a table about them.

        Where nobody does, nothing that needs the truth is computed or shown.
        """
        return self.backdoor is not None or self.data.truth is not None

    @model_validator(mode="after")
    def _poisoned_once(self) -> DataSettings:
        if self.data.truth is not None and self.backdoor is not None:
            why = "the table says what is poisoned already; set backdoor to null"
            raise contradiction("data.truth", "backdoor", why)
        return self

    @model_validator(mode="after")
    def _verified_stay_clean(self) -> DataSettings:
        if self.truth_known and self.global_.seed_dir is not None:
            why = "the attack would poison verified images; leave one of them out"
            raise contradiction("global.seed_dir", "backdoor", why)
        return self

    def class_counts(self) -> dict[str, int]:
        """Return every given `num_classes`, by dotted key; all must fit the data."""
        return {} if self.num_classes is None else {"num_classes": self.num_classes}
