"""Weights that were learnt elsewhere: where they lie, whether they fit, what images they know."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from utils.download import refusing_failure
from utils.errors import InputError
from utils.files import read_regular
from utils.torch_file import brief, read_tensors

MOST_BYTES = 2**34  # of a file
PATIENCE = 8.0  # seconds for an answer of the network
WEIGHTS_FILE = "model.safetensors"  # as it is called on Hugging Face
WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys below which others keep the weights
COUNTS = "num_batches_tracked"  # files of PyTorch 0.4 and before have none; nothing learnt is in it
# Names that torchvision has changed since its files were written.
RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"\bmlp\.linear_1\."), "mlp.0."),
    (re.compile(r"\bmlp\.linear_2\."), "mlp.3."),
)
SWITCH = "HF_HUB_OFFLINE"  # Hugging Face's environment variable; here it counts for all downloads
OFFLINE = "download it where there is a network, and give the file in place of"


@dataclass(frozen=True)
class Origin:
    """The images that weights were learnt on; ImageNet's, as most are, where nothing is known.

    Attributes:
        mean, std: of pixels in 0..1, for R, G, B, by which they were normalised.
        size: height and width, in pixels.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    size: int = 224


class Rescaled(nn.Module):
    """A backbone that sees pixels normalised as those that its first weights were learnt on.

    The run normalises by its own mean and std; one product and one sum a pixel lead from these to
    the other. Both factors are part of the state dict, so a saved model needs no more.

    Args:
        body: the backbone itself.
        origin: what its weights were learnt on.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, body: nn.Module, origin: Origin) -> None:
        super().__init__()
        self.body, self.origin = body, origin
        self.register_buffer("scale", torch.ones(3, 1, 1))
        self.register_buffer("shift", torch.zeros(3, 1, 1))

    def fit(self, mean: Tensor, std: Tensor) -> None:
        """Lead from images normalised by `mean` and `std`, each (3,), to those of the origin."""
        theirs_mean = torch.tensor(self.origin.mean, dtype=torch.float64)
        theirs_std = torch.tensor(self.origin.std, dtype=torch.float64)
        self.scale.copy_((std.double() / theirs_std)[:, None, None])
        self.shift.copy_(((mean.double() - theirs_mean) / theirs_std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) to features (N, num_features)."""
        features: Tensor = self.body(images * self.scale + self.shift)
        return features


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the weights in a file, by name: safetensors by its ending, else of `torch.save`.

    Raises:
        InputError: it cannot be read, is damaged, would run code, or holds something else.
    """
    content: Any
    if path.suffix == ".safetensors":
        try:
            content = safetensors.torch.load(read_regular(path, MOST_BYTES))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise InputError(f"{path}: damaged, or no safetensors ({brief(error)})") from error
    else:
        content = read_tensors(path)
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    named = isinstance(content, dict) and content
    if not named or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: holds no weights by name, as `state_dict()` gives them")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


@torch.no_grad()
def fill(body: nn.Module, state: dict[str, Tensor], heads: Collection[str], where: str) -> None:
    """Copy the weights of a file into `body`, all of them or none.

    Args:
        body: the network without its classifier.
        state: weights by name; those of the classifier are left out, since its classes are others.
        heads: names of the classifier's modules.
        where: file and network, for messages.

    Raises:
        InputError: a weight is missing, too many, of another shape, or not finite.
    """
    wanted = body.state_dict()
    given = dict[str, Tensor]()
    for name, value in state.items():
        if not any(name.startswith(f"{head}.") for head in heads):
            given[name if name in wanted else modern(name)] = value
    needed = [name for name in wanted if not name.endswith(COUNTS)]
    refuse([name for name in needed if name not in given], where, "has no")
    refuse([name for name in given if name not in wanted], where, "has an unknown")
    for name, value in given.items():
        here = wanted[name]
        if value.shape != here.shape:
            raise InputError(
                f"{where}: {clip(name)} is {list(value.shape)}, {list(here.shape)} is needed"
            )
        if value.is_floating_point() != here.is_floating_point():
            raise InputError(f"{where}: {clip(name)} is of {value.dtype}, not of {here.dtype}")
        if not bool(value.isfinite().all()):
            raise InputError(f"{where}: the weights {clip(name)} are not finite")
    for name, value in given.items():
        wanted[name].copy_(value)


def modern(name: str) -> str:
    """Return what a weight of an old file is called now."""
    for old, new in RENAMED:
        name = old.sub(new, name)
    return name


def refuse(names: list[str], where: str, what: str) -> None:
    """Raise `InputError` if there are any names."""
    if names:
        more = f" and {len(names) - 1} more" if names[1:] else ""
        raise InputError(
            f"{where}: it does not fit, it {what} {clip(names[0])}{more}; take weights of this "
            f"very network"
        )


def clip(name: str) -> str:
    """Return a name for a message."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def from_torch_hub(address: str, key: str) -> Path:
    """Return the file of one of torchvision's addresses, downloaded where it is not there yet.

    Raises:
        InputError: it cannot be had; `key` is the setting that asks for it.
    """
    name = Path(urlparse(address).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    digest = re.search(r"-([0-9a-f]{8,})\.", name)
    with reachable(key, address, path.parent):
        if path.is_file():
            return path
        refuse_offline()
        path.parent.mkdir(parents=True, exist_ok=True)
        with impatience():
            prefix = digest[1] if digest else None
            torch.hub.download_url_to_file(address, str(path), prefix, progress=False)
    return path


def from_hugging_face(repository: str, key: str) -> Path:
    """Return the weights of a repository on Hugging Face, downloaded where they are not there yet.

    Raises:
        InputError: they cannot be had; `key` is the setting that asks for them.
    """
    import huggingface_hub as hub  # comes with timm

    address = hub.hf_hub_url(repository, WEIGHTS_FILE)
    with reachable(key, address, Path(hub.constants.HF_HUB_CACHE)):
        kept = hub.try_to_load_from_cache(repository, WEIGHTS_FILE)
        if isinstance(kept, str):
            return Path(kept)
        refuse_offline()
        # The library asks for half a minute where nobody answers; this asks once.
        question = Request(address, method="HEAD")  # noqa: S310 (https, of the library)
        with urlopen(question, timeout=PATIENCE):  # noqa: S310
            pass
        return Path(hub.hf_hub_download(repository, WEIGHTS_FILE, etag_timeout=PATIENCE))


def reachable(key: str, address: str, folder: Path) -> AbstractContextManager[None]:
    """Return the gate for a block that downloads to `folder` what the setting `key` asks for."""
    setting, _, value = key.partition("=")
    return refusing_failure(
        lambda why: f"{setting}: {address} could not be downloaded ({why}); {OFFLINE} {value}",
        folder,
    )


def refuse_offline() -> None:
    """Raise `OSError` where the environment says that nothing shall be downloaded."""
    if os.environ.get(SWITCH, "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise OSError(f"{SWITCH} is set")


@contextmanager
def impatience() -> Iterator[None]:
    """Let connections that are opened in the block wait for `PATIENCE` only."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
