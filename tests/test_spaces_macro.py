"""NAS-Bench-Macro and TransNAS-Bench-101: exact sizes, published networks, strings, twins."""

import itertools
from random import Random

import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import parti
from parti.core.errors import InvalidArchitecture, InvalidSettings
from parti.core.graph import Graph
from parti.core.walks import graph_of
from parti.networks.nasbench201 import EDGES, EdgeCell
from parti.networks.transnas import edge_operations
from parti.spaces import nasbench_macro as macro
from parti.spaces import transnas
from parti.spaces.isomorphism import certificate
from parti.spaces.nasbench_macro import nasbench_macro
from parti.spaces.transnas import (
    macro_from_string,
    macro_to_string,
    micro_from_string,
    micro_to_string,
    transnas_macro,
    transnas_micro,
)
from parti.testing import SpaceSuite

torch.set_num_threads(1)
LAYERS, CELLS, SKELETONS = nasbench_macro(), transnas_micro(), transnas_macro()
ALL = {"nasbench_macro": LAYERS, "transnas_micro": CELLS, "transnas_macro": SKELETONS}
seeds = st.integers(0, 2**32)


def params(network):
    return sum(parameter.numel() for parameter in network.parameters())


def built(space, architecture, *images, **sizes):
    with torch.device("meta"):
        return space(*images, **sizes).build(architecture)


class TestNasBenchMacro(SpaceSuite):
    def make(self):
        return LAYERS


class TestTransNasMicro(SpaceSuite):
    def make(self):
        return CELLS


class TestTransNasMacro(SpaceSuite):
    def make(self):
        return SKELETONS


# --- all three -------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [8, 33, 64, 224])
@pytest.mark.parametrize("name", ALL)
def test_members_take_images_of_any_size(name, resolution):
    with torch.device("meta"):
        for seed in range(4):
            architecture = parti.sample(ALL[name], Random(seed))
            network = ALL[name](1, 7, resolution, channels=8).build(architecture)
            assert network(torch.empty(2, 1, resolution, resolution + 5)).shape == (2, 7)


@pytest.mark.parametrize("name", ALL)
def test_members_learn(name):
    for seed in range(4):
        torch.manual_seed(seed)
        architecture = parti.sample(ALL[name], Random(seed))
        network = ALL[name](1, 3, 16, channels=4).build(architecture)
        loss = nn.functional.cross_entropy(network(torch.randn(4, 1, 16, 16)), torch.arange(4) % 3)
        loss.backward()
        assert loss.isfinite()
        for key, parameter in network.named_parameters():
            # An operation of a cell may lead nowhere.
            assert parameter.grad is not None or ".edges." in key, key


@pytest.mark.parametrize("name", ALL)
def test_no_channels_are_refused(name):
    with pytest.raises(InvalidSettings, match="channels=0"):
        ALL[name](channels=0).build(parti.sample(ALL[name], Random(0)))


# --- NAS-Bench-Macro -------------------------------------------------------------------------


def test_there_are_6561_networks_of_which_3969_differ():
    members = list(parti.architectures(LAYERS))
    assert len(members) == 6561
    # Stages of 2, 3 and 3 layers: 3 firsts, and sequences of at most 1, 2 and 2 that do something.
    assert 3 * 3 * (3 * (1 + 2 + 4)) ** 2 == 3969
    forms = {parti.canonical(LAYERS, member) for member in members}
    assert len(forms) == 3969
    assert len({certificate(graph_of(LAYERS, form)) for form in forms}) == 3969


@pytest.mark.parametrize(
    ("text", "published"),
    # Counted from the layers of the benchmark's own code.
    [("00000000", 387_882), ("11111111", 1_588_874), ("22222222", 2_932_586),
     ("01202201", 1_399_018)],
)  # fmt: skip
def test_layers_have_the_published_parameters(text, published):
    assert params(built(LAYERS, macro.from_string(text))) == published


