"""Weights learnt elsewhere: taken whole, or refused in a line; nothing hangs without a network."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from config.load import load_config
from model import NETWORKS, Network, build_network
from model import pretrained as learnt
from model.backbone import find_backbone
from model.operations import compute, list_operations
from model.pretrained import Origin, Rescaled, modern, read_state
from tests.broken_downloads import BROKEN
from tests.conftest import DIGITS
from utils.errors import InputError

timm = pytest.importorskip("timm")
models = pytest.importorskip("torchvision.models")
SMALL = "test_efficientnet"  # timm's own, of 0.1 million weights
THEIRS = "shufflenet_v2_x0_5"
CASES = [("timm", SMALL, "pretrained", "classifier"), ("torchvision", THEIRS, "weights", "fc")]


def make(kind: str, start: bool = True, **given: Any) -> Network:
    network = NETWORKS.get(kind)
    return build_network(network, network.Settings.model_validate(given), 7, 3, start)


def whole(kind: str, name: str) -> dict[str, Tensor]:
    """Return weights as the library's own file holds them, with a classifier of 1000 classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = timm.create_model(name) if kind == "timm" else models.get_model(name)
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(0.01 * torch.rand_like(value))
        return dict(model.state_dict())


def save(state: Any, path: Path) -> str:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


def one_line(caught: pytest.ExceptionInfo[InputError], *parts: str) -> None:
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize(("kind", "name", "key", "head"), CASES)
def test_a_file_fills_all_but_the_classifier(
    kind: str, name: str, key: str, head: str, ending: str, tmp_path: Path
) -> None:
    state = whole(kind, name)
    path = save(state, tmp_path / f"weights.{ending}")
    network = make(kind, name=name, **{key: path})
    body = network.backbone.get_submodule("body").state_dict()
    assert body
    for part, value in body.items():
        assert torch.equal(value, state[part]), part
    assert network.linear.weight.shape[0] == 7
    plain = make(kind, name=name)
    assert all(part.startswith(("backbone.", "linear.")) for part in plain.state_dict())
    assert torch.equal(network.linear.weight, plain.linear.weight)  # of the run's own seed
    names = [part for part, _ in network.named_parameters()]
    for layer in network.meta_layers:
        assert any(part.startswith(f"{layer}.") for part in names), layer
    assert len(network.meta_layers) >= 3
    # A stranger's model.json may name any file: what is read with its own weights starts nowhere.
    again = make(kind, start=False, name=name, **{key: str(tmp_path / "absent.pth")})
    assert again.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize(("kind", "name", "key", "head"), CASES)
def test_pixels_are_normalised_as_they_were_learnt(
    kind: str, name: str, key: str, head: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(whole(kind, name), tmp_path / "w.safetensors")
    network = make(kind, name=name, **{key: path}).eval()
    assert f"starts from {path}" in capsys.readouterr().out
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.3, 0.4, 0.5]), torch.tensor([0.2, 0.3, 0.1])
    network.fit_input(pixels, mean, std)
    size = 160 if kind == "timm" else 224
    assert f"of {size}x{size} pixels, these have 64x64" in capsys.readouterr().out
    theirs_mean, theirs_std = torch.tensor(Origin().mean), torch.tensor(Origin().std)
    images = pixels / 255
    body = network.backbone.get_submodule("body")
    with torch.no_grad():
        wanted = body(((images - theirs_mean) / theirs_std).permute(0, 3, 1, 2))
        found = network.backbone(((images - mean) / std).permute(0, 3, 1, 2))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_a_rescaled_network_is_listed_for_model_json(tmp_path: Path) -> None:
    path = save(whole("timm", SMALL), tmp_path / "w.safetensors")
    network = make("timm", name=SMALL, pretrained=path).eval()
    network.fit_input(torch.zeros(1, 32, 32, 3), torch.full((3,), 0.3), torch.full((3,), 0.2))
    operations = json.loads(json.dumps(list_operations(network, 32, 32)))
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(images)
    torch.testing.assert_close(compute(operations, network.state_dict(), images), logits)


def change(state: dict[str, Tensor], how: str) -> Any:
    name = next(part for part, value in state.items() if value.dim() == 4)
    if how == "missing":
        del state[name]
    if how == "unknown":
        state["x" * 300] = torch.zeros(2)
    if how == "shape":
        state[name] = state[name][:1].clone()
    if how == "not finite":
        state[name][0] = torch.nan
    if how == "whole numbers":
        state[name] = state[name].long()
    return {"epoch": 3} if how == "no weights" else state


