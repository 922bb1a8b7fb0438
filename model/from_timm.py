"""The networks of timm, by the names they have there; with random weights, or learnt ones.

timm is an extra (`pip install timm`), and imported where one of its networks is asked for.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from torch import nn

from model.imported import Imported
from model.pretrained import Origin, Rescaled, fill, from_hugging_face, read_state
from utils.console import say
from utils.contents import Opened
from utils.errors import InputError, by_nearness
from utils.files import find_file
from utils.section import Section

KEY = "network.timm.pretrained"
INSTALL = "pip install 'timm>=1.0'"


def library() -> Any:
    """Return timm; it takes seconds to import, so it is asked for when a network of it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm
    return timm


def is_known(name: str) -> bool:
    """Return whether timm has the network `name`, and its tag where there is one."""
    timm = library()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        return False
    return not tag or name in timm.list_pretrained(f"{architecture}.*")


def facts(name: str) -> dict[str, Any]:
    """Return what timm knows of the learnt weights of a network; nothing where it has none."""
    found = library().get_pretrained_cfg(name)
    return {} if found is None else dict(found.to_dict())


class Timm(Imported):
    """A network of timm (an extra, `pip install timm`): its features, and `linear` after them."""

    class Settings(Imported.Settings):
        """`name`: as timm has it, e.g. resnet18, efficientnet_lite0, with a tag or without.

        `pretrained`: false, random weights; true, timm's own, downloaded once; or the path of a
        file with weights of this network, safetensors or of `torch.save`. The classifier is always
        new. Pretrained ones see pixels normalised by timm's mean and std, whatever `transform`
        says.
        """

        name: str = Field(min_length=1)
        pretrained: Annotated[bool | str, Opened()] = False

        @field_validator("name")
        @classmethod
        def _must_be_there(cls, name: str) -> str:
            if importlib.util.find_spec("timm") is None:
                message = "the package timm is not installed; {install}"
                raise PydanticCustomError("rejected", message, {"install": INSTALL})
            if not is_known(name):
                near = by_nearness(name, library().list_models(), 1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                context = {"given": repr(name), "hint": hint}
                raise PydanticCustomError(
                    "unknown_name", "timm has no network {given}{hint}", context
                )
            return name

    @classmethod
    def build(cls, settings: Section, num_classes: int) -> Timm:
        """Return the untrained network, initialised as timm does it."""
        assert isinstance(settings, cls.Settings)
        body: nn.Module = library().create_model(settings.name, pretrained=False, num_classes=0)
        # Some have a layer between the pooled features and the classifier.
        width = int(getattr(body, "head_hidden_size", None) or body.num_features)  # type: ignore[arg-type]
        if settings.pretrained is False:
            return cls(body, width, num_classes)
        return cls(Rescaled(body, origin(settings.name)), width, num_classes)

    def start(self, settings: Section) -> None:
        """Take the learnt weights; see `Network.start`."""
        assert isinstance(settings, self.Settings)
        if settings.pretrained is False:
            return
        assert isinstance(self.backbone, Rescaled)
        about = facts(settings.name)
        if isinstance(settings.pretrained, str):
            path = find_file(settings.pretrained, KEY)
        elif not about.get("hf_hub_id"):
            raise InputError(
                f"{KEY}: timm offers no weights of {settings.name} to download; give a file"
            )
        else:
            path = from_hugging_face(about["hf_hub_id"], f"{KEY}=true")
        given = about.get("classifier") or ()
        heads = (given,) if isinstance(given, str) else tuple(given)
        fill(self.backbone.body, read_state(path), heads, f"{KEY}: {path}: {settings.name}")
        say(f"network: {settings.name} starts from {path}, with its own mean and std")


def origin(name: str) -> Origin:
    """Return the images that timm's weights of a network were learnt on."""
    about, usual = facts(name), Origin()
    return Origin(
        mean=tuple(about.get("mean") or usual.mean),
        std=tuple(about.get("std") or usual.std),
        size=int((about.get("input_size") or (3, usual.size, usual.size))[-1]),
    )