def test_the_first_layer_of_a_stage_halves_and_doubles():
    with torch.device("meta"):
        network = LAYERS.build(macro.from_string("01202201"))
        shapes = {}
        for part in ("stem", "stage1", "stage2", "stage3", "features"):
            getattr(network, part).register_forward_hook(
                lambda _, x, y, part=part: shapes.update({part: tuple(y.shape[1:])})
            )
        network(torch.empty(1, 3, 32, 32))
    assert shapes == {
        "stem": (32, 32, 32),
        "stage1": (64, 16, 16),
        "stage2": (128, 8, 8),
        "stage3": (256, 4, 4),
        "features": (1280, 4, 4),
    }


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_identities_may_be_moved_within_their_stage(seed):
    random = Random(seed)
    architecture = parti.sample(LAYERS, random)
    form = parti.canonical(LAYERS, architecture)
    for stage in macro.STAGES:
        first, *later = stage
        assert form[first] == architecture[first]
        kept = [architecture[name] for name in later if architecture[name] != "identity"]
        assert [form[name] for name in later if form[name] != "identity"] == kept
        assert [form[name] for name in later][: len(kept)] == kept
    graphs = [graph_of(LAYERS, a) for a in (architecture, form)]
    assert graphs[0] == graphs[1]
    torch.manual_seed(0)
    one = LAYERS(channels=2).build(architecture).eval()
    torch.manual_seed(0)
    other = LAYERS(channels=2).build(form).eval()
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(one(x), other(x))


@given(seeds)
@settings(deadline=None)
def test_strings_of_layers_give_the_same_back(seed):
    architecture = parti.sample(LAYERS, Random(seed))
    assert macro.from_string(macro.to_string(architecture)) == architecture
    assert list(macro.from_string(macro.to_string(architecture))) == list(architecture)


def test_a_string_of_layers_has_a_digit_for_each():
    architecture = macro.from_string("01202201")
    assert architecture["stage1/layer1"] == "identity"
    assert architecture["stage1/layer2"] == "mb3_k3"
    assert architecture["stage2/layer1"] == "mb6_k5"


@pytest.mark.parametrize("text", ["", "0120220", "012022013", "01202203", "0120220a", "٠1202201"])
def test_what_is_no_string_of_layers_is_refused(text):
    with pytest.raises(InvalidArchitecture, match="8 digits from 0 to 2"):
        macro.from_string(text)


# --- TransNAS-Bench-101, skeletons -----------------------------------------------------------


def test_there_are_the_3256_skeletons_of_the_benchmark():
    members = {macro_to_string(member) for member in parti.architectures(SKELETONS)}
    expected = {
        f"64-{''.join(digits)}-basic"
        for count in (4, 5, 6)
        for digits in itertools.product("1234", repeat=count)
        if 1 <= sum(digit in "34" for digit in digits) <= 4
        and 1 <= sum(digit in "24" for digit in digits) <= 3
    }
    assert parti.size(SKELETONS) == len(members) == 3256
    assert members == expected


def test_the_digits_of_a_skeleton_say_what_modules_do():
    with torch.device("meta"):
        network = transnas_macro(3, 75, 256).build(macro_from_string("64-1234-basic"))
        shapes = []
        for part in network[:-1]:
            part.register_forward_hook(lambda _, x, y: shapes.append(tuple(y.shape[1:])))
        network(torch.empty(1, 3, 256, 256))
    assert shapes == [(64, 64, 64), (64, 64, 64), (128, 64, 64), (128, 32, 32), (256, 16, 16)]


@pytest.mark.parametrize(
    ("text", "published"),
    # Counted from the layers of the benchmark's own code, with 75 classes (class_object).
    [("64-1234-basic", 3_419_499), ("64-2311-basic", 2_343_915)],
)
def test_skeletons_have_the_published_parameters(text, published):
    assert params(built(SKELETONS, macro_from_string(text), 3, 75, 256)) == published


