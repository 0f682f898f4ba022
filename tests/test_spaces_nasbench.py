"""The spaces of NAS-Bench-101, NAS-Bench-201 and NATS size are what was published."""

import time
from functools import partial
from itertools import combinations, product
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import parti
from parti.core.architecture import Architecture
from parti.core.errors import InvalidArchitecture, InvalidSettings
from parti.core.words import building
from parti.networks.nasbench101 import VertexCell, vertex_widths
from parti.networks.nasbench201 import EDGES, EdgeCell, edge_operations
from parti.spaces import nasbench101 as nb101
from parti.spaces import nasbench201 as nb201
from parti.spaces import nats_size as size
from parti.spaces.nasbench101_cell import Cell, prune, renumber
from parti.testing import SpaceSuite

torch.set_num_threads(1)
SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
CELLS = nb101.nasbench101()
EDGE_CELLS = nb201.nasbench201()
SIZES = size.nats_size()
CONV3, CONV1, POOL = "conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"
seeds = st.integers(0, 2**32)


class TestNasBench101(SpaceSuite):
    def make(self):
        return CELLS


class TestNasBench201(SpaceSuite):
    def make(self):
        return EDGE_CELLS


class TestNatsSize(SpaceSuite):
    def make(self):
        return SIZES


def table(path, columns):
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(SHARED / path, columns=columns).to_pylist()


def params(space, architecture):
    with torch.device("meta"):
        return sum(p.numel() for p in space.build(architecture).parameters())


@pytest.mark.parametrize("resolution", [16, 33, 64, 224])
@pytest.mark.parametrize(
    "space",
    [partial(CELLS, cells=1), partial(EDGE_CELLS, cells=1), SIZES],
    ids=["nasbench101", "nasbench201", "nats_size"],
)
def test_members_give_logits(space, resolution):
    bound = space(1, 7, resolution)
    with torch.device("meta"):
        for seed in range(2):
            network = bound.build(parti.sample(bound, Random(seed)))
            assert network(torch.empty(2, 1, resolution, resolution + 5)).shape == (2, 7)


@pytest.mark.parametrize(
    "space",
    [
        CELLS(1, 3, 8, channels=8, stacks=2, cells=1),
        EDGE_CELLS(1, 3, 8, channels=4, cells=1),
        SIZES(1, 3, 8, widths=(4, 6)),
    ],
    ids=lambda space: space.name,
)
def test_small_members_learn(space):
    for seed in range(5):
        torch.manual_seed(seed)
        network = space.build(parti.sample(space, Random(seed)))
        loss = nn.functional.cross_entropy(
            network(torch.randn(4, 1, 8, 8)), torch.tensor([0, 1, 2, 0])
        )
        loss.backward()
        for name, parameter in network.named_parameters():
            # Nobody need use a node of an edge cell.
            assert parameter.grad is not None or name.startswith("cells."), name
            assert parameter.grad is None or parameter.grad.isfinite().all(), name


# --- NAS-Bench-201 ---------------------------------------------------------------------------


def edges(*operations):
    return Architecture(dict(zip(nb201.CHOICES, operations, strict=True)))


NONE, SKIP, ONE, THREE, AVERAGE = nb201.PRIMITIVES


def test_all_cells_of_nasbench201_are_members():
    assert EDGE_CELLS.tree.size == 15_625
    assert tuple(EDGE_CELLS.tree.choices) == nb201.CHOICES
    assert {c.options for c in EDGE_CELLS.tree.choices.values()} == {nb201.PRIMITIVES}


