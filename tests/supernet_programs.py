"""Random space programs, of everything that a supernet shares."""

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from parti import (
    choose,
    computed,
    one_of,
    repeat,
    scope,
    select,
    some_of,
    space,
)
from parti.networks.blocks import DenseLayer, Residual, SqueezeExcitation
from parti.networks.operations import conv_norm_act

Spec = tuple[Any, ...]
SIZE = 5


class Pixels(nn.Module):
    """Apply what maps sequences to the pixels of images."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


class OwnHeads(nn.Module):
    """A user's own module, which keeps chosen numbers and calculates with them when it runs."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        split = self.query(x).unflatten(2, (self.heads, -1))
        return split.softmax(-1).flatten(2) * (2 * self.heads) ** 0.5


def conv(width: int, name: str) -> nn.Module:
    hidden = choose(f"{name}hidden", [4, 6])
    kernel = choose(f"{name}kernel", [1, 3, 5])
    return nn.Sequential(
        nn.Conv2d(width, hidden, kernel, padding=kernel // 2), nn.Conv2d(hidden, width, 1)
    )


def dilated(width: int, name: str) -> nn.Module:
    far = choose(f"{name}dilation", [1, 2])
    return nn.Conv2d(width, width, 3, padding=far, dilation=far, padding_mode="reflect")


def transposed(width: int, name: str) -> nn.Module:
    hidden = choose(f"{name}hidden", [2, 4])
    kernel = choose(f"{name}kernel", [1, 3])
    return nn.Sequential(
        nn.ConvTranspose2d(width, hidden, kernel, padding=kernel // 2, groups=2),
        nn.Conv2d(hidden, width, 1, bias=choose(f"{name}bias", [False, True])),
    )


def dense(width: int, name: str) -> nn.Module:
    layers = repeat(
        f"{name}layers", lambda i: DenseLayer(conv_norm_act(width + 2 * i, 2)), [0, 1, 2]
    )
    return nn.Sequential(layers, nn.Conv2d(width + computed(len, layers) * 2, width, 1))


def mlp(width: int, name: str) -> nn.Module:
    hidden = computed(
        lambda ratio, n: max(3, int(ratio * n)), choose(f"{name}ratio", [0.5, 2.0]), width
    )
    return Pixels(
        nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width))
    )


def encoder(width: int, name: str) -> nn.Module:
    feedforward = choose(f"{name}feedforward", [3, 5])
    heads = choose(f"{name}heads", [1, 2])
    return Pixels(nn.TransformerEncoderLayer(width, heads, feedforward, batch_first=True))


