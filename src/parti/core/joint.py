"""A network and the recipe that trains it, searched as one space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.program import Program
from parti.core.tree import Branch, Node, Tree

__all__ = ["Joint", "Part"]


class Joint:
    """Two programs whose choices are decided together.

    As a space it builds networks; `recipe` builds the recipe of the same architecture.

    Args:
        network: builds the network; its choices keep their names.
        recipe: builds the recipe; its choices are named `recipe/...`.
    """

    def __init__(self, network: Program, recipe: Program) -> None:
        self.network = Part(network, "", without="recipe/")
        self.recipe = Part(recipe, "recipe/")

    @cached_property
    def tree(self) -> Tree | None:
        """The static tree of both; None when one of them is dynamic."""
        network, recipe = self.network.program.tree, self.recipe.program.tree
        if network is None or recipe is None:
            return None
        return Tree((*network.nodes, *(_prefixed(node, "recipe/") for node in recipe.nodes)))

    def walk(self, pick: Callable[[Choice], Option]) -> Architecture:
        """Decide the network, then the recipe."""
        if self.tree is not None:
            return self.tree.walk(pick)
        network = self.network.program.walk(pick)
        recipe = self.recipe.program.walk(lambda c: pick(replace(c, name=f"recipe/{c.name}")))
        return network.replacing({f"recipe/{name}": option for name, option in recipe.items()})

    def build(self, architecture: Mapping[str, Option]) -> Any:
        """Build the network."""
        return self.network.build(architecture)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Canonical form of the network; the recipe stays as it is."""
        recipe = {n: o for n, o in architecture.items() if n.startswith("recipe/")}
        return self.network.program.canonical(self.network.of(architecture)).replacing(recipe)

    def __repr__(self) -> str:
        return f"{self.network.program!r} with {self.recipe.program!r}"


class Part:
    """One of the two programs of a joint space: builds its part of an architecture."""

    def __init__(self, program: Program, prefix: str, without: str | None = None) -> None:
        self.program = program
        self._prefix = prefix
        self._without = without

    def of(self, architecture: Mapping[str, Option]) -> Architecture:
        """The decisions of this part, under the program's own names."""
        return Architecture(
            {
                name.removeprefix(self._prefix): option
                for name, option in architecture.items()
                if name.startswith(self._prefix)
                and not (self._without and name.startswith(self._without))
            }
        )

    def build(self, architecture: Mapping[str, Option]) -> Any:
        """Build this part."""
        return self.program.build(self.of(architecture))


def _prefixed(node: Node, prefix: str) -> Node:
    return Node(
        replace(node.choice, name=prefix + node.choice.name),
        tuple(
            Branch(branch.when, tuple(_prefixed(child, prefix) for child in branch.children))
            for branch in node.branches
        ),
    )