@settings(deadline=None)
@given(seeds)
def test_strings_of_skeletons_give_the_same_back(seed):
    architecture = parti.sample(SKELETONS, Random(seed))
    again = macro_from_string(macro_to_string(architecture))
    assert list(again.items()) == list(architecture.items())


@pytest.mark.parametrize(
    "text",
    ["", "64-1234", "32-1234-basic", "64-123-basic", "64-1234567-basic", "64-1111-basic",
     "64-4444-basic", "64-2222-basic", "64-1235-basic", "64-1234-bottleneck",
     "64-41414-1_02_333"],
)  # fmt: skip
def test_what_is_no_skeleton_is_refused(text):
    with pytest.raises(InvalidArchitecture, match="64-1234-basic, with 4 to 6 modules"):
        macro_from_string(text)


def test_a_skeleton_is_drawn_as_a_chain():
    graph = graph_of(SKELETONS, macro_from_string("64-1234-basic"))
    assert graph.labels == ("input", "plain", "doubled", "halved", "halved, doubled", "output")
    assert graph.edges == ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5))


# --- TransNAS-Bench-101, cells ---------------------------------------------------------------


def test_the_string_of_a_cell_says_what_each_edge_is():
    # The benchmark's example: node1 = skip(node0), node2 = none(node0) + conv1x1(node1), ...
    assert micro_from_string("64-41414-1_02_333").decisions == {
        "edge0-1": "skip",
        "edge0-2": "none",
        "edge1-2": "conv1x1",
        "edge0-3": "conv3x3",
        "edge1-3": "conv3x3",
        "edge2-3": "conv3x3",
    }


def test_there_are_4096_cells():
    members = {micro_to_string(member) for member in parti.architectures(CELLS)}
    assert parti.size(CELLS) == len(members) == 4096
    assert all(list(micro_from_string(text)) == list(transnas.CHOICES) for text in members)


@pytest.mark.parametrize(
    ("classes", "published"),
    # Counted from the layers of the benchmark's own code, with the heads of class_scene,
    # class_object and room_layout.
    [(47, 41_435_727), (75, 41_450_091), (9, 41_416_233)],
)
def test_cells_have_the_published_parameters(classes, published):
    cell = micro_from_string("64-41414-3_33_333")
    assert params(built(CELLS, cell, 3, classes, 256)) == published


@pytest.mark.parametrize(
    "text",
    ["", "1_02_333", "64-41414-1_02_334", "64-41414-102_333", "64-4141-1_02_333",
     "64-41414-1_02_3333", "64-1234-basic"],
)  # fmt: skip
def test_what_is_no_cell_is_refused(text):
    with pytest.raises(InvalidArchitecture, match="a digit from 0 to 3 for each edge"):
        micro_from_string(text)


def test_what_is_no_member_has_no_string():
    for write in (micro_to_string, macro_to_string, macro.to_string):
        with pytest.raises(InvalidArchitecture, match="lacks choice"):
            write({})


def form_of(digits):
    return micro_to_string(parti.canonical(CELLS, micro_from_string(f"64-41414-{digits}")))[9:]


def test_what_has_no_effect_is_left_out_of_the_form():
    # Nothing arrives at node 1, so nothing comes of it; node 2 leads nowhere.
    assert form_of("0_00_320") == form_of("0_33_300") == form_of("0_01_300") == "0_00_300"
    # No path at all.
    assert form_of("3_33_000") == form_of("0_01_011") == "0_00_000"


def test_a_skip_between_later_nodes_is_the_identity_but_not_one_of_the_input():
    # conv3x3 of node 0, skipped on: as if it led to the output.
    assert form_of("3_01_001") == form_of("3_00_010") == form_of("0_00_300")
    # In modules that halve images, skip and then conv3x3 is not conv3x3.
    assert form_of("1_00_030") != form_of("0_00_300")


