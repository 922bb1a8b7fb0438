"""Networks: sizes as published, the same at every start, and all that training asks of them."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import ASD
from config.load import load_config
from defense.virtual import check_layers, train_only
from model import NETWORKS, Network, build_network, check_size
from model.from_torchvision import (
    Torchvision,
    remove_classifier,
    shape_only,
    why_unfit,
)
from model.imported import last_stages
from model.synchronised import synchronise
from tests.conftest import DIGITS
from utils.errors import InputError

SMALL = {
    "resnet18_cifar": {"width": 4},
    "preactresnet18": {"width": 4},
    "densenet121": {"growth": 4},
    "vgg19_bn": {"width": 4},
    "fastnet": {"width": 4},
}
CIFAR = list(SMALL.items())
THEIRS = [("torchvision", {"name": name}) for name in ("resnet18", "mobilenet_v3_small")]


def make(name: str, given: dict[str, object], num_classes: int = 10, state: int = 0) -> Network:
    network = NETWORKS.get(name)
    return build_network(network, network.Settings.model_validate(given), num_classes, state)


def make_empty(name: str, given: dict[str, object], num_classes: int) -> Network:
    """Build without memory or time for the weights."""
    with torch.device("meta"):
        return make(name, given, num_classes)


def images(count: int, size: int) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def weights(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def is_identity(weight: Tensor) -> bool:
    """Return whether all filters hand their channel on, as some networks begin."""
    return weight.dim() == 4 and torch.equal(weight, nn.init.dirac_(weight.clone()))


def with_statistics(network: Network, batch: Tensor) -> Network:
    """Return the network in eval mode, its BatchNorm as on `batch`: untrained deep ones give 0."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        network.train()(batch)
    return network.eval()


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize(("name", "given"), CIFAR)
def test_logits_at_both_sizes(name: str, given: dict[str, object], size: int) -> None:
    network = make(name, given, num_classes=7).eval()
    logits = network(images(2, size))
    assert logits.shape == (2, 7)
    assert network.backbone(images(2, size)).shape == (2, network.linear.in_features)
    assert bool(logits.isfinite().all())
    # An image's logits do not depend on its neighbours.
    alone = network(images(2, size)[1:])
    torch.testing.assert_close(alone, logits[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize(("name", "given"), THEIRS)
def test_logits_of_torchvision_networks(name: str, given: dict[str, object], size: int) -> None:
    assert make(name, given, num_classes=7).eval()(images(2, size)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "given", "num_classes", "published"),
    [
        # He et al. 2016b: 11,171,146 without the last BatchNorm, which has 2 * 512.
        ("preactresnet18", {}, 10, 11_171_146 + 1_024),
        ("densenet121", {}, 10, 6_956_298),
        ("vgg19_bn", {}, 10, 20_035_392 + 512 * 10 + 10),
        ("resnet18_cifar", {}, 10, 11_173_962),
        # As torchvision documents them.
        ("torchvision", {"name": "resnet18"}, 1000, 11_689_512),
        ("torchvision", {"name": "densenet121"}, 1000, 7_978_856),
        ("torchvision", {"name": "mobilenet_v3_small"}, 1000, 2_542_856),
        ("torchvision", {"name": "vit_b_16"}, 1000, 86_567_656),
    ],
)
def test_as_many_weights_as_published(
    name: str, given: dict[str, object], num_classes: int, published: int
) -> None:
    assert weights(make_empty(name, given, num_classes)) == published


@pytest.mark.parametrize(("name", "given"), [*CIFAR, *THEIRS])
def test_the_same_state_gives_the_same_weights(name: str, given: dict[str, object]) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = make(name, given, state=5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = make(name, given, state=5).state_dict(), make(name, given, state=6).state_dict()
    assert all(key.startswith(("backbone.", "linear.")) for key in first)
    for key, value in first.items():
        assert torch.equal(value, again[key]), key
        if value.dim() > 1 and not is_identity(value):
            assert not torch.equal(value, other[key]), key


@pytest.mark.parametrize(("name", "given"), [*CIFAR, *THEIRS])
def test_the_virtual_model_trains_its_layers_and_no_others(
    name: str, given: dict[str, object]
) -> None:
    network = make(name, given).train()
    check_layers(network, network.meta_layers)
    trained = train_only(network, network.meta_layers)
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.SGD(trained, lr=0.1)
    loss = nn.functional.cross_entropy(network(images(4, 32)), torch.arange(4))
    loss.backward()
    optimizer.step()
    layers = tuple(f"{layer}." for layer in network.meta_layers)
    names = [key for key, _ in network.named_parameters()]
    # From the first trained layer on, everything is trained: these are the last stages.
    chosen = [key.startswith(layers) for key in names]
    assert chosen == sorted(chosen)
    assert 0 < len(trained) < len(names)
    after = dict(network.named_parameters())
    for key in names:
        assert torch.equal(before[key], after[key]) != key.startswith(layers), key


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ["layer3", "layer4"]),
        (
            "densenet121",
            [f"features.{part}" for part in ("denseblock3", "transition3", "denseblock4", "norm5")],
        ),
        ("mobilenet_v3_small", ["features.11", "features.12", "classifier"]),
        (
            "vit_b_16",
            [f"encoder.layers.encoder_layer_{i}" for i in (10, 11)] + ["encoder.ln"],
        ),
        ("shufflenet_v2_x0_5", ["stage3", "stage4", "conv5"]),
        ("regnet_y_400mf", ["trunk_output.block3", "trunk_output.block4"]),
    ],
)
def test_last_two_stages_of_torchvision_networks(name: str, layers: list[str]) -> None:
    backbone = shape_only(name)
    remove_classifier(backbone)
    network = Torchvision(backbone, 1, 10)
    assert list(network.meta_layers) == [*(f"backbone.{layer}" for layer in layers), "linear"]
    check_layers(network, network.meta_layers)


