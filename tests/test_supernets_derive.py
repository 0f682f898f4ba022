"""Deriving: the rules of DARTS and PC-DARTS, and the k strongest of all."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from parti import architectures, choose, derive, one_of, repeat, some_of, space
from parti.core.architecture import Architecture
from parti.core.choice import labels
from parti.core.errors import InvalidSettings, SpaceError
from parti.core.program import Program
from parti.spaces.darts import darts

INPUTS = ("earlier", "previous", "node1", "node2", "node3")


def darts_rule(rows: list[list[float]], edges: list[float]) -> list[tuple[int, int]]:
    """Operation and source of the two strongest edges into a node.

    Args:
        rows: strengths of the operations of each edge.
        edges: strength of each edge.
    """
    best = [
        (max(row) * edge, source)
        for source, (row, edge) in enumerate(zip(rows, edges, strict=True))
    ]
    kept = sorted(source for _, source in sorted(best, reverse=True)[:2])
    return [(rows[source].index(max(rows[source])), source) for source in kept]


@pytest.mark.parametrize("with_edges", [False, True])
def test_the_strongest_cell_is_that_of_darts_and_pc_darts(with_edges: bool) -> None:
    shared = darts(3, 10, 32, channels=4, cells=3)
    tree = shared.tree
    assert tree is not None
    for seed in range(20):
        random = torch.Generator().manual_seed(seed)
        strengths: dict[str, Tensor] = {}
        for name, choice in tree.choices.items():
            if choice.kind == "one_of":
                strengths[name] = torch.randn(len(choice.options), generator=random).softmax(0)
            elif with_edges:
                strengths[name] = torch.randn(len(labels(choice)), generator=random).softmax(0)
        (found,) = derive(shared, strengths)
        for cell in ("normal", "reduction"):
            for number in range(1, 5):
                node = f"{cell}/node{number}/inputs"
                sources = INPUTS[: number + 1]
                names = [f"{node}={source}/operation" for source in sources]
                edges = strengths[node].tolist() if with_edges else [1.0] * len(sources)
                kept = darts_rule([strengths[name].tolist() for name in names], edges)
                assert found[node] == tuple(sources[source] for _, source in kept)
                for operation, source in kept:
                    assert found[names[source]] == tree.choices[names[source]].options[operation]


@space
def small() -> Any:
    width = choose("width", [8, 16])

    def body(_: int) -> Any:
        return one_of("op", {"conv": lambda: choose("kernel", [3, 5, 7]), "skip": lambda: width})

    paths = {"a": lambda: body(0), "b": lambda: 1, "c": lambda: 2}
    return some_of("paths", paths, k=(1, 2)), repeat("depth", body, [0, 2])


def strength(shared: Program, strengths: dict[str, Tensor], member: Architecture) -> float:
    """The logarithm of the product of all that a member takes."""
    assert shared.tree is not None
    total = 0.0
    for name, option in member.items():
        if name in strengths:
            choice = shared.tree.choices[name]
            values = strengths[name].tolist()
            offered = labels(choice) if choice.kind == "some_of" else choice.options
            taken = option if isinstance(option, tuple) else (option,)
            total += sum(math.log(values[offered.index(each)]) for each in taken)
    return total


positive = st.floats(0.01, 10.0)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 12))
def test_the_k_strongest_are_those_of_all_architectures(data: st.DataObject, k: int) -> None:
    assert small.tree is not None
    strengths = {}
    for name, choice in small.tree.choices.items():
        count = len(labels(choice) if choice.kind == "some_of" else choice.options)
        if data.draw(st.booleans()):
            drawn = data.draw(st.lists(positive, min_size=count, max_size=count))
            strengths[name] = torch.tensor(drawn, dtype=torch.float64)
    found = derive(small, strengths, k)
    everyone = sorted((strength(small, strengths, m) for m in architectures(small)), reverse=True)
    mine = [strength(small, strengths, member) for member in found]
    assert mine == pytest.approx(everyone[:k], abs=1e-9)
    assert len(set(found)) == len(found)


def test_there_are_no_more_than_the_space_has() -> None:
    one = space(lambda: choose("width", [1, 2, 3]))
    found = derive(one, {"width": torch.tensor([0.2, 0.5, 0.3])}, k=10)
    assert [member["width"] for member in found] == [2, 3, 1]


def test_of_equal_options_the_first_is_preferred() -> None:
    (first,) = derive(small, {})
    assert first["width"] == 8
    assert first["paths"] == ("a",)
    assert first["depth"] == 0
    ranked = derive(small, {"width": torch.tensor([0.5, 0.5])}, k=2)
    assert ranked[0]["width"] == 8


def test_options_of_no_strength_come_last_but_in_order() -> None:
    two = space(lambda: (choose("a", [0, 1]), choose("b", [0, 1])))
    strengths = {"a": torch.tensor([0.0, 1.0]), "b": torch.tensor([0.6, 0.4])}
    found = derive(two, strengths, k=4)
    assert [(m["a"], m["b"]) for m in found] == [(1, 0), (1, 1), (0, 0), (0, 1)]


def test_gradients_do_not_matter() -> None:
    strengths = torch.tensor([0.1, 0.9], requires_grad=True)
    assert derive(small, {"width": strengths})[0]["width"] == 16


def test_what_cannot_be_derived_says_why() -> None:
    with pytest.raises(InvalidSettings, match="there must be 2"):
        derive(small, {"width": torch.ones(3)})
    for bad in (-0.1, math.nan):
        with pytest.raises(InvalidSettings, match="none negative"):
            derive(small, {"width": torch.tensor([0.5, bad])})
    with pytest.raises(InvalidSettings, match="'height', but the space asks"):
        derive(small, {"height": torch.ones(3)})
    with pytest.raises(InvalidSettings, match="k=0"):
        derive(small, {}, k=0)
    with pytest.raises(SpaceError, match="is dynamic"):
        derive(space(dynamic=True)(lambda: choose("a", [1, 2])), {})
