"""What a file holds is part of what names it: every such field is marked, every file is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import command.reference as page
from config.schema import Config
from data.attack import ATTACKS
from data.build import poison_cache
from defense.settings import own_sections
from tests.conftest import learnable_data, tiny_config
from utils.contents import Opened, contents_of, named_files
from utils.errors import InputError
from utils.section import Section
from utils.streams import Streams

# Texts that name no file: names of parts, and folders whose images are known by a listing or that
# a run writes into.
NO_FILES = {
    *("dataset", "defense", "repair.method", "repair.of", "meta.layers", "report_formats"),
    *("network.torchvision.name", "network.timm.name"),
    *("dataset_dir", "storage_dir", "saved_dir", "data.cache_dir"),
}


def text_fields(section: type[Section], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield key and field of all texts in a section and below it."""
    for name, field in section.model_fields.items():
        key, inner = f"{prefix}{field.alias or name}", page.below(field)
        kinds = [field.annotation, *get_args(field.annotation)]
        if name not in page.OF_PARTS and any(is_text(kind) for kind in kinds):
            yield key, field
        if inner is not None:
            yield from text_fields(inner, f"{key}.")


def is_text(kind: Any) -> bool:
    return kind is str or (not isinstance(kind, type) and str in get_args(kind))


def all_text_fields() -> dict[str, Any]:
    found = dict(text_fields(Config, ""))
    for name, section in own_sections().items():
        found |= dict(text_fields(section, f"{name}."))
    for place, registry in page.PARTS.items():
        for name in registry:
            found |= dict(text_fields(registry.get(name).Settings, f"{place}.{name}."))
    return found


def is_marked(field: Any) -> bool:
    return any(isinstance(item, Opened) for item in field.metadata)


def test_every_text_of_the_schema_is_marked_or_names_no_file() -> None:
    fields = all_text_fields()
    assert {key for key, field in fields.items() if not is_marked(field)} == NO_FILES
    marked = {key for key, field in fields.items() if is_marked(field)}
    assert {"witness.heard.probabilities.file", "network.torchvision.weights", "review"} < marked


def test_a_file_is_found_wherever_the_settings_hold_it(tmp_path: Path) -> None:
    weights = "resnet18, weights: /nowhere/w.pt"
    config = tiny_config(
        f"backdoor={{clb: {{network: {{torchvision: {{name: {weights}}}}}}}}}",
        f"witness.reference.network={{torchvision: {{name: {weights}}}}}",
        "witness.heard={probabilities: {file: p.npy}}",
        "review=review.csv",
    ).config
    assert {key for key, _, _ in named_files(config)} == {
        "backdoor.clb.network.torchvision.weights",
        "witness.reference.network.torchvision.weights",
        "witness.heard.probabilities.file",
        "review",
    }
    assert contents_of(config) == {}  # none of them is there


def test_a_folder_is_known_by_names_and_contents(tmp_path: Path) -> None:
    def content() -> dict[str, str]:
        return contents_of(tiny_config(f"backdoor={{refool: {{reflections: {tmp_path}}}}}").config)

    known = []
    for name, text in (("a", "1"), ("a", "2"), ("b", "2")):
        (tmp_path / name).write_text(text)
        known.append(content()["backdoor.refool.reflections"])
    (tmp_path / "b").rename(tmp_path / "c")
    known.append(content()["backdoor.refool.reflections"])
    assert len(set(known)) == len(known)


def test_a_table_among_the_images_comes_first(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("a table")
    settings = tiny_config("backdoor=null", "data.truth=README.md", "data.train_samples=null")
    anywhere = contents_of(settings.config)
    among = contents_of(settings.config, images=tmp_path)
    assert anywhere.keys() == among.keys() == {"data.truth"}
    assert anywhere != among


def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.npy").touch()
    settings = tiny_config(f"review={tmp_path / 'p.npy'}", "backdoor=null").config

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"review: .*p\.npy cannot be read \(Permission denied\)"):
        contents_of(settings)


@pytest.mark.parametrize(
    "name", [name for name in ATTACKS if "network" in ATTACKS.get(name).Settings.model_fields]
)
def test_other_weights_are_another_kept_poison(name: str, tmp_path: Path) -> None:
    weights, data = tmp_path / "w.pt", learnable_data()
    network = f"{{torchvision: {{name: resnet18, weights: {weights}}}}}"
    config = tiny_config(f"backdoor={{{name}: {{network: {network}}}}}").config
    folders = []
    for content in (None, "a", "b"):
        if content is not None:
            weights.write_text(content)
        folders.append(poison_cache(config, data, Streams(0)))
    assert len(set(folders)) == 3
