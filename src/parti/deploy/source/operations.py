"""Operations outside torch's modules, as expressions of Python."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node

from parti.deploy.check import ExportError

__all__ = ["expression", "literal"]

Named = Callable[[Node], str]
"""The source text that stands for a value."""

_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_NUMBERS: dict[Any, str] = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.floordiv: "//",
    operator.mod: "%",
}
_FUNCTIONS = {
    "F": (
        "relu relu6 hardswish hardsigmoid silu elu selu leaky_relu gelu softplus linear conv1d "
        "conv2d conv3d max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d pad "
        "scaled_dot_product_attention pixel_shuffle"
    ),
    "torch": (
        "sigmoid tanh exp cat stack mean sum flatten unsqueeze squeeze transpose permute reshape "
        "matmul bmm softmax chunk split batch_norm group_norm zeros_like narrow "
        "unflatten channel_shuffle"
    ),
}
_PLACES = {name: place for place, names in _FUNCTIONS.items() for name in names.split()}
"""Where a function of PyTorch has the name and the arguments of the operation."""


def expression(node: Node, named: Named) -> str:
    """Write an operation as Python.

    Args:
        node: of the traced graph.
        named: names its inputs.

    Raises:
        ExportError: it is not an operation on tensors or sizes.
    """
    target = node.target
    if target in _NUMBERS:
        left, right = (literal(value, named) for value in node.args)
        return f"({left} {_NUMBERS[target]} {right})"
    if target is operator.getitem:
        return f"{literal(node.args[0], named)}[{literal(node.args[1], named)}]"
    if not isinstance(target, torch._ops.OpOverload):
        raise ExportError(
            f"the network computes {target}, which has no form as source. Leave out the format "
            "'pytorch'"
        )
    name = target._opname
    if name == "sym_size":
        return f"{literal(node.args[0], named)}.shape[{node.args[1]}]"
    if name in _SIGNS and len(node.args) == 2 and not node.kwargs:
        left, right = (literal(value, named) for value in node.args)
        return f"{left} {_SIGNS[name]} {right}"
    if name in ("view", "expand"):
        return f"{literal(node.args[0], named)}.{name}({literal(node.args[1], named)})"
    if name == "slice" and isinstance(node.args[1] if len(node.args) > 1 else 0, int):
        return _slice(node, named)
    place = _PLACES.get(name)
    callee = f"{place}.{name}" if place else f"torch.ops.aten.{str(target).partition('.')[2]}"
    given = [literal(value, named) for value in node.args]
    given += [f"{key}={literal(value, named)}" for key, value in node.kwargs.items()]
    return f"{callee}({', '.join(given)})"


def literal(value: Any, named: Named) -> str:
    """Write an argument as Python.

    Args:
        value: of a node's arguments.
        named: names values that are computed.
    """
    if isinstance(value, Node):
        return named(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(literal(item, named) for item in value)}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, torch.device):
        return f'torch.device("{value}")'
    return repr(value)


def _slice(node: Node, named: Named) -> str:
    x, dim, start, end, step = (*node.args, *(None,) * 5)[:5]
    dim = 0 if dim is None else int(dim)  # type: ignore[arg-type]
    if dim < 0:
        dim += node.args[0].meta["val"].dim()  # type: ignore[union-attr]
    first = "" if start in (None, 0) else literal(start, named)
    last = "" if end is None or (isinstance(end, int) and end >= 2**62) else literal(end, named)
    every = "" if step in (None, 1) else f":{literal(step, named)}"
    return f"{literal(x, named)}[{':, ' * dim}{first}:{last}{every}]"
