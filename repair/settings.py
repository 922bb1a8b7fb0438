"""What the YAML says of a repair: which one, of which run, with how much clean data."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from repair import REPAIRS
from utils.choice import chosen, known_in
from utils.section import Below, Section, refuse_unknown_keys

OF_ANY_REPAIR = ("repair.of", "repair.clean_fraction")  # what a run that repairs nothing ignores


class RepairSection(Section):
    """`repair`: what mends the model of a finished run without a defence; a run of its own.

    `method`: fine_pruning or nad, each with its settings below its name; null: nothing is repaired.
    `of`: the name of the run whose model is taken, below `storage_dir`; left out, that of this run
    with `none` in place of the method's name. `clean_fraction` of the training images are clean and
    known to be so; of own data all verified samples are taken, whatever it says.
    """

    method: Annotated[str | None, BeforeValidator(known_in(REPAIRS))] = None
    of: str | None = None
    clean_fraction: float = Field(default=0.05, gt=0, le=1)
    parts: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def below(cls, key: str) -> Below | None:
        """Return what stands below a repair's name, too; `method` chooses, so the name does not."""
        return Below(REPAIRS.get(key).Settings) if key in REPAIRS else super().below(key)

    @classmethod
    def emptied(cls, inherited: Any) -> Any:
        """An empty `repair` repairs nothing; what is known of each repair stays."""
        return {**inherited, "method": None} if isinstance(inherited, dict) else inherited

    @model_validator(mode="before")
    @classmethod
    def _settings_by_name(cls, given: Any) -> Any:
        """Validate what stands below a repair's name, for all that there are."""
        if not isinstance(given, dict) or has_parts(given):
            return given
        plain = set(cls.model_fields) - {"parts"}
        refuse_unknown_keys(given, [*plain, *REPAIRS])
        parts = {name: chosen(REPAIRS, name, given.get(name)).settings for name in REPAIRS}
        return {**{key: given[key] for key in given if key in plain}, "parts": parts}

    @property
    def settings(self) -> Any:
        """Those of the chosen method."""
        assert self.method is not None
        return self.parts.get(self.method) or REPAIRS.get(self.method).Settings()

    def as_yaml(self) -> dict[str, Any]:
        """Return the section as it stands in a YAML: the chosen method's settings alone."""
        plain = self.model_dump(exclude={"parts"}, exclude_none=True)
        if self.method is None:
            return plain
        return plain | {self.method: self.settings.model_dump(exclude_none=True)}


def has_parts(given: dict[str, Any]) -> bool:
    """Return whether the settings below the repairs' names are validated already."""
    parts = given.get("parts")
    if not isinstance(parts, dict) or not parts:
        return False
    return all(isinstance(part, Section) for part in parts.values())
