"""What the YAML says of the attack: `backdoor`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from data.attack import ATTACKS
from utils.choice import Choice, chosen, dump_choice
from utils.section import Below, Section, contradiction, unknown_key


class BackdoorSection(Section):
    """`backdoor`: how much is poisoned, towards which class, and by which attack.

    The attack stands beside the other keys by its name, as in the published YAML.
    """

    poison_ratio: float = Field(default=0.05, ge=0, le=1)
    target_label: int = Field(default=3, ge=0)
    selection: Literal["exact", "official"] = "exact"
    label_rule: Literal["all_to_one", "all_to_all"] = "all_to_one"
    attack: Any

    @classmethod
    def below(cls, key: str) -> Below | None:
        """Return what stands below an attack's name, too, which chooses that attack."""
        return Below(ATTACKS.get(key).Settings, True) if key in ATTACKS else super().below(key)

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

    def as_yaml(self) -> dict[str, Any]:
        """Return the section as it would stand in a YAML, defaults written out."""
        plain = self.model_dump(by_alias=True, exclude_none=True, exclude={"attack"})
        return plain | (dump_choice(self.attack) or {})


def choose_attack(named: dict[str, Any]) -> Choice:
    """Validate the attack in a `backdoor` section."""
    if len(named) != 1:
        raise PydanticCustomError("one_of", "name exactly one attack, e.g. badnets")
    name, settings = next(iter(named.items()))
    return chosen(ATTACKS, name, settings)
