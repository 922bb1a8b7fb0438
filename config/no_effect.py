"""Keys that change nothing, given all the same: each is said in a line, since somebody meant it.

A key of a general YAML loses its effect where one that extends it chooses otherwise: `sig.yaml`
extends `badnets.yaml`, whose `poison_ratio` it does not read. Nobody meant that. So a key is named
only where it stands in the same file as what takes its effect, or comes later. Settings of a method
that the run does not take are named only where somebody typed them: one YAML has those of all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from config.schema import Config
from data.attack import ATTACKS, Attack
from defense import DEFENSES
from defense.settings import own_sections
from repair import REPAIRS
from repair.settings import OF_ANY_REPAIR
from utils.contents import sections_in

BY_DEFAULT = 1  # place of what nobody gave: after the first file, which holds keys for all


@dataclass(frozen=True)
class Rule:
    """Keys without effect in some configurations.

    Attributes:
        keys: dotted; a section stands for all keys in it.
        where: returns the key that takes their effect; None where they have one.
        why: for the line.
        typed: whether the keys are named at the command line alone.
    """

    keys: tuple[str, ...]
    where: Callable[[Config], str | None]
    why: str
    typed: bool = False


def clean_label(config: Config) -> str | None:
    """Return the key of an attack that poisons a share of one class."""
    if config.backdoor is None or not ATTACKS.get(config.backdoor.attack.name).clean_label:
        return None
    return f"backdoor.{config.backdoor.attack.name}"


def all_to_all(config: Config) -> str | None:
    """Return the key that gives every class a target of its own."""
    is_so = config.backdoor is not None and config.backdoor.label_rule == "all_to_all"
    return "backdoor.label_rule" if is_so else None


def chosen_by_attack(config: Config) -> str | None:
    """Return the key of an attack that says itself which samples it poisons."""
    if config.backdoor is None or ATTACKS.get(config.backdoor.attack.name).choose is Attack.choose:
        return None
    return f"backdoor.{config.backdoor.attack.name}"


def without_meta_split(config: Config) -> str | None:
    """Return the key that ends the run before stage 3."""
    return "global.epoch_second" if config.global_.epoch_second >= config.num_epochs else None


def nobody_heard(config: Config) -> str | None:
    """Return the key that names no witness, where the reference is not asked for either."""
    asked = config.witness.heard or config.global_.chosen or config.needs_hearing
    return None if asked else "witness.heard"


def given(key: str, of: Callable[[Config], object]) -> Callable[[Config], str | None]:
    """Return the condition that a key has a value."""
    return lambda config: key if of(config) not in (None, False) else None


# Keys of the published YAML that change nothing here, whatever else is chosen.
NO_EFFECT = {
    "prefetch": "the images are on the device already",
    "saved_dir": "poisoned indices are kept in the run's folder, below storage_dir",
    "loader.num_workers": "batches are made on the device, without workers",
    "loader.pin_memory": "batches are made on the device",
    "semi.loader.num_workers": "batches are made on the device, without workers",
    "semi.loader.pin_memory": "batches are made on the device",
}
RULES = (
    Rule(
        ("backdoor.poison_ratio", "backdoor.selection"),
        clean_label,
        "a clean-label attack poisons its class_fraction of the target class",
    ),
    Rule(("backdoor.target_label",), all_to_all, "all_to_all gives every class its own target"),
    Rule(("meta.epoch",), given("meta.train_iteration", lambda c: c.meta.train_iteration),
         "meta.train_iteration says how long the virtual model is trained"),
    Rule(("global.t", "global.n"), given("global.growth", lambda c: c.global_.growth),
         "global.growth says how the clean pool grows"),
    Rule(("speed.precision", "speed.compile", "speed.channels_last"),
         given("speed.reference", lambda c: c.speed.reference),
         "speed.reference is eager and fp32"),
    Rule(("backdoor.selection",), chosen_by_attack, "the attack says itself which samples",
         typed=True),
    Rule(("meta", "global.meta_agreement", "global.epsilon_meta"), without_meta_split,
         "global.epoch_second leaves no epoch to stage 3", typed=True),
    Rule(("witness.vetoed", "witness.reference"), nobody_heard,
         "witness.heard names nobody, and nothing else asks the reference", typed=True),
)  # fmt: skip


def rules_of(config: Config) -> tuple[Rule, ...]:
    """Return all rules, that of the method included: what a defence or a repair does not read."""
    repair = config.repair.method
    method = DEFENSES.get(config.defense) if repair is None else REPAIRS.get(repair)
    ignored = method.ignored_keys
    if config.global_.chosen:  # by witnesses, whatever the method
        ignored = tuple(key for key in ignored if key != "witness")
    key, name = ("defense", config.defense) if repair is None else ("repair.method", repair)
    why = f"{key}: {name} does not read it"
    of_method = Rule(ignored, lambda _: key, why)
    of_others = Rule(sections_of_others(name), lambda _: key, why, typed=True)
    return (*RULES, of_method, of_others, *rules_of_sections(config))


def rules_of_sections(config: Config) -> list[Rule]:
    """Return what the settings themselves say of keys that they do not read as they are."""
    found = []
    for prefix, section in sections_in(config):
        for cause, names in section.unread().items():
            key, value = f"{prefix}{cause}", getattr(section, cause)
            why = f"{key}: {json.dumps(value)} leaves it no use"
            keys = tuple(f"{prefix}{name}" for name in names)
            found.append(Rule(keys, lambda _, key=key: key, why, typed=True))  # type: ignore[misc]
    return found


def sections_of_others(method: str) -> tuple[str, ...]:
    """Return what defences and repairs other than `method` have for themselves."""
    defenses = [name for name in own_sections() if name != method]
    repairs = [f"repair.{name}" for name in REPAIRS if name != method]
    return (*defenses, *repairs, *(() if method in REPAIRS else OF_ANY_REPAIR))


def without_effect(config: Config, places: Mapping[str, int], typed: int) -> Iterator[str]:
    """Yield a line for each key that was given and changes nothing.

    Args:
        config: validated.
        places: of each given dotted key that is no section, the number of the last source that
            holds it: 0 for the most general file, the command line last.
        typed: the first number of the command line.
    """
    for key, why in NO_EFFECT.items():
        if key in places:
            yield f"{key} has no effect: {why}"
    said: set[str] = set()
    for rule in rules_of(config):
        cause = rule.where(config)
        if cause is None:
            continue
        decided = max(place_of(cause, places), typed if rule.typed else 0)
        for key, place in places.items():
            if stands_in(key, rule.keys) and place >= decided and key not in {*NO_EFFECT, *said}:
                said.add(key)
                yield f"{key} has no effect: {rule.why}"


def is_ignored(config: Config, key: str) -> bool:
    """Return whether a run of this configuration reads nothing that stands at a dotted key.

    What decides so is another key; so where two runs differ in such a key alone, neither reads it.
    """
    rules = (rule for rule in rules_of(config) if rule.where(config))
    return stands_in(key, [*NO_EFFECT, *(part for rule in rules for part in rule.keys)])


def stands_in(key: str, sections: Iterable[str]) -> bool:
    """Return whether a dotted key is one of `sections` or stands in one of them."""
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def place_of(key: str, places: Mapping[str, int]) -> int:
    """Return the place of a key or, of a section, the first place of what stands in it."""
    inside = [place for name, place in places.items() if name.startswith(f"{key}.")]
    return places.get(key, min(inside, default=BY_DEFAULT))
