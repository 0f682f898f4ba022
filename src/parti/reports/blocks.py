"""A network's modules gathered into the blocks that a person would draw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from parti.reports.formats import finite

__all__ = ["Block", "blocks"]

MOST = 60
"""More blocks than this are gathered further: nobody reads them."""


@dataclass(frozen=True, slots=True)
class Block:
    """A few modules that belong together.

    Args:
        name: the path that they share in the network.
        title: the type of the module around them, or of the one that computes most.
        operations: their types, in order of appearance, with how often.
        output: sizes of what comes out, without the batch.
        params: number of their parameters.
        macs: their multiply-accumulates, for one sample.
        inputs: places in the list of the blocks it reads; usually the one before it.
    """

    name: str
    title: str
    operations: tuple[tuple[str, int], ...]
    output: tuple[int, ...]
    params: float
    macs: float
    inputs: tuple[int, ...]

    @property
    def channels(self) -> int:
        """The first size of the output; 1 when unknown."""
        return self.output[0] if self.output else 1

    @property
    def resolution(self) -> int:
        """The largest of the output's other sizes; 1 when there is none."""
        return max(self.output[1:], default=1)


def blocks(modules: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Gather the rows of a network's modules into blocks.

    A block is the outermost module that holds operations itself, or named parts; lists of
    modules are opened. Lone normalizations and activations join the operation before them.

    Args:
        modules: rows with `name` (dotted path), `type`, `output`, `params`, `macs`, in order of
            execution; rows of modules that hold others may be among them. A row may have
            `inputs`: the names of the modules whose outputs it reads; without any, each block
            is taken to read the one before it.

    Returns:
        At most 60 blocks, in order of execution.
    """
    rows = [row for row in modules if str(row.get("name") or "")]
    types = {str(row["name"]): str(row.get("type") or "module") for row in rows}
    leaves = _leaves(rows)
    owners = _owners([str(row["name"]) for row in leaves])
    depth = max((owner.count(".") for owner in owners), default=0)
    while len(set(owners)) > MOST and depth > 0:
        owners = [".".join(owner.split(".")[:depth]) for owner in owners]
        depth -= 1
    grouped = [
        (owner, [row for _, row in pairs])
        for owner, pairs in groupby(zip(owners, leaves, strict=True), key=lambda pair: pair[0])
    ]
    grouped = _fold(_fold_lone(grouped))
    made = [_block(owner, members, types) for owner, members in grouped]
    return [replace(b, inputs=i) for b, i in zip(made, _inputs(grouped), strict=True)]


def _leaves(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    parents: set[str] = set()
    for row in rows:
        parts = str(row["name"]).split(".")
        parents.update(".".join(parts[:n]) for n in range(1, len(parts)))
    return [row for row in rows if str(row["name"]) not in parents]


def _owners(names: list[str]) -> list[str]:
    """Return the block of every leaf, as a path."""
    children: dict[str, set[str]] = {}
    for name in names:
        parts = name.split(".")
        for n in range(1, len(parts)):
            children.setdefault(".".join(parts[:n]), set()).add(".".join(parts[: n + 1]))

    def is_list(path: str) -> bool:
        inside = children.get(path, set())
        return bool(inside) and all(
            child.rpartition(".")[2].isdigit() and child in children for child in inside
        )

    def is_block(path: str) -> bool:
        inside = children.get(path, set())
        if is_list(path) or any(is_list(child) for child in inside):
            return False
        holds_operation = any(child not in children for child in inside)
        holds_parts = all(
            all(grandchild not in children for grandchild in children.get(child, ()))
            for child in inside
        )
        return holds_operation or holds_parts

    def owner(name: str) -> str:
        parts = name.split(".")
        paths = (".".join(parts[:n]) for n in range(1, len(parts)))
        return next((path for path in paths if is_block(path)), name)

    return [owner(name) for name in names]


Group = tuple[str, list[Mapping[str, Any]]]


def _fold_lone(groups: list[Group]) -> list[Group]:
    """Let lone modules that compute nothing and keep the shape join what is before them."""
    folded: list[Group] = []
    for owner, members in groups:
        row = members[0]
        lone = len(members) == 1 and owner == row["name"]
        idle = not finite(row.get("macs")) and folded
        if lone and idle and row.get("output") == folded[-1][1][-1].get("output"):
            folded[-1][1].append(row)
        else:
            folded.append((owner, list(members)))
    return folded


def _fold(groups: list[Group]) -> list[Group]:
    """Put neighbours together until there are few enough, for networks without any nesting."""
    if len(groups) <= MOST:
        return groups
    size = math.ceil(len(groups) / MOST)
    return [
        (groups[i][0], [row for _, members in groups[i : i + size] for row in members])
        for i in range(0, len(groups), size)
    ]


def _block(owner: str, members: list[Mapping[str, Any]], types: Mapping[str, str]) -> Block:
    costliest = max(members, key=lambda row: finite(row.get("macs")) or 0.0)
    main = str(costliest.get("type") or "module")
    around = types.get(owner, "")
    plain = around in ("", "Sequential", "ModuleList", "ModuleDict")
    sizes = members[-1].get("output")
    numbers = [finite(size) for size in sizes] if isinstance(sizes, Sequence) else []
    return Block(
        name=owner,
        title=main if plain else around,
        operations=tuple(Counter(str(row.get("type") or "module") for row in members).items()),
        output=tuple(int(number) for number in numbers if number is not None),
        params=sum(finite(row.get("params")) or 0.0 for row in members),
        macs=sum(finite(row.get("macs")) or 0.0 for row in members),
        inputs=(),
    )


def _inputs(groups: list[Group]) -> list[tuple[int, ...]]:
    """Return for every block the places of the blocks before it whose outputs it reads."""
    place = {str(row["name"]): i for i, (_, members) in enumerate(groups) for row in members}
    place.update({owner: i for i, (owner, _) in enumerate(groups)})
    known = any("inputs" in row for _, members in groups for row in members)
    if not known:
        return [(i - 1,) if i else () for i in range(len(groups))]
    found = []
    for i, (_, members) in enumerate(groups):
        names = [str(name) for row in members for name in row.get("inputs") or ()]
        found.append(tuple(sorted({place[n] for n in names if n in place and place[n] < i})))
    return found
