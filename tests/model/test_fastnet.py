"""The fast network: sizes, whitening, export, and that its whitening is no parameter."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from model import NETWORKS, Network, build_network
from model.fastnet import FastNet, Whitening
from model.operations import NotDescribable, compute, list_operations
from tests.conftest import colourful_images

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.25])


def make(width: int, state: int = 0) -> Network:
    network = NETWORKS.get("fastnet")
    return build_network(network, network.Settings.model_validate({"width": width}), 10, state)


def smooth_images(count: int = 200) -> Tensor:
    """Images in which neighbours are alike, as in real ones."""
    images = colourful_images(count, 16).float().permute(0, 3, 1, 2)
    smooth = nn.functional.avg_pool2d(images, 3, stride=1, padding=1)
    return smooth.permute(0, 2, 3, 1).byte()


def multiply_adds(network: Network, size: int) -> int:
    """Return the multiply-adds of the convolutions on an image."""
    total = [0]

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        total[0] += layer.weight.numel() * output.shape[2] * output.shape[3]

    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(count)
    network.eval()(torch.zeros(1, 3, size, size))
    return total[0]


@pytest.mark.parametrize(("width", "millions"), [(16, 10), (32, 33), (48, 69), (64, 118)])
def test_arithmetic_is_as_documented(width: int, millions: int) -> None:
    assert round(multiply_adds(make(width), 32) / 1e6) == millions


def test_whitened_patches_are_independent() -> None:
    network, images = make(4), smooth_images()
    network.fit_input(images, MEAN, STD)
    views = ((images.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    whitening = network.backbone.whitening
    assert isinstance(whitening, Whitening)
    with torch.no_grad():
        out = whitening(views).transpose(0, 1).flatten(1).double()  # (24, n)
    assert torch.allclose(out[:12], -out[12:])
    second_moments = out[:12] @ out[:12].t() / out.shape[1]
    off = second_moments - second_moments.diag().diag()
    assert off.abs().max() < 1e-2
    assert 0.9 < float(second_moments.diag().max()) <= 1.001


def test_whitening_is_a_function_of_the_images_kept_with_the_model() -> None:
    first, second = make(4, state=1), make(4, state=2)
    for network in (first, second):
        network.fit_input(smooth_images(), MEAN, STD)
    key = "backbone.whitening.weight"
    assert torch.equal(first.state_dict()[key], second.state_dict()[key])
    assert key not in dict(first.named_parameters())
    assert "backbone.whitening.bias" in dict(first.named_parameters())
    first.fit_input(smooth_images() // 2, MEAN, STD)
    assert not torch.equal(first.state_dict()[key], second.state_dict()[key])


def test_first_filters_hand_their_channel_on() -> None:
    weight = make(8).backbone.group2.conv1.weight  # type: ignore[union-attr]
    assert isinstance(weight, Tensor)
    expected = torch.zeros(8, 8, 3, 3)
    expected[range(8), range(8), 1, 1] = 1
    assert torch.equal(weight[:8].detach(), expected)
    assert weight[8:].abs().min() > 0


@pytest.mark.parametrize("size", [9, 16, 33, 48])
def test_export_computes_the_same(size: int) -> None:
    network = make(4).eval()
    assert isinstance(network, FastNet)
    operations = list_operations(network, size, size)
    assert json.loads(json.dumps(operations)) == operations
    images = torch.randn(5, 3, size, size)
    torch.testing.assert_close(
        compute(operations, network.state_dict(), images), network(images), rtol=1e-4, atol=1e-5
    )


class Keywords(nn.Module):
    """Uses what can be said by keyword only: a text, a number, a truth value, a type."""

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.gelu(x, approximate="tanh")
        x = torch.add(x, x, alpha=3)
        spread = torch.std(x, dim=(2, 3), correction=0)
        total = torch.sum(x, dim=(2, 3), dtype=torch.float64).float()
        return spread + total + torch.div(total, 2.0, rounding_mode="floor")


class Together(nn.Module):
    """Takes a tensor by keyword, for which a row has no place."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return torch.nn.functional.scaled_dot_product_attention(
            flat[None], flat[None], flat[None], attn_mask=None, scale=0.5
        )[0]


def test_keyword_arguments_are_exported() -> None:
    module = Keywords().eval()
    operations = list_operations(module, 8, 8)
    assert json.loads(json.dumps(operations)) == operations
    assert any(row[1] == "gelu" and row[3] == {"approximate": "tanh"} for row in operations)
    images = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(compute(operations, {}, images), module(images))


def test_scale_of_attention_is_exported_too() -> None:
    operations = list_operations(Together().eval(), 4, 4)
    assert any(len(row) == 4 and row[3].get("scale") == 0.5 for row in operations)


class FromAList(nn.Module):
    """Needs a constant tensor of several numbers, which no row can make."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3)) * torch.tensor([1.0, 2.0, 3.0])


def test_what_has_no_word_is_refused() -> None:
    with pytest.raises(NotDescribable):
        list_operations(FromAList().eval(), 8, 8)