def test_cells_have_the_strings_of_the_benchmark():
    text = f"|{ONE}~0|+|{NONE}~0|{SKIP}~1|+|{THREE}~0|{NONE}~1|{AVERAGE}~2|"
    cell = edges(ONE, NONE, SKIP, THREE, NONE, AVERAGE)
    assert nb201.to_string(cell) == text
    assert nb201.from_string(text) == cell
    assert cell["edge1-2"] == SKIP
    assert cell["edge2-3"] == AVERAGE


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"|{ONE}~0|",
        f"|{ONE}~0|+|{NONE}~1|{SKIP}~0|+|{THREE}~0|{NONE}~1|{AVERAGE}~2|",
        f"|conv~0|+|{NONE}~0|{SKIP}~1|+|{THREE}~0|{NONE}~1|{AVERAGE}~2|",
        f"|{ONE}~0|+|{NONE}~0|{SKIP}~1|+|{THREE}~0|{NONE}~1|{AVERAGE}~2|+",
    ],
)
def test_other_strings_are_refused(text):
    with pytest.raises(InvalidArchitecture, match=r"no cell of NAS-Bench-201.*avg_pool_3x3"):
        nb201.from_string(text)


def test_what_is_no_cell_is_refused():
    with pytest.raises(InvalidArchitecture, match="lacks choice 'edge0-2'"):
        nb201.to_string({"edge0-1": NONE})
    with pytest.raises(InvalidArchitecture, match="'edge1-3' does not offer 'conv'"):
        nb201.canonical_cell(edges(NONE, NONE, NONE, NONE, "conv", NONE))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # An operation after a skip is that operation; what nothing uses does not matter.
        ((SKIP, NONE, NONE, NONE, THREE, NONE), (NONE, NONE, NONE, THREE, NONE, NONE)),
        ((ONE, AVERAGE, SKIP, THREE, NONE, NONE), (NONE, NONE, NONE, THREE, NONE, NONE)),
        # The terms of a sum may change places.
        ((ONE, NONE, NONE, THREE, SKIP, NONE), (THREE, NONE, NONE, ONE, SKIP, NONE)),
        # After nothing at node 1 comes nothing.
        ((NONE, ONE, THREE, NONE, THREE, SKIP), (NONE, ONE, NONE, NONE, NONE, SKIP)),
    ],
)
def test_isomorphic_cells_are_one(one, other):
    assert nb201.canonical_cell(edges(*one)) == nb201.canonical_cell(edges(*other))
    assert nb201.cell_graph(edges(*one)) == nb201.cell_graph(edges(*other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # x + x is not x.
        ((SKIP, NONE, NONE, SKIP, SKIP, NONE), (NONE, NONE, NONE, SKIP, NONE, NONE)),
        # As the benchmark has it: nodes 1 and 2 may not change places, nothing at node 2 is
        # not noticed, nor that averages add up.
        ((ONE, NONE, NONE, NONE, AVERAGE, NONE), (NONE, ONE, NONE, NONE, NONE, AVERAGE)),
        ((NONE, NONE, NONE, SKIP, NONE, THREE), (NONE, NONE, NONE, SKIP, NONE, NONE)),
        (
            (THREE, SKIP, SKIP, NONE, NONE, AVERAGE),
            (THREE, NONE, NONE, AVERAGE, AVERAGE, NONE),
        ),
    ],
)
def test_other_cells_are_not(one, other):
    assert nb201.canonical_cell(edges(*one)) != nb201.canonical_cell(edges(*other))


def test_there_are_6466_cells_found_quickly():
    cells = list(parti.architectures(EDGE_CELLS))
    nb201.canonical_cell(cells[0])
    start = time.process_time()
    forms = [nb201.canonical_cell(cell) for cell in cells]
    assert (time.process_time() - start) / len(cells) < 50e-6
    assert len(set(forms)) == 6_466


@pytest.mark.shared_data
def test_canonical_forms_are_the_classes_of_the_benchmark():
    classes, forms = {}, {}
    for row in table("nasbench201/nb201.parquet", ["arch", "unique_cell_id"]):
        form = nb201.canonical_cell(nb201.from_string(row["arch"]))
        assert classes.setdefault(row["unique_cell_id"], form) == form
        assert forms.setdefault(form, row["unique_cell_id"]) == row["unique_cell_id"]
        assert nb201.to_string(nb201.from_string(row["arch"])) == row["arch"]
    assert len(forms) == 6_466


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_every_vertex_of_a_drawn_cell_is_on_a_path(seed):
    cell = parti.sample(EDGE_CELLS, Random(seed))
    graph = nb201.cell_graph(cell)
    output = len(graph.labels) - 1
    assert (graph.labels[0], graph.labels[output]) == ("input", "output")
    for vertex in range(1, output):
        assert any(end == vertex for _, end in graph.edges)
        assert any(start == vertex for start, _ in graph.edges)
    assert NONE not in graph.labels
    assert all(start < end for start, end in graph.edges)