def test_one_operation_used_twice_is_not_two_equal_operations():
    # conv3x3(y) + conv1x1(y) with y = conv3x3(x), against y = conv3x3(x) and z = conv3x3(x).
    assert form_of("3_01_032") != form_of("3_30_032")
    assert form_of("3_30_032") == form_of("3_30_023")


def test_there_are_1376_forms_and_each_is_the_first_of_its_kind():
    members = list(parti.architectures(CELLS))
    forms = {}
    for member in members:
        forms.setdefault(certificate(graph_of(CELLS, member)), member)
    assert len(forms) == 1376
    for member in members[::37]:
        form = forms[certificate(graph_of(CELLS, member))]
        assert parti.canonical(CELLS, member) == form


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([(4, 4, 1), (4, 8, 2)]))
def test_a_cell_and_its_form_compute_the_same_with_the_same_weights(seed, sizes):
    architecture = parti.sample(CELLS, Random(seed))
    form = parti.canonical(CELLS, architecture)
    torch.manual_seed(seed)
    x = torch.randn(2, 4, 6, 6)
    original, twin = (edges_of(a, sizes) for a in (architecture, form))
    expected = EdgeCell(original).eval()(x)
    weighted = [edge for edge in EDGES if len(list(twin[edge].parameters()))]
    # Some way of giving the form operations of the original makes them equal.
    for chosen in itertools.permutations(EDGES, len(weighted)):
        pairs = list(zip(weighted, chosen, strict=True))
        if all(form[f"edge{new}"] == architecture[f"edge{old}"] for new, old in pairs) and all(
            new[0] == old[0] or "0" not in (new[0], old[0]) for new, old in pairs
        ):
            moved = EdgeCell({**twin, **{new: original[old] for new, old in pairs}}).eval()
            if torch.allclose(moved(x), expected, atol=1e-5):
                return
    pytest.fail(f"{micro_to_string(architecture)} is not {micro_to_string(form)}")


def edges_of(architecture, sizes):
    before, after, stride = sizes
    edges = {}
    for edge in EDGES:
        entering = edge[0] == "0"
        shape = (before, after, stride) if entering else (after, after, 1)
        edges[edge] = edge_operations(*shape)[architecture[f"edge{edge}"]]()
    return edges


# --- certificates ----------------------------------------------------------------------------


@st.composite
def graphs(draw):
    count = draw(st.integers(0, 6))
    labels = draw(st.lists(st.sampled_from("ab"), min_size=count, max_size=count))
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=9)) if pairs else []
    return Graph(tuple(labels), tuple(edges))


def as_networkx(graph):
    drawn = networkx.MultiDiGraph()
    drawn.add_nodes_from((place, {"label": label}) for place, label in enumerate(graph.labels))
    drawn.add_edges_from(graph.edges)
    return drawn


@settings(deadline=None, max_examples=200)
@given(graphs(), graphs(), st.randoms(use_true_random=False))
def test_certificates_are_equal_for_isomorphic_graphs_only(one, other, random):
    places = list(range(len(one.labels)))
    random.shuffle(places)
    shuffled = Graph(
        tuple(one.labels[places.index(place)] for place in range(len(places))),
        tuple((places[start], places[end]) for start, end in reversed(one.edges)),
    )
    assert certificate(shuffled) == certificate(one)
    same = networkx.is_isomorphic(
        as_networkx(one), as_networkx(other), node_match=lambda a, b: a == b
    )
    assert (certificate(one) == certificate(other)) == same


def test_graphs_whose_vertices_all_look_alike_are_told_apart():
    # A ring of six against two rings of three, each vertex with two neighbours.
    ring = Graph(("a",) * 6, tuple((i, (i + 1) % 6) for i in range(6)))
    rings = Graph(("a",) * 6, ((0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)))
    assert certificate(ring) != certificate(rings)
