"""torch's constructors, while a program runs that is to become a supernet.

They understand elastic values: a layer that is built with one becomes parti's elastic layer. So
any program can be shared that builds torch's layers, its own modules included.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from inspect import signature
from threading import RLock
from traceback import walk_stack, walk_tb
from types import FrameType
from typing import Any, cast

from torch import nn

from parti.core.elastic import USABLE, Elastic, place
from parti.core.errors import SpaceError
from parti.supernets.cutting import Layer, is_open
from parti.supernets.layers import ELASTIC

__all__ = ["check_layers", "elastic_layers", "explained"]

Adjust = Callable[[nn.Module, dict[str, Any]], None]

_ONE_AT_A_TIME = RLock()


@contextmanager
def elastic_layers(adjust: Adjust | None = None) -> Iterator[None]:
    """Let torch's layers take elastic values, while a program runs.

    Constructors are what they were afterwards, whatever happens. Other threads may build networks
    meanwhile; one that wants elastic layers too waits.

    Args:
        adjust: may change the arguments that any layer of `ELASTIC` is built with, given the
            layer and its arguments by name.
    """
    with _ONE_AT_A_TIME, ExitStack() as stack:
        for plain in ELASTIC:
            owner = next(kind for kind in plain.__mro__ if "__init__" in vars(kind))
            if not getattr(vars(owner)["__init__"], "elastic", False):
                stack.enter_context(_understanding(owner, adjust))
        yield


@contextmanager
def _understanding(owner: type, adjust: Adjust | None) -> Iterator[None]:
    original = vars(owner)["__init__"]
    parameters = signature(original)

    def init(self: nn.Module, *arguments: Any, **keywords: Any) -> None:
        plain = type(self)
        bound = parameters.bind(self, *arguments, **keywords)
        bound.apply_defaults()
        given = dict(bound.arguments)
        given.pop(next(iter(given)))
        given.update(given.pop("kwargs", {}))
        if adjust is not None and plain in ELASTIC:
            adjust(self, given)
        if not any(map(is_open, given.values())):
            original(self, **given)
            return
        if plain not in ELASTIC:
            raise SpaceError(
                f"{plain.__name__}{place(walk_stack(sys._getframe(1)))} is built with an elastic "
                f"value, but only torch's own {', '.join(kind.__name__ for kind in ELASTIC)} can "
                "be cut, not classes derived from them; use one of these, or ask with one_of"
            )
        kind = ELASTIC[plain]
        try:
            largest = kind.built(given)
        except SpaceError as error:
            raise SpaceError(
                f"{error} ({plain.__name__}{place(walk_stack(sys._getframe(1)))})"
            ) from error
        self.__class__ = cast(type[nn.Module], kind)
        original(self, **largest)
        cast(Layer, self).elastic = given

    init.elastic = True  # type: ignore[attr-defined]
    owner.__init__ = init  # type: ignore[misc]
    try:
        yield
    finally:
        owner.__init__ = original  # type: ignore[misc]


@contextmanager
def explained() -> Iterator[None]:
    """Say what to do where a program's line fails because a value is elastic.

    Raises:
        SpaceError: in place of the error that torch or Python gives.
    """
    try:
        yield
    except (TypeError, AttributeError) as error:
        if Elastic.__name__ not in str(error):
            raise
        frames = list(walk_tb(error.__traceback__))[::-1]
        raise SpaceError(
            f"{_elastic_values(frames)} cannot be used{place(frames)}, for in a supernet it is "
            f"several values at once ({error}); {USABLE}"
        ) from error


def check_layers(network: nn.Module) -> None:
    """Look for what would go wrong only when the network runs, and prevent what can be.

    Raises:
        SpaceError: a layer of torch's that cannot use it keeps an elastic value.
    """
    for name, module in network.named_modules():
        if type(module).__module__.startswith("torch."):
            for attribute, value in vars(module).items():
                if is_open(value):
                    raise SpaceError(
                        f"{type(module).__name__}({attribute}={value!r}), which is {name!r} in the "
                        f"network, cannot use an elastic value; {USABLE}"
                    )
        # Their fused kernels read all of a layer's weights, past the layer.
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
        elif isinstance(module, nn.TransformerEncoderLayer):
            module.register_forward_pre_hook(_layer_by_layer)


def _layer_by_layer(*_: Any) -> None:
    """Whoever has a hook is not fused."""


def _elastic_values(frames: list[tuple[FrameType, int]]) -> str:
    for frame, _ in frames:
        found = [value for value in frame.f_locals.values() if isinstance(value, Elastic)]
        if found:
            return ", ".join(dict.fromkeys(map(repr, found)))
    return "an elastic value"
