"""A network as a list of PyTorch's own operations: plain data, with which anybody can run it.

Whoever has the weights still needs the network. Its code is this project's, and an exported program
of PyTorch is read by unpickling. A list of names and numbers is read by anything: each row is a
function of `torch.ops.aten` on tensors at hand. The README shows the few lines. This project writes
such lists and computes with its own only; it never follows one that it has read.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

IMAGES, LOGITS = "images", "logits"  # names of the network's input and output
PROBE_BATCH = 3  # samples on which a list is tried; another number than it is traced with
TOLERANCE = 1e-3  # of logits, relative to the largest; both ways compute in fp32

Operation = list[Any]  # name of the result, name of the function, arguments

# Whole numbers, such as the batch size times the number of heads, are computed with these.
OF_NUMBERS: dict[Callable[..., Any], str] = {
    operator.add: "add",
    operator.sub: "sub",
    operator.mul: "mul",
    operator.floordiv: "floordiv",
}
# Keyword arguments that say where and how a tensor lies in memory, not what is in it.
WITHOUT_EFFECT = ("memory_format", "layout", "device", "pin_memory")
# As PyTorch numbers them wherever plain data stand for a type.
NUMBERS_OF_TYPES: dict[torch.dtype, int] = {
    torch.uint8: 0,
    torch.int32: 3,
    torch.int64: 4,
    torch.float16: 5,
    torch.float32: 6,
    torch.float64: 7,
    torch.bool: 11,
    torch.bfloat16: 15,
}
CUTS = ("chunk", "split", "split_with_sizes")  # give several tensors; the dimension is argument 2


class NotDescribable(Exception):
    """The network does something for which a list of operations has no word."""


def list_operations(network: nn.Module, height: int, width: int) -> list[Operation]:
    """Return what `network` computes in evaluation, for any number of images.

    Args:
        network: on the CPU, in eval mode; maps (N, 3, height, width) float32 to (N, K).
        height: of the images, in pixels.
        width: of the images, in pixels.

    Returns:
        rows of a result's name, a function of `torch.ops.aten`, its arguments, and, where there
        are any, a mapping of its keyword arguments. A text among the arguments is the name of a
        tensor: of an earlier result, of the state dict, or `images`; among the keyword arguments
        a text stands for itself. The result of the last row is called `logits`.

    Raises:
        NotDescribable: PyTorch cannot trace it, or the list would not compute the same.
    """
    images = torch.zeros(2, 3, height, width)
    batch = torch.export.Dim("batch")
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, about its own parts
            shapes = ({0: batch},)
            program = torch.export.export(network, (images,), dynamic_shapes=shapes, strict=False)
        operations = Writer(program).rows()
        check_same(operations, network, height, width)
    except NotDescribable:
        raise
    except Exception as error:  # tracing raises nearly everything
        raise NotDescribable(str(error).partition("\n")[0] or type(error).__name__) from error
    return operations


class Writer:
    """Writes a traced network down as rows.

    Args:
        program: traced by `torch.export`, without decomposition.
    """

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self.nodes = list(program.graph.nodes)
        signature = program.graph_signature
        self.names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.constants = {
            name: program.constants[key]
            for name, key in signature.inputs_to_lifted_tensor_constants.items()
        }
        self.names |= dict.fromkeys(signature.user_inputs, IMAGES)
        self.names |= dict.fromkeys(signature.user_outputs, LOGITS)

    def rows(self) -> list[Operation]:
        """Return the operations in their order."""
        rows = []
        for node in self.nodes:
            if node.op == "placeholder" and node.name not in self.names:
                rows.append([node.name, *self._constant(node.name)])
            if node.op == "call_function" and not is_cut(node):
                rows.append([self._argument(node), *self._call(node)])
        return rows

    def _constant(self, name: str) -> tuple[str, list[Any]]:
        """Return the call that makes a number that some PyTorch releases trace as a tensor."""
        constant = self.constants.get(name)
        if not isinstance(constant, Tensor) or constant.numel() != 1:
            raise NotDescribable(f"the constant {name}")
        return "full", [list(constant.shape), constant.item()]

    def _call(self, node: fx.Node) -> tuple[Any, ...]:
        """Return function, arguments and, where there are any, keyword arguments."""
        if node.target is operator.getitem:
            return self._piece(*node.args)
        target: Any = node.target
        name = OF_NUMBERS.get(target) or name_in_aten(target)
        keywords = {
            key: self._keyword(key, value)
            for key, value in node.kwargs.items()
            if value is not None and key not in WITHOUT_EFFECT
        }
        arguments = self._argument(node.args)
        return (name, arguments, keywords) if keywords else (name, arguments)

    def _keyword(self, key: str, value: Any) -> Any:
        """Return a keyword argument as plain data; a tensor has no place among them."""
        if isinstance(value, fx.Node):
            raise NotDescribable(f"the tensor {value.name} as keyword argument {key}")
        return self._argument(value)

    def _piece(self, cut: Any, number: Any) -> tuple[str, list[Any]]:
        """Return one of the tensors that a cut gives, as a slice of what is cut."""
        if not is_cut(cut):
            raise NotDescribable(f"one of several results of {cut.target}")
        dimension = cut.args[2] if len(cut.args) > 2 else 0
        sizes = [piece.shape[dimension] for piece in cut.meta["val"]]
        start = int(sum(sizes[:number]))
        stop = start + int(sizes[number])
        return "slice", [self._argument(cut.args[0]), dimension, start, stop]

    def _argument(self, value: Any) -> Any:
        """Return an argument as plain data."""
        if isinstance(value, fx.Node):
            return self.names.get(value.name, value.name)
        if isinstance(value, (list, tuple)):
            return [self._argument(part) for part in value]
        if isinstance(value, torch.dtype) and value in NUMBERS_OF_TYPES:
            return NUMBERS_OF_TYPES[value]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise NotDescribable(f"an argument of the kind {type(value).__name__}")


def is_cut(node: fx.Node) -> bool:
    """Return whether a node cuts a tensor into several along a dimension."""
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and target.__name__.split(".")[0] in CUTS


def name_in_aten(target: Any) -> str:
    """Return the name of a function of `torch.ops.aten`."""
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        raise NotDescribable(f"{target}")
    return str(target.__name__).split(".")[0]


@torch.no_grad()
def compute(
    operations: Sequence[Operation], weights: Mapping[str, Tensor], images: Tensor
) -> Tensor:
    """Return the logits (N, K) of normalised images (N, 3, H, W): what the README's lines do."""
    known: dict[Any, Any] = {**weights, IMAGES: images}

    def find(given: Any) -> Any:
        return (
            [find(part) for part in given] if isinstance(given, list) else known.get(given, given)
        )

    for name, function, arguments, *rest in operations:
        keywords = rest[0] if rest else {}
        known[name] = getattr(torch.ops.aten, function)(*find(arguments), **keywords)
    logits: Tensor = known[LOGITS]
    return logits


@torch.no_grad()
def check_same(
    operations: Sequence[Operation], network: nn.Module, height: int, width: int
) -> None:
    """Raise `NotDescribable` unless the list gives the logits of `network`."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(PROBE_BATCH, 3, height, width, generator=generator)
    expected = network(images)
    found = compute(operations, network.state_dict(), images)
    if not torch.allclose(found, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max())):
        raise NotDescribable("the list of operations gives other logits")
