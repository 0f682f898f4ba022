"""The spaces of the synthetic problems: decisions only, no networks."""

from __future__ import annotations

from typing import Any

from parti.core.program import Program, space
from parti.core.words import choose, one_of, repeat, scope, some_of

__all__ = ["SPACES"]

OPERATIONS = ("conv1", "conv3", "conv5", "pool", "skip", "none")


@space
def chain() -> list[Any]:
    """Twelve choices of four options: 16,777,216 members."""
    return [choose(f"layer{i}", list(OPERATIONS[:4])) for i in range(12)]


@space
def wide() -> list[Any]:
    """Forty choices of six options: 10^31 members."""
    return [choose(f"layer{i}", list(OPERATIONS)) for i in range(40)]


@space
def rugged() -> list[Any]:
    """Ten choices of five options: 9,765,625 members."""
    return [choose(f"edge{i}", list(OPERATIONS[:5])) for i in range(10)]


@space
def mixed() -> list[Any]:
    """Scales of many steps beside a few kinds: 524,160,000 members."""
    return [
        choose("width", [8 * i for i in range(1, 33)], ordered=True),
        choose("depth", list(range(1, 21)), ordered=True),
        choose("lr", [round(10 ** (-5 + i / 6), 8) for i in range(25)], ordered=True),
        choose("dropout", [round(0.05 * i, 2) for i in range(13)], ordered=True),
        choose("batch", [2**i for i in range(4, 11)], ordered=True),
        choose("operation", list(OPERATIONS[:4])),
        choose("activation", ["relu", "gelu", "silu", "elu", "tanh"]),
        choose("normalisation", ["none", "batch", "layer"]),
        choose("optimizer", ["sgd", "adam", "lion"]),
        choose("augment", [False, True]),
    ]


@space
def conditional() -> list[Any]:
    """Stages of blocks whose operation opens choices of its own, and an optimizer likewise."""

    def block(i: int) -> Any:
        return one_of(
            "op",
            {
                "conv": lambda: (
                    choose("kernel", [3, 5, 7], ordered=True),
                    choose("expand", [1, 2, 3, 4, 6], ordered=True),
                    choose("groups", ["none", "depthwise"]),
                ),
                "attend": lambda: (
                    choose("heads", [1, 2, 4, 8], ordered=True),
                    choose("window", ["local", "global"]),
                ),
                "pool": lambda: choose("kind", ["max", "mean"]),
                "skip": lambda: i,
            },
        )

    def stage(name: str) -> Any:
        with scope(name):
            width = choose("width", [16, 24, 32, 48, 64], ordered=True)
            return width, repeat("depth", block, [1, 2, 3, 4])

    def sgd() -> Any:
        return choose("momentum", [0.0, 0.8, 0.9, 0.95, 0.99], ordered=True)

    def adam() -> Any:
        return choose("beta", ["0.9", "0.95"]), choose("decay", [0.0, 0.01, 0.1], ordered=True)

    inputs = {name: lambda: choose("resize", ["crop", "pad"]) for name in ("rgb", "edges", "depth")}
    return [
        some_of("inputs", inputs, k=(1, 2)),
        stage("early"),
        stage("late"),
        one_of("optimizer", {"sgd": sgd, "adam": adam}),
    ]


@space
def recursive() -> Any:
    """A grammar of sequences, sums and leaves, four deep."""
    return _part(4)


def _part(depth: int) -> Any:
    def both() -> Any:
        with scope("first"):
            first = _part(depth - 1)
        with scope("second"):
            second = _part(depth - 1)
        return first, second

    leaves = {
        "conv": lambda: choose("kernel", [1, 3, 5], ordered=True),
        "pool": lambda: "pool",
        "skip": lambda: "skip",
    }
    return one_of("kind", {**leaves, **({"sequence": both, "sum": both} if depth > 1 else {})})


@space
def fronts() -> list[Any]:
    """Six choices of four options: 4,096 members."""
    return [choose(f"layer{i}", list(OPERATIONS[:4])) for i in range(6)]


@space
def limited() -> list[Any]:
    """One to three blocks, and a width: 16,650 members."""

    def block(i: int) -> Any:
        kernels = {"conv": lambda: choose("kernel", [1, 3, 5, 7], ordered=True)}
        others = {name: lambda: i for name in ("pool", "skip")}
        return one_of("op", {**kernels, **others, "attend": lambda: choose("heads", [1, 2, 4, 8])})

    return [
        choose("width", [8, 16, 24, 32, 48], ordered=True),
        repeat("depth", block, [1, 2, 3]),
        choose("activation", ["relu", "gelu", "silu"]),
    ]


SPACES: dict[str, Program] = {
    program.name: program
    for program in (chain, conditional, fronts, limited, mixed, recursive, rugged, wide)
}
"""Every space by name."""