@pytest.mark.parametrize(
    ("how", "part"),
    [
        ("missing", "has no 'conv_stem.weight'"),
        ("unknown", "has an unknown 'xxx"),
        ("shape", "is needed"),
        ("not finite", "are not finite"),
        ("whole numbers", "torch.int64"),
        ("no weights", "holds no weights by name"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(how: str, part: str, tmp_path: Path) -> None:
    path = save(change(whole("timm", SMALL), how), tmp_path / "w.pth")
    with pytest.raises(InputError) as caught:
        make("timm", name=SMALL, pretrained=path)
    one_line(caught, part, path)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_file_that_is_none_is_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"w.{ending}"
    with pytest.raises(InputError) as caught:
        make("torchvision", name=THEIRS, weights=str(path))
    one_line(caught, "network.torchvision.weights: there is no file")
    for body in (b"", b"\x80\x04nothing", b"\xff" * 64):
        path.write_bytes(body)
        with pytest.raises(InputError) as caught:
            make("torchvision", name=THEIRS, weights=str(path))
        one_line(caught, str(path))


def test_wrapped_weights_and_old_names_are_read(tmp_path: Path) -> None:
    state = {f"module.{part}": value for part, value in whole("timm", SMALL).items()}
    path = save({"state_dict": state, "epoch": 9}, tmp_path / "w.pth")
    assert "conv_stem.weight" in read_state(Path(path))
    old = "features.denseblock1.denselayer2.norm.1.weight"
    assert modern(old) == "features.denseblock1.denselayer2.norm1.weight"
    assert modern("encoder.layers.encoder_layer_0.mlp.linear_2.bias").endswith("mlp.3.bias")


def test_without_a_network_it_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: Any, **__: Any) -> Any:
        raise OSError("Name or service not known")

    def unasked(*_: Any, **__: Any) -> Any:
        raise AssertionError("the library would ask for half a minute")

    monkeypatch.delenv(learnt.SWITCH)
    monkeypatch.setattr(learnt, "urlopen", nobody)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", unasked)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", nobody)
    with pytest.raises(InputError) as caught:
        make("timm", name=SMALL, pretrained=True)
    one_line(caught, "network.timm.pretrained: https://", "could not be", "in place of true")
    with pytest.raises(InputError) as caught:
        make("torchvision", name=THEIRS, weights="DEFAULT")
    one_line(caught, "network.torchvision.weights: https://", "Name or", "in place of DEFAULT")


@pytest.mark.parametrize("error", BROKEN, ids=lambda error: type(error).__name__)
def test_a_download_that_breaks_is_said_in_one_line(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries raise errors of their own; and the second choice is still asked."""

    def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.delenv(learnt.SWITCH)
    monkeypatch.setattr(learnt, "urlopen", lambda *_, **__: nullcontext())
    monkeypatch.setattr("huggingface_hub.hf_hub_download", broken)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", broken)
    for library, key in (("timm", {"pretrained": True}), ("torchvision", {"weights": "DEFAULT"})):
        with pytest.raises(InputError) as caught:
            make(library, name={"timm": SMALL, "torchvision": THEIRS}[library], **key)
        one_line(caught, f"network.{library}.", "could not be downloaded", "in place of")
    assert not (tmp_path / "hub").exists()
    assert find_backbone(gpu=False).section is None
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    address = models.get_model_weights("resnet18")["DEFAULT"].url
    (tmp_path / "hub" / "checkpoints" / address.rpartition("/")[2]).write_bytes(b"")
    section = find_backbone(gpu=False).section
    assert section is not None and list(section) == ["torchvision"]


def test_what_is_downloaded_already_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(whole("timm", SMALL), tmp_path / "w.safetensors")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: path)
    assert isinstance(make("timm", name=SMALL, pretrained=True).backbone, Rescaled)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    address = models.get_model_weights(THEIRS)["DEFAULT"].url
    save(whole("torchvision", THEIRS), tmp_path / "checkpoints" / address.rpartition("/")[2])
    network = make("torchvision", name=THEIRS, weights="DEFAULT")
    assert isinstance(network.backbone, Rescaled)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("resnet19", ["network.timm.name", "timm has no network 'resnet19'", "did you mean"]),
        (f"{SMALL}.nothing", ["timm has no network"]),
    ],
)
def test_unknown_names(name: str, parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_config(DIGITS, [f"network={{timm: {{name: {name}}}}}"])
    one_line(caught, *parts)


def test_without_timm_it_is_said_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.from_timm.importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError) as caught:
        load_config(DIGITS, [f"network={{timm: {{name: {SMALL}}}}}"])
    one_line(caught, "timm is not installed", "pip install 'timm>=1.0'")


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_transformers_of_timm_train(name: str) -> None:
    network = make("timm", name=name).train()
    logits = network(torch.randn(2, 3, 160, 160))
    nn.functional.cross_entropy(logits, torch.tensor([1, 2])).backward()
    assert logits.shape == (2, 7)
    names = [part for part, _ in network.named_parameters()]
    for layer in network.meta_layers:
        assert any(part.startswith(f"{layer}.") for part in names), layer