def test_a_drawn_cell():
    graph = nb201.cell_graph(edges(THREE, SKIP, NONE, ONE, AVERAGE, ONE))
    assert graph.labels == ("input", THREE, SKIP, ONE, AVERAGE, ONE, "output")
    assert set(graph.edges) == {
        *((0, 1), (1, 4), (4, 6)),
        *((0, 2), (2, 5), (5, 6)),
        *((0, 3), (3, 6)),
    }
    assert nb201.cell_graph(edges(*[NONE] * 6)).labels == ("input", "output")


def test_a_node_is_the_sum_of_what_reaches_it():
    x = torch.randn(1, 2, 3, 3)
    assert torch.allclose(EdgeCell({edge: nn.Identity() for edge in EDGES})(x), 4 * x)
    operations = edge_operations(2)
    only = {edge: operations[NONE]() for edge in EDGES} | {"0-2": operations[SKIP]()}
    assert torch.equal(EdgeCell(only)(x), torch.zeros_like(x))
    assert torch.equal(EdgeCell(only | {"2-3": operations[SKIP]()})(x), x)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(list(edge_operations(2))), min_size=6, max_size=6), seeds)
def test_edges_without_operation_are_as_if_they_added_zeros(names, seed):
    torch.manual_seed(seed)
    operations = edge_operations(2)
    edges = {edge: operations[name]() for edge, name in zip(EDGES, names, strict=True)}
    x = torch.randn(3, 2, 4, 4, requires_grad=True)
    nodes = [x]
    for node in (1, 2, 3):
        nodes.append(sum(edges[f"{source}-{node}"](nodes[source]) for source in range(node)))
    y = EdgeCell(edges)(x)
    assert torch.equal(y, nodes[-1])
    inputs = [x, *(weight for edge in edges.values() for weight in edge.parameters())]
    ways = [
        torch.autograd.grad(out.square().sum(), inputs, allow_unused=True, materialize_grads=True)
        for out in (y, nodes[-1])
    ]
    for mine, plain in zip(*ways, strict=True):
        torch.testing.assert_close(mine, plain)


@settings(deadline=None, max_examples=5)
@given(seeds)
def test_parameters_follow_from_the_operations(seed):
    cell = parti.sample(EDGE_CELLS, Random(seed))
    operations = list(cell.values())
    expected = 73_306 + 28_000 * operations.count(ONE) + 243_040 * operations.count(THREE)
    assert params(EDGE_CELLS, cell) == expected


@pytest.mark.shared_data
def test_parameters_are_those_of_the_benchmark():
    rows = table("nasbench201/nb201.parquet", ["arch", "params_m"])
    for row in Random(0).sample(rows, 20):
        found = params(EDGE_CELLS, nb201.from_string(row["arch"]))
        assert found / 1e6 == pytest.approx(row["params_m"], abs=1e-6)


@pytest.mark.parametrize("sizes", [{"cells": 0}, {"channels": 0}])
def test_a_network_without_cells_is_refused(sizes):
    with pytest.raises(InvalidSettings, match="at least 1 of both"):
        parti.size(EDGE_CELLS(**sizes))


# --- NATS size -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"),
    [("8:8:8:8:8", 11_714), ("8:8:16:40:40", 107_826), ("64:64:64:64:64", 713_674)],
)
def test_widths_have_the_parameters_of_the_benchmark(text, count):
    architecture = size.from_string(text)
    assert size.to_string(architecture) == text
    assert params(SIZES, parti.validate(SIZES, architecture)) == count


