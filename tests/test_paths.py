from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.graph import Graph
from parti.core.program import space
from parti.core.walks import architectures, sample
from parti.core.words import one_of
from parti.spaces.paths import decisions, path_bag, paths, subtree_bags, subtrees, vectors
from parti.testing import SPACES

# input -> conv1 -> conv3 -> output, input -> pool -> output, input -> output, conv1 -> pool
CELL = Graph(
    ("input", "conv1", "conv3", "pool", "output"),
    ((0, 1), (1, 2), (2, 4), (0, 3), (3, 4), (0, 4), (1, 3)),
)


def drawn_cell(architecture: Architecture) -> Graph:
    return Graph(("input", str(architecture["op"]), "output"), ((0, 1), (1, 2)))


@space(graph=drawn_cell)
def one_operation() -> object:
    return one_of("op", {"conv3": lambda: 3, "pool": lambda: 0})


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, Graph]:
    """A graph without cycles, and the same with its vertices in another order."""
    count = draw(st.integers(2, 7))
    labels = draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count))
    pairs = [(i, j) for j in range(count) for i in range(j)]
    edges = [pair for pair in pairs if draw(st.booleans())]
    order = draw(st.permutations(range(count)))
    moved: list[str] = [""] * count
    for vertex, place in enumerate(order):
        moved[place] = labels[vertex]
    turned = tuple((order[i], order[j]) for i, j in reversed(edges))
    return Graph(tuple(labels), tuple(edges)), Graph(tuple(moved), turned)


class TestPaths:
    def test_of_a_known_cell(self) -> None:
        assert paths(CELL) == {
            ("input", "output"),
            ("input", "pool", "output"),
            ("input", "conv1", "conv3", "output"),
            ("input", "conv1", "pool", "output"),
        }

    def test_equal_sequences_are_one_path(self) -> None:
        twice = Graph(("input", "conv", "conv", "output"), ((0, 1), (0, 2), (1, 3), (2, 3)))
        assert paths(twice) == {("input", "conv", "output")}

    def test_components_have_their_own(self) -> None:
        two = Graph(("n/in", "n/out", "r/in", "r/out"), ((0, 1), (2, 3)))
        assert paths(two) == {("n/in", "n/out"), ("r/in", "r/out")}

    @given(graphs())
    def test_do_not_depend_on_the_numbering(self, both: tuple[Graph, Graph]) -> None:
        one, other = both
        for most in (1, 3, 4096):
            assert paths(one, most=most) == paths(other, most=most)

    def test_of_a_huge_graph_are_the_shortest(self) -> None:
        count = 40
        edges = tuple((i, j) for j in range(count) for i in range(j))
        found = paths(Graph(tuple(map(str, range(count))), edges), most=1000)
        lengths = [len(path) for path in found]
        assert max(lengths) == 4
        # All of them: two ends, and any of the inner vertices in their order.
        assert [lengths.count(n) for n in (2, 3, 4)] == [1, 38, 38 * 37 // 2]

    def test_at_least_one_is_asked_for(self) -> None:
        with pytest.raises(InvalidSettings, match="at least 1"):
            paths(CELL, most=0)


class TestSubtrees:
    def test_first_histogram_counts_the_labels(self) -> None:
        twice = Graph(("input", "conv", "conv", "output"), ((0, 1), (0, 2), (1, 3), (2, 3)))
        labels, once, _ = subtrees(twice, 2)
        assert labels == {"input": 1, "conv": 2, "output": 1}
        assert sorted(once.values()) == [1, 1, 2]  # both convolutions lead to the output

    @settings(max_examples=60)
    @given(graphs())
    def test_are_equal_for_isomorphic_graphs(self, both: tuple[Graph, Graph]) -> None:
        one, other = both
        assert subtrees(one, 3) == subtrees(other, 3)

    def test_tell_apart_what_equal_labels_do_not(self) -> None:
        chain = Graph(("in", "a", "b", "out"), ((0, 1), (1, 2), (2, 3)))
        swapped = Graph(("in", "b", "a", "out"), ((0, 1), (1, 2), (2, 3)))
        assert subtrees(chain, 0) == subtrees(swapped, 0)
        assert subtrees(chain, 1)[1] != subtrees(swapped, 1)[1]

    def test_need_as_many_iterations_as_the_difference_is_away(self) -> None:
        # The end of the chain differs only in how far it is from the fork.
        short = Graph(("a", "a", "a", "b", "c"), ((0, 1), (1, 3), (2, 4)))
        crossed = Graph(("a", "a", "a", "b", "c"), ((0, 1), (1, 4), (2, 3)))
        assert subtrees(short, 1) == subtrees(crossed, 1)
        assert subtrees(short, 2) != subtrees(crossed, 2)

    def test_cannot_tell_two_triangles_from_a_hexagon(self) -> None:
        # The known limit of Weisfeiler-Lehman refinement, here as directed cycles.
        triangles = Graph(("a",) * 6, ((0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)))
        hexagon = Graph(("a",) * 6, tuple((i, (i + 1) % 6) for i in range(6)))
        assert subtrees(triangles, 4) == subtrees(hexagon, 4)

    def test_depth_is_checked(self) -> None:
        with pytest.raises(InvalidSettings, match="0 or more"):
            subtrees(CELL, -1)


class TestBags:
    def test_name_paths_by_their_operations(self) -> None:
        assert path_bag(one_operation, Architecture({"op": "pool"})) == {"input > pool > output": 1}
        first, second = subtree_bags(one_operation, Architecture({"op": "pool"}), 1)
        assert first == {"input": 1, "pool": 1, "output": 1}
        assert len(second) == 3

    def test_without_a_graph_are_decisions(self) -> None:
        architecture = Architecture({"width": 16, "in": ("x", "y"), "none": ()})
        expected = {"width=16": 1, "in=x": 1, "in=y": 1, "none=nothing": 1}
        assert path_bag(SPACES["wide"], architecture) == expected
        assert subtree_bags(SPACES["wide"], architecture, 2) == (expected,)

    @pytest.mark.parametrize("name", ["tiny", "conditional", "recursive", "dynamic"])
    def test_of_decisions_tell_any_two_architectures_apart(self, name: str) -> None:
        members = list(architectures(SPACES[name]))[:2000]
        assert len({frozenset(decisions(member)) for member in members}) == len(members)

    def test_become_vectors_over_known_features(self) -> None:
        random = Random(0)
        bags = [decisions(sample(SPACES["conditional"], random)) for _ in range(5)]
        features = sorted(set().union(*bags))
        matrix = vectors(bags, features)
        assert matrix.shape == (5, len(features))
        assert [row.sum() for row in matrix] == [len(bag) for bag in bags]
        np.testing.assert_array_equal(vectors([{"b": 2.0, "x": 1.0}], ["a", "b"]), [[0, 2]])