def pool(width: int, name: str) -> nn.Module:
    kernel = choose(f"{name}kernel", [1, 3])
    return nn.Sequential(
        nn.MaxPool2d(kernel, 1, kernel // 2), nn.AvgPool2d(kernel, 1, padding=kernel // 2)
    )


def chosen_activation(width: int, name: str) -> nn.Module:
    factories = {
        "prelu": lambda: nn.PReLU(width),
        "silu": nn.SiLU,
        "0.1": lambda: nn.LeakyReLU(0.1),
    }
    return select(choose(f"{name}activation", list(factories)), factories)


LEAVES: dict[str, Callable[[Any, str], nn.Module]] = {
    "conv": conv,
    "dilated": dilated,
    "transposed": transposed,
    "dense": dense,
    "mlp": mlp,
    "encoder": encoder,
    "pool": pool,
    "activation": chosen_activation,
    "depthwise": lambda width, name: nn.Conv2d(
        width, width, kernel := choose(f"{name}kernel", [3, 5]), 1, kernel // 2, groups=width
    ),
    "wide groups": lambda width, _: nn.Conv2d(width, width, 3, padding="same", groups=width // 2),
    "two groups": lambda width, _: nn.Conv2d(width, width, 3, padding=1, groups=2, bias=False),
    "batch norm": lambda width, _: nn.BatchNorm2d(width),
    "group norm": lambda width, _: nn.GroupNorm(width // 2, width),
    "dropout": lambda _, name: nn.Dropout(choose(f"{name}rate", [0.1, 0.5])),
    "attention": lambda width, name: Pixels(SelfAttention(width, choose(f"{name}heads", [1, 2]))),
    "own": lambda width, name: Pixels(OwnHeads(width, choose(f"{name}heads", [1, 2]))),
    "squeeze": lambda width, name: SqueezeExcitation(width, choose(f"{name}reduction", [1, 2])),
    "project": lambda width, _: select(
        computed(operator.eq, width, 4),
        {True: nn.Identity, False: lambda: nn.Conv2d(width, width, 1)},
    ),
}


def blocks() -> st.SearchStrategy[Spec]:
    def nested(inner: st.SearchStrategy[Spec]) -> st.SearchStrategy[Spec]:
        several = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.one_of(
            st.tuples(st.just("one_of"), several),
            st.tuples(st.just("some_of"), several, st.sampled_from([1, 2, (0, 1), (1, 2)])),
            st.tuples(st.just("repeat"), inner, st.booleans()),
            st.tuples(st.just("sequence"), several),
            st.tuples(st.sampled_from(["residual", "twice", "scope"]), inner),
        )

    return st.recursive(
        st.sampled_from(sorted(LEAVES)).map(lambda leaf: (leaf,)), nested, max_leaves=5
    )


WIDTHS: dict[str, Callable[[Any, int], Any]] = {
    "chosen": lambda before, stage: choose(f"width{stage}", [4, 6, 8]),
    "again": lambda before, stage: choose("width0", [4, 6, 8]),
    "twice": lambda before, stage: 2 * before,
    "more": lambda before, stage: before + choose("extra", [2, 4]),
    "less": lambda before, stage: computed(lambda n: max(4, n // 4 * 2), before),
    "fixed": lambda before, stage: 4,
}


def block(spec: Spec, width: Any, name: str) -> nn.Module:
    """Build what keeps the channels; asks choices whose names begin with `name`."""
    kind, *inside = spec
    if kind in LEAVES:
        return LEAVES[kind](width, name)
    if kind in ("one_of", "some_of", "sequence"):
        parts = {
            f"p{i}": (lambda i=i, s=s: block(s, width, f"{name}{i}"))
            for i, s in enumerate(inside[0])
        }
        if kind == "one_of":
            return one_of(f"{name}op", parts)
        if kind == "some_of":
            return OrIdentity(some_of(f"{name}paths", parts, k=inside[1]))
        return nn.Sequential(*(make() for make in parts.values()))
    if kind == "repeat":
        shared = inside[1]
        return repeat(
            f"{name}depth", lambda i: block(inside[0], width, name), [0, 1, 3], shared=shared
        )
    if kind == "residual":
        return Residual(block(inside[0], width, name), act=None)
    if kind == "twice":
        return nn.Sequential(*(block(inside[0], width, name) for _ in range(2)))
    with scope(f"{name}scope"):
        return block(inside[0], width, name)


class OrIdentity(nn.Module):
    """The sum of some paths and of the input."""

    def __init__(self, paths: nn.ModuleDict) -> None:
        super().__init__()
        self.paths = paths

    def forward(self, x: Tensor) -> Tensor:
        return reduce(torch.add, [path(x) for path in self.paths.values()], x)


@space
def program(stages: tuple[tuple[str, Spec], ...]) -> nn.Module:
    width: Any = 4
    parts: list[nn.Module] = []
    before: Any = 3
    for number, (following, spec) in enumerate(stages):
        width = WIDTHS[following](width, number)
        parts += [nn.Conv2d(before, width, 1), block(spec, width, f"s{number}")]
        before = width
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * before, 3))


STAGES = st.lists(st.tuples(st.sampled_from(sorted(WIDTHS)), blocks()), min_size=1, max_size=3).map(
    tuple
)