@pytest.mark.parametrize(("name", "given"), [*CIFAR, *THEIRS])
def test_logits_of_mixed_precision_are_fp32(name: str, given: dict[str, object]) -> None:
    network = with_statistics(make(name, given), images(8, 32))
    with torch.no_grad():
        exact = network(images(8, 32))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(images(8, 32))
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
    assert not torch.equal(logits, exact)
    assert torch.cosine_similarity(logits.flatten(), exact.flatten(), dim=0) > 0.98


class EndsInFp32(nn.Module):
    """A backbone whose last part leaves bf16, as LayerNorm does on a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3)).float()


def test_logits_are_fp32_even_if_the_features_were_it_already() -> None:
    network = Network(EndsInFp32(), 3, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(images(4, 32))
    assert torch.equal(logits, network(images(4, 32)))


def test_dropout_is_replayed_and_draws_from_no_global_generator() -> None:
    network = make(*THEIRS[1]).train()
    batch = images(4, 32)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = network(batch)
    assert torch.equal(torch.get_rng_state(), before)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    second = network(batch)
    assert not torch.equal(first, second)  # BatchNorm uses the batch; what differs is dropped
    torch.manual_seed(4)
    resumed = make(*THEIRS[1]).train()
    assert torch.equal(resumed(batch), first)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(resumed(batch), second)


def test_networks_without_dropout_keep_torchvisions_names() -> None:
    from torchvision import models

    theirs = [key for key in models.resnet18(weights=None).state_dict() if key[:3] != "fc."]
    ours = make(*THEIRS[0]).backbone.state_dict()
    assert list(ours) == theirs


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("resnet19", ["network.torchvision.name", "no network 'resnet19'", "did you mean 'resnet"]),
        ("squeezenet1_0", ["network.torchvision.name", "squeezenet1_0 does not fit", "not linear"]),
        ("googlenet", ["googlenet does not fit", "more than one output", "e.g. "]),
        ("inception_v3", ["inception_v3 does not fit", "224x224"]),
        ("raft_large", ["no network 'raft_large'"]),
    ],
)
def test_names_that_do_not_fit_are_refused_in_one_line(name: str, parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_config(DIGITS, [f"network={{torchvision: {{name: {name}}}}}"])
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    if "e.g. " in message:
        assert why_unfit(message.rpartition("e.g. ")[2]) is None


def test_the_name_is_obligatory() -> None:
    with pytest.raises(InputError, match=r"network\.torchvision\.name: is missing"):
        load_config(DIGITS, ["network={torchvision: null}"])


def test_a_network_that_takes_no_such_images_is_named() -> None:
    network = make("densenet121", {"growth": 1}).train()
    check_size(network, "network.densenet121", 8, 8)
    with pytest.raises(InputError, match=r"network\.densenet121: takes no 4x4 images") as caught:
        check_size(network, "network.densenet121", 4, 4)
    assert "\n" not in str(caught.value)
    assert network.training


def test_removing_the_classifier_leaves_a_model_without_one_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    assert remove_classifier(model) is None
    assert isinstance(model[0], nn.Linear)
    assert last_stages(model) == ("0",)


@pytest.mark.parametrize(
    "network", ["{preactresnet18: {width: 4}}", "{torchvision: {name: mobilenet_v3_small}}"]
)
def test_a_meta_split_epoch_by_command_line(network: str, tmp_path: Path) -> None:
    given = ["data.train_samples=100", "semi.mixmatch.train_iteration=2", "meta.layers=null"]
    given += ["semi.loader.batch_size=8", "num_epochs=1", "global.epoch_first=0"]
    given += ["global.epoch_second=0", "global.epoch_third=1", "global.seed_num=2"]
    given += [f"network={network}", f"storage_dir={tmp_path}", "transform.pre.resize.size=32"]
    given += ["transform.train.primary.random_crop.size=32", "backdoor.badnets.trigger_path=null"]
    assert ASD.main(["--config", str(DIGITS), "--gpu", "cpu", *given]) == 0
    assert "meta-split" in (tmp_path / "digits" / "log.csv").read_text()


class WithActivation(nn.BatchNorm2d):
    """As timm has it: what is done after the normalisation is part of the layer."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_norm_that_does_more_is_refused_not_replaced(device: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(WithActivation(4)))
    with pytest.raises(InputError, match=r"sync_bn: 1\.0 of the network is a WithActivation"):
        synchronise(network, torch.device(device))
    assert type(network[1][0]) is WithActivation