def test_all_widths_are_members():
    assert SIZES.tree.size == 32_768
    assert all(choice.ordered for choice in SIZES.tree.choices.values())
    network = SIZES.build(size.from_string("8:16:24:32:40"))
    widths = [norm.num_features for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert sorted(set(widths)) == [8, 16, 24, 32, 40]
    assert network.head.classifier.in_features == 40


@pytest.mark.parametrize("text", ["", "8:8:8:8", "8:8:8:8:9", "8:8:8:8:8:8", "8:8:8:8:8 ", "a"])
def test_other_widths_are_refused(text):
    with pytest.raises(InvalidArchitecture, match=r"written 8:16:24:32:40, .* 48, 56, 64"):
        size.from_string(text)
    with pytest.raises(InvalidArchitecture, match=r"lacks .*width5"):
        size.to_string({"width1": 8})


# --- NAS-Bench-101 ---------------------------------------------------------------------------


def matrix_of(row):
    """A row of the table as the benchmark's matrix and operations."""
    n, bits = row["num_vertices"], iter(row["adjacency_upper"])
    matrix = [[0] * n for _ in range(n)]
    for i, j in combinations(range(n), 2):
        matrix[i][j] = int(next(bits))
    return matrix, ["input", *filter(None, row["ops"].split(",")), "output"]


def matrix_from(pairs, n):
    return [[int((i, j) in pairs) for j in range(n)] for i in range(n)]


def graphs(n):
    """Every valid graph of n vertices, isomorphic ones among them."""
    pairs = list(combinations(range(n), 2))
    for count in range(n - 1, min(9, len(pairs)) + 1):
        for chosen in combinations(pairs, count):
            starts, ends = {i for i, _ in chosen}, {j for _, j in chosen}
            if len(starts) == len(ends) == n - 1:
                yield chosen


@pytest.mark.parametrize(
    ("vertices", "cells"),
    [
        *((2, 1), (3, 6), (4, 84), (5, 2_441)),
        pytest.param(6, 62_010, marks=pytest.mark.slow),
        pytest.param(7, 359_082, marks=pytest.mark.slow),
    ],
)
def test_every_cell_of_the_benchmark_is_a_member(vertices, cells):
    # 423,624 in all. Whether a graph is a member does not hang on its operations.
    kinds = set()
    for chosen in graphs(vertices):
        matrix = matrix_from(chosen, vertices)
        operations = ("input", *[POOL] * (vertices - 2), "output")
        architecture = nb101.from_matrix(matrix, operations)
        assert nb101.to_matrix(architecture) == (tuple(map(tuple, matrix)), operations)
        kinds.add(renumber(Cell((POOL,) * (vertices - 2), chosen)).edges)
    found = 0
    for pairs in kinds:
        labels = product((CONV3, CONV1, POOL), repeat=vertices - 2)
        found += len({renumber.__wrapped__(Cell(each, pairs)) for each in labels})
    assert found == cells


@settings(deadline=None, max_examples=50)
@given(seeds)
def test_every_architecture_is_a_valid_cell(seed):
    architecture = parti.sample(CELLS, Random(seed))
    matrix, operations = nb101.to_matrix(architecture)
    pairs = {(i, j) for i, row in enumerate(matrix) for j, entry in enumerate(row) if entry}
    assert len(operations) <= 7
    assert len(pairs) <= 9
    assert prune(operations[1:-1], pairs) == Cell(operations[1:-1], tuple(sorted(pairs)))
    written = nb101.from_matrix(matrix, operations)
    assert nb101.to_matrix(written) == (matrix, operations)
    assert list(parti.validate(CELLS, written)) == list(written)
    graph = nb101.cell_graph(architecture)
    assert (graph.labels, set(graph.edges)) == (operations, pairs)


@settings(deadline=None, max_examples=60)
@given(seeds)
def test_renumbering_vertices_changes_neither_form_nor_hash(seed):
    random = Random(seed)
    architecture = parti.sample(CELLS, random)
    matrix, operations = nb101.to_matrix(architecture)
    order, left = [], list(range(len(operations)))
    while left:
        ready = [v for v in left if not any(matrix[u][v] for u in left)]
        order.append(random.choice([v for v in ready if v > 0] or ready) if order else 0)
        left.remove(order[-1])
    moved = [[matrix[i][j] for j in order] for i in order]
    other = nb101.from_matrix(moved, [operations[i] for i in order])
    assert nb101.canonical_cell(other) == nb101.canonical_cell(architecture)
    assert nb101.cell_hash(other) == nb101.cell_hash(architecture)


def test_forms_are_told_apart_as_hashes_are():
    random = Random(0)
    drawn = [parti.sample(CELLS, random) for _ in range(500)]
    forms = [nb101.canonical_cell(architecture) for architecture in drawn]
    pairs = set(zip(forms, map(nb101.cell_hash, drawn), strict=True))
    assert len(pairs) == len({form for form, _ in pairs}) == len({known for _, known in pairs})


@pytest.mark.shared_data
def test_hashes_and_parameters_are_those_of_the_benchmark():
    columns = ["hash", "num_vertices", "adjacency_upper", "ops", "trainable_parameters"]
    rows = Random(0).sample(table("nasbench101_subset/nb101_20001.parquet", columns), 500)
    cells = [nb101.from_matrix(*matrix_of(row)) for row in rows]
    for row, cell in zip(rows, cells, strict=True):
        assert nb101.cell_hash(cell) == row["hash"]
    for row, cell in list(zip(rows, cells, strict=True))[:40]:
        assert params(CELLS, cell) == row["trainable_parameters"]


def test_vertices_on_no_path_are_left_out():
    # Vertex 1 leads nowhere, vertex 3 comes from nowhere.
    matrix = matrix_from({(0, 1), (0, 2), (2, 4), (3, 4)}, 5)
    cell = nb101.from_matrix(matrix, ["input", POOL, CONV3, CONV1, "output"])
    assert nb101.to_matrix(cell) == (((0, 1, 0), (0, 0, 1), (0, 0, 0)), ("input", CONV3, "output"))


def test_five_vertices_never_all_read_the_input():
    first = {f"extra{i}": "none" for i in (1, 2, 3)}
    met = []

    def pick(choice):
        met.append(choice)
        return first.get(choice.name, choice.options[0])

    CELLS.walk(pick)
    assert met[-2].name == "vertex5/inner source"
    assert met[-2].options == ("1", "2", "3", "4")


def test_an_extra_edge_that_would_be_the_tenth_does_nothing():
    # Vertices 1 to 4 read the input and 5 reads 1, so that 2 to 5 go to the output: 9 edges.
    cell = {f"vertex{i}/source": "input" for i in (2, 3, 4)} | {"vertex5/inner source": "1"}
    cell |= {f"vertex{i}/operation": CONV3 for i in range(1, 6)}

    def with_extras(*extras):
        architecture = {f"extra{i}": extra for i, extra in enumerate(extras, start=1)} | cell
        matrix, _ = nb101.to_matrix(parti.validate(CELLS, architecture))
        return {(i, j) for i, row in enumerate(matrix) for j, entry in enumerate(row) if entry}

    plain = with_extras("none", "none", "none")
    assert len(plain) == 9
    assert with_extras("input-5", "input-output", "none") == plain
    # Vertex 2 need not go to the output where another one reads it.
    assert with_extras("2-3", "none", "none") == plain - {(2, 6)} | {(2, 3)}


def test_a_vertex_less_leaves_room_for_two_edges():
    extras = {"extra1": "one vertex less"}
    cell = CELLS.walk(lambda choice: extras.get(choice.name, choice.options[0]))
    assert [name for name in cell if name.startswith("extra")] == [f"extra{i}" for i in range(1, 6)]
    assert len(nb101.to_matrix(cell)[1]) == 6


@pytest.mark.parametrize(
    ("pairs", "n", "operations", "match"),
    [
        ({(0, 1)}, 2, ["input", CONV3, "output"], "2 rows with 3 operations; give a square one"),
        ({(0, 1)}, 2, [CONV3, "output"], "the first is 'input'"),
        ({(0, 1), (1, 2)}, 3, ["input", "conv", "output"], "those in between are of conv3x3"),
        ({(0, 1), (2, 1), (1, 2)}, 3, ["input", CONV3, "output"], "goes back"),
        ({(0, 1)}, 3, ["input", CONV3, "output"], "no path"),
        (
            {(0, i) for i in range(1, 6)} | {(i, 6) for i in range(1, 6)},
            *(7, ["input", *[CONV3] * 5, "output"]),
            "7 vertices and 10 edges; there are at most 7 and 9",
        ),
        (
            {(i, i + 1) for i in range(7)},
            *(8, ["input", *[CONV3] * 6, "output"]),
            "8 vertices and 7 edges; there are at most 7 and 9",
        ),
    ],
)
def test_what_is_no_cell_of_nasbench101_is_refused(pairs, n, operations, match):
    with pytest.raises(InvalidArchitecture, match=match):
        nb101.from_matrix(matrix_from(pairs, n), operations)


def test_decisions_that_are_none_are_refused():
    architecture = parti.sample(CELLS, Random(0)).decisions
    with pytest.raises(InvalidArchitecture, match=r"has 'nothing' for choice 'extra1'"):
        nb101.cell_hash({**architecture, "extra1": "nothing"})
    del architecture["vertex1/operation"]
    with pytest.raises(InvalidArchitecture, match=r"lacks choice 'vertex1/operation'"):
        nb101.to_matrix(architecture)


def test_parameters_of_small_cells():
    # Stem and classifier, and in each cell a projection and perhaps a 3×3 convolution.
    outs = [*[128] * 3, *[256] * 3, *[512] * 3]
    project = sum(i * o + 2 * o for i, o in zip([128, *outs], outs, strict=False))
    cell = nb101.from_matrix(matrix_from({(0, 1)}, 2), ["input", "output"])
    assert params(CELLS, cell) == 3_712 + project + 5_130
    cell = nb101.from_matrix(matrix_from({(0, 1), (1, 2)}, 3), ["input", CONV3, "output"])
    assert params(CELLS, cell) == 3_712 + project + sum(9 * o * o + 2 * o for o in outs) + 5_130


def test_channels_are_divided_among_what_feeds_the_output():
    feeding = [(1, 4), (2, 4), (3, 4)]
    reading = [(0, 1), (0, 2), (0, 3)]
    assert vertex_widths(3, reading + feeding, 128) == [43, 43, 42]
    # Vertex 1 is as wide as the widest that it feeds, which takes what it needs of it.
    inside = [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)]
    assert vertex_widths(3, inside, 9) == [5, 5, 4]
    cell = VertexCell(2, 9, [CONV1, POOL, CONV1], inside)
    assert cell(torch.randn(1, 2, 4, 4)).shape == (1, 9, 4, 4)


