"""What every space must do."""

from __future__ import annotations

import pickle
from itertools import islice, pairwise
from random import Random
from typing import Any

import pytest

from parti.core.architecture import Architecture
from parti.core.errors import InvalidArchitecture
from parti.core.protocols import Space
from parti.core.walks import (
    architectures,
    canonical,
    choices,
    crossover,
    distance,
    mutate,
    neighbours,
    sample,
    size,
    validate,
)

__all__ = ["SpaceSuite"]


class SpaceSuite:
    """Subclass it and override `make`."""

    samples = 30
    """How many architectures each test draws."""

    def make(self) -> Space:
        """Return the space under test."""
        raise NotImplementedError

    def drawn(self) -> list[Architecture]:
        """Some architectures, always the same."""
        space, random = self.make(), Random(0)
        return [sample(space, random) for _ in range(self.samples)]

    def test_samples_are_members(self) -> None:
        """What is sampled can be replayed, decision by decision."""
        space = self.make()
        for architecture in self.drawn():
            assert validate(space, architecture) == architecture

    def test_sampling_follows_from_the_seed(self) -> None:
        """Equal seeds draw equal architectures."""
        assert self.drawn() == self.drawn()

    def test_json_and_pickle_give_the_same_back(self) -> None:
        """An architecture survives being written and read."""
        for architecture in self.drawn():
            again = Architecture.from_json(architecture.to_json())
            assert again == architecture
            assert list(again) == list(architecture)
            assert pickle.loads(pickle.dumps(architecture)) == architecture  # noqa: S301

    def test_mutants_differ_in_one_decision(self) -> None:
        """One decision is changed; others differ only where choices come or go with it."""
        space, random = self.make(), Random(1)
        for parent in self.drawn():
            child = mutate(space, parent, random)
            assert validate(space, child) == child
            if all(len(choice.options) == 1 for choice in choices(space, parent)):
                assert child == parent
                continue
            changed = [name for name in parent if name in child and parent[name] != child[name]]
            assert len(changed) == 1

    def test_children_take_after_their_parents(self) -> None:
        """Every decision of a child is a parent's, unless neither holds the choice."""
        space, random = self.make(), Random(2)
        drawn = self.drawn()
        for mother, father in pairwise(drawn):
            for points in (None, 1, 2):
                child = crossover(space, mother, father, random, points=points)
                assert validate(space, child) == child
                for name, option in child.items():
                    held = {parent[name] for parent in (mother, father) if name in parent}
                    assert not held or option in held

    def test_neighbours_are_members_and_new(self) -> None:
        """Neighbours are members that differ, and each one-decision change is among them."""
        space = self.make()
        for architecture in self.drawn()[:5]:
            found = list(neighbours(space, architecture))
            expected = sum(len(choice.options) - 1 for choice in choices(space, architecture))
            assert len(found) == expected
            for neighbour in found:
                assert validate(space, neighbour) == neighbour
                assert distance(architecture, neighbour) >= 1

    def test_size_is_the_number_of_members(self) -> None:
        """The size is exact, and members are listed once each."""
        space, most = self.make(), 3_000
        exact = size(space, most=most)
        listed = list(islice(architectures(space), most))
        assert len(set(listed)) == len(listed)
        assert exact is None or min(exact, most) == len(listed)
        for architecture in listed[:: max(1, len(listed) // 20)]:
            assert validate(space, architecture) == architecture

    def test_what_is_no_member_is_refused(self) -> None:
        """A lacking, an unknown and a wrong decision are each named."""
        space = self.make()
        architecture = self.drawn()[0]
        name = next(iter(architecture))
        broken: list[dict[str, Any]] = [
            {key: option for key, option in architecture.items() if key != name},
            {**architecture, "no such choice": 1},
            {**architecture, name: "no such option"},
        ]
        for wrong in broken:
            with pytest.raises(InvalidArchitecture):
                validate(space, wrong)

    def test_canonical_forms_are_stable_members(self) -> None:
        """The canonical form is a member, and its own canonical form."""
        space = self.make()
        for architecture in self.drawn():
            form = canonical(space, architecture)
            assert validate(space, form) == form
            assert canonical(space, form) == form
