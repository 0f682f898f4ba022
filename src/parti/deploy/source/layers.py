"""torch's own modules, recognised by the one operation that they compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

__all__ = ["REQUIRED", "Layer", "Slot", "arguments", "layer_of"]

REQUIRED = object()
"""The default of what has none."""


@dataclass(frozen=True, slots=True)
class Slot:
    """An argument of a constructor.

    Args:
        name: as the constructor calls it.
        value: as source text.
        default: as source text, or `REQUIRED`.
    """

    name: str
    value: str
    default: object = REQUIRED


@dataclass(frozen=True, slots=True)
class Layer:
    """A module of torch.

    Args:
        maker: its constructor, for instance "nn.Conv2d".
        slots: its arguments, those without a default first.
    """

    maker: str
    slots: tuple[Slot, ...]


def layer_of(node: Node, path: str, kind: str) -> Layer | None:
    """Return the module of torch that computes an operation.

    Args:
        node: the only operation of a module's call.
        path: of the module, under which its weights are named.
        kind: qualified name of its class.

    Returns:
        None when the operation is not that of one of torch's modules, or its weights are elsewhere.
    """
    if not isinstance(node.target, torch._ops.OpOverload):
        return None
    make = _MAKERS.get(node.target._opname)
    if make is None:
        return None
    given = arguments(node)
    weights = [n.meta["parti_name"] for n in node.all_input_nodes if "parti_name" in n.meta]
    if any(name.rpartition(".")[0] != path for name in weights):
        return None
    if not weights and not kind.startswith("torch.nn.modules."):
        return None
    return make(given)


def arguments(node: Node) -> dict[str, Any]:
    """Arguments of an operation by the names of its schema, defaults included."""
    schema = node.target._schema  # type: ignore[union-attr]
    named = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    named |= {a.name: value for a, value in zip(schema.arguments, node.args, strict=False)}
    return named | dict(node.kwargs)


def _size(value: Any) -> str:
    """A size for each dimension, as one number when they are equal."""
    if isinstance(value, list | tuple):
        return repr(value[0]) if len(set(value)) == 1 else repr(tuple(value))
    return repr(value)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.meta["val"].shape)


def _has(given: Mapping[str, Any], name: str) -> str:
    return repr(given.get(name) is not None)


def _convolution(given: Mapping[str, Any]) -> Layer:
    out, inputs, *kernel = _shape(given["weight"])
    groups = given["groups"]
    padding = given["padding"]
    return Layer(
        f"nn.Conv{len(kernel)}d",
        (
            Slot("in_channels", repr(inputs * groups)),
            Slot("out_channels", repr(out)),
            Slot("kernel_size", _size(kernel)),
            Slot("stride", _size(given["stride"]), "1"),
            Slot("padding", _size(padding), "0"),
            Slot("dilation", _size(given["dilation"]), "1"),
            Slot("groups", repr(groups), "1"),
            Slot("bias", _has(given, "bias"), "True"),
        ),
    )


def _linear(given: Mapping[str, Any]) -> Layer:
    out, inputs = _shape(given["weight"])
    return Layer(
        "nn.Linear",
        (
            Slot("in_features", repr(inputs)),
            Slot("out_features", repr(out)),
            Slot("bias", _has(given, "bias"), "True"),
        ),
    )


def _batch_norm(given: Mapping[str, Any]) -> Layer | None:
    if given["running_mean"] is None:
        return None
    dimensions = max(1, len(_shape(given["input"])) - 2)
    return Layer(
        f"nn.BatchNorm{dimensions}d",
        (
            Slot("num_features", repr(_shape(given["running_mean"])[0])),
            Slot("eps", repr(given["eps"]), "1e-05"),
            Slot("momentum", repr(given["momentum"]), "0.1"),
            Slot("affine", _has(given, "weight"), "True"),
        ),
    )


def _group_norm(given: Mapping[str, Any]) -> Layer:
    return Layer(
        "nn.GroupNorm",
        (
            Slot("num_groups", repr(given["num_groups"])),
            Slot("num_channels", repr(_shape(given["input"])[1])),
            Slot("eps", repr(given["eps"]), "1e-05"),
            Slot("affine", _has(given, "weight"), "True"),
        ),
    )


def _layer_norm(given: Mapping[str, Any]) -> Layer:
    return Layer(
        "nn.LayerNorm",
        (
            Slot("normalized_shape", _size(given["normalized_shape"][:1]))
            if len(given["normalized_shape"]) == 1
            else Slot("normalized_shape", repr(tuple(given["normalized_shape"]))),
            Slot("eps", repr(given["eps"]), "1e-05"),
            Slot("elementwise_affine", _has(given, "weight"), "True"),
            Slot("bias", _has(given, "bias"), "True"),
        ),
    )


def _prelu(given: Mapping[str, Any]) -> Layer:
    return Layer("nn.PReLU", (Slot("num_parameters", repr(_shape(given["weight"])[0]), "1"),))


def _pool(maker: str) -> Callable[[Mapping[str, Any]], Layer]:
    def make(given: Mapping[str, Any]) -> Layer:
        kernel = _size(given["kernel_size"])
        slots = [
            Slot("kernel_size", kernel),
            Slot("stride", _size(given["stride"]) if given["stride"] else kernel),
            Slot("padding", _size(given["padding"]), "0"),
        ]
        if "dilation" in given:
            slots.append(Slot("dilation", _size(given["dilation"]), "1"))
        slots.append(Slot("ceil_mode", repr(given["ceil_mode"]), "False"))
        if "count_include_pad" in given:
            slots.append(Slot("count_include_pad", repr(given["count_include_pad"]), "True"))
        return Layer(maker, tuple(slots))

    return make


def _adaptive(maker: str) -> Callable[[Mapping[str, Any]], Layer]:
    return lambda given: Layer(maker, (Slot("output_size", _size(given["output_size"])),))


def _plain(maker: str, **defaults: tuple[str, str]) -> Callable[[Mapping[str, Any]], Layer]:
    """A module whose arguments are those of the operation: name=(schema's name, default)."""

    def make(given: Mapping[str, Any]) -> Layer:
        slots = (
            Slot(name, repr(given[theirs]), default) for name, (theirs, default) in defaults.items()
        )
        return Layer(maker, tuple(slots))

    return make


def _hardtanh(given: Mapping[str, Any]) -> Layer:
    low, high = given["min_val"], given["max_val"]
    if (low, high) == (0, 6):
        return Layer("nn.ReLU6", ())
    return Layer("nn.Hardtanh", (Slot("min_val", repr(low)), Slot("max_val", repr(high))))


def _in_place(layer: Callable[[Mapping[str, Any]], Layer | None]) -> Callable[..., Layer | None]:
    """The module that also writes over its input, which other operations may see."""

    def make(given: Mapping[str, Any]) -> Layer | None:
        made = layer(given)
        return made and Layer(made.maker, (*made.slots, Slot("inplace", "True", "False")))

    return make


_ACTIVATIONS: dict[str, Callable[[Mapping[str, Any]], Layer | None]] = {
    "relu": _plain("nn.ReLU"),
    "relu6": _plain("nn.ReLU6"),
    "hardtanh": _hardtanh,
    "hardswish": _plain("nn.Hardswish"),
    "hardsigmoid": _plain("nn.Hardsigmoid"),
    "silu": _plain("nn.SiLU"),
    "selu": _plain("nn.SELU"),
    "elu": _plain("nn.ELU", alpha=("alpha", "1.0")),
    "leaky_relu": _plain("nn.LeakyReLU", negative_slope=("negative_slope", "0.01")),
}

_MAKERS: dict[str, Callable[[Mapping[str, Any]], Layer | None]] = {
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "prelu": _prelu,
    "max_pool2d": _pool("nn.MaxPool2d"),
    "avg_pool2d": _pool("nn.AvgPool2d"),
    "adaptive_avg_pool2d": _adaptive("nn.AdaptiveAvgPool2d"),
    "adaptive_max_pool2d": _adaptive("nn.AdaptiveMaxPool2d"),
    "flatten": _plain("nn.Flatten", start_dim=("start_dim", "1"), end_dim=("end_dim", "-1")),
    "dropout": _plain("nn.Dropout", p=("p", "0.5")),
    "sigmoid": _plain("nn.Sigmoid"),
    "tanh": _plain("nn.Tanh"),
    "softplus": _plain("nn.Softplus", beta=("beta", "1"), threshold=("threshold", "20")),
    "gelu": _plain("nn.GELU", approximate=("approximate", "'none'")),
    **_ACTIVATIONS,
    **{f"{name}_": _in_place(make) for name, make in _ACTIVATIONS.items()},
}