def test_a_cell_concatenates_and_adds_the_projected_input():
    cell = VertexCell(2, 4, [POOL, POOL], [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]).eval()
    x = torch.randn(1, 2, 1, 1)
    one, two, whole = (cell.projections[key](x) for key in "123")
    assert torch.allclose(cell(x), torch.cat([one, two], dim=1) + whole)


def test_walking_builds_nothing(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("built")

    monkeypatch.setattr(nb101, "stack_vertex_cells", refuse)
    architecture = parti.sample(CELLS, Random(0))
    with pytest.raises(AssertionError, match="built"):
        CELLS.build(architecture)


def test_programs_know_whether_they_build():
    said = []

    @parti.space
    def program():
        said.append(building())
        parti.choose("width", [1, 2])
        return nn.Identity()

    assert building()
    architecture = parti.sample(program, Random(0))
    assert not any(said)
    program.build(architecture)
    assert said[-1]


def test_cells_are_composed_into_other_programs():
    @parti.space
    def scaled():
        return nn.Sequential(nn.Conv2d(1, 3, parti.choose("kernel", [1, 3])), CELLS())

    architecture = parti.sample(scaled, Random(0))
    with torch.device("meta"):
        assert scaled.build(architecture)(torch.empty(2, 1, 16, 16)).shape == (2, 10)


@pytest.mark.parametrize("sizes", [{"cells": 0}, {"stacks": 0}, {"channels": 4}])
def test_a_network_without_cells_or_channels_is_refused(sizes):
    with pytest.raises(InvalidSettings, match="at least 5 channels"):
        parti.sample(CELLS(**sizes), Random(0))
