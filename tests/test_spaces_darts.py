"""DARTS: networks with the published numbers of parameters, cells that differ only by names."""

import itertools
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import parti
from parti.core.errors import InvalidArchitecture, InvalidSettings
from parti.core.walks import graph_of
from parti.networks.darts import DropPath, auxiliary_head
from parti.spaces.darts import GENOTYPES, darts, from_genotype, to_genotype
from parti.spaces.isomorphism import certificate
from parti.testing import SpaceSuite

torch.set_num_threads(1)
SPACE = darts(1, 3, 8, channels=4, cells=3)
KINDS = ("normal", "reduction", "reduction")
NODES = range(1, 5)
seeds = st.integers(0, 2**32)
kinds = st.sampled_from(["normal", "reduction"])


def drawn(seed):
    return parti.sample(SPACE, Random(seed))


def params(network):
    # As in the paper: without the auxiliary head, which is thrown away after training.
    return sum(p.numel() for key, p in network.named_parameters() if "auxiliary" not in key)


class TestDarts(SpaceSuite):
    def make(self):
        return SPACE


# --- what was published ----------------------------------------------------------------------


def test_there_are_some_10_to_the_18_architectures():
    # Each node: two of its 2, 3, 4 or 5 sources, and one of 7 operations for both.
    cell = 1 * 3 * 6 * 10 * (7 * 7) ** 4
    assert parti.size(SPACE) == cell**2
    assert f"{cell**2:.1e}" == "1.1e+18"


@pytest.mark.parametrize(("resolution", "sizes"), [(32, (36, 20, 10)), (224, (48, 14, 1000))])
def test_the_second_order_cells_have_the_published_parameters(resolution, sizes):
    # The authors' code prints 3.349342 MB for CIFAR-10; they say 4.719 MB for ImageNet.
    channels, cells, classes = sizes
    with torch.device("meta"):
        space = darts(3, classes, resolution, channels=channels, cells=cells, auxiliary=True)
        network = space.build(from_genotype(GENOTYPES["DARTS_V2"]))
    assert params(network) == {32: 3_349_342, 224: 4_718_752}[resolution]


@pytest.mark.parametrize(
    ("name", "cifar", "imagenet"),
    [("DARTS_V2", 3.3, 4.7), ("P_DARTS", 3.4, 4.9), ("PC_DARTS", 3.6, 5.3), ("GDAS", 3.4, None)],
)
def test_cells_of_the_literature_have_the_parameters_in_its_tables(name, cifar, imagenet):
    architecture = from_genotype(GENOTYPES[name])
    with torch.device("meta"):
        assert round(params(darts(channels=36, cells=20).build(architecture)) / 1e6, 1) == cifar
        if imagenet:
            large = darts(3, 1000, 224, channels=48, cells=14).build(architecture)
            assert round(params(large) / 1e6, 1) == imagenet


def test_reduction_cells_stand_after_one_and_two_thirds():
    with torch.device("meta"):
        network = darts(channels=4, cells=8).build(drawn(0))
        sizes = []
        for cell in network.cells:
            cell.register_forward_hook(lambda _, x, y: sizes.append(tuple(y.shape[1:])))
        network(torch.empty(2, 3, 32, 32))
    assert sizes == [(16, 32, 32)] * 2 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3


@pytest.mark.parametrize(("resolution", "last"), [(8, 2), (32, 8), (64, 16), (96, 3), (224, 7)])
def test_the_stem_suits_the_resolution(resolution, last):
    with torch.device("meta"):
        network = darts(1, 7, resolution, channels=4, cells=4).build(drawn(1))
        sizes = []
        network.head.register_forward_pre_hook(lambda _, x: sizes.append(x[0].shape[-1]))
        assert network(torch.empty(2, 1, resolution, resolution)).shape == (2, 7)
    assert sizes == [last]


@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from([8, 9, 15, 65]))
def test_members_learn(seed, resolution):
    torch.manual_seed(0)
    network = darts(1, 3, resolution, channels=4, cells=3).build(drawn(seed))
    logits = network(torch.randn(2, 1, resolution, resolution))
    loss = nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite()
    for key, parameter in network.named_parameters():
        # Nobody need use an input of a cell.
        assert parameter.grad is not None or ".enter." in key or "stem" in key, key


@pytest.mark.parametrize("sizes", [{"cells": 2}, {"channels": 0}, {"channels": 5}])
def test_sizes_that_make_no_network_are_refused(sizes):
    with pytest.raises(InvalidSettings, match="at least 3 cells and an even number"):
        darts(**sizes).build(drawn(0))


# --- training only ---------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [16, 32, 224])
def test_the_auxiliary_head_is_there_in_training_only(resolution):
    with torch.device("meta"):
        space = darts(1, 3, resolution, channels=4, cells=4, auxiliary=True)
        network, images = space.build(drawn(2)), torch.empty(2, 1, resolution, resolution + 8)
        logits, aside = network(images)
        assert logits.shape == aside.shape == (2, 3)
        assert network.eval()(images).shape == (2, 3)


def test_the_auxiliary_head_pools_as_in_the_paper():
    for size, kernel, stride in ((8, 5, 3), (7, 5, 2)):
        pool = auxiliary_head(16, 10, size).windows
        assert (pool.kernel_size, pool.stride) == (kernel, stride)
    with pytest.raises(InvalidSettings, match="at least 3×3 pixels, but has 2×2"):
        darts(1, 3, 8, auxiliary=True).build(drawn(0))


def test_drop_path_zeroes_images_and_keeps_the_mean():
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(4000, 2, 3, 3)
    dropped = drop(x)
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert (dropped.flatten(1).amin(1) == dropped.flatten(1).amax(1)).all()
    assert dropped.mean() == pytest.approx(1.0, abs=0.05)
    drop.rate = 0.0
    assert drop(x) is x
    assert DropPath(0.9).eval()(x) is x
    with pytest.raises(InvalidSettings, match=r"drop_path=1\.0"):
        DropPath(1.0)


def test_identities_are_never_dropped():
    decisions = drawn(0).decisions
    for name in decisions:
        if name.endswith("operation"):
            decisions[name] = "skip_connect"
    torch.manual_seed(0)
    network = darts(1, 3, 8, channels=4, cells=3, drop_path=0.999).build(decisions)
    normal, reduction, _ = network.cells
    images = torch.randn(3, 12, 8, 8)
    before = normal(images, images)
    assert before.flatten(1).abs().amax(1).min() > 0
    # A reduction cell's skips of its inputs are convolutions, and are dropped.
    assert reduction(images, before).abs().max() == 0


# --- genotypes -------------------------------------------------------------------------------


@settings(deadline=None)
@given(seeds)
def test_genotypes_give_the_same_back(seed):
    architecture = drawn(seed)
    again = from_genotype(to_genotype(architecture))
    assert again == architecture
    assert list(again) == list(architecture)


@pytest.mark.parametrize("name", GENOTYPES)
def test_genotypes_of_the_literature_are_members(name):
    architecture = from_genotype(GENOTYPES[name])
    assert list(parti.validate(SPACE, architecture)) == list(architecture)
    with_range = GENOTYPES[name].replace("[2, 3, 4, 5]", "range(2, 6)")
    assert from_genotype(f"\n {with_range} \n") == architecture


def test_a_genotype_says_operation_and_source():
    architecture = from_genotype(GENOTYPES["DARTS_V2"])
    # The last pairs: ('skip_connect', 0), ('dil_conv_3x3', 2): earlier cell, first node.
    assert architecture["normal/node4/inputs"] == ("earlier", "node1")
    assert architecture["normal/node4/inputs=earlier/operation"] == "skip_connect"
    assert architecture["normal/node4/inputs=node1/operation"] == "dil_conv_3x3"
    assert architecture["reduction/node1/inputs"] == ("earlier", "previous")


GOOD = GENOTYPES["DARTS_V2"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Genotype(", "not a genotype"),
        ("print('hello')", "not a genotype"),
        ("Genotype(normal=[])", "not a genotype"),
        (GOOD.replace("[2, 3, 4, 5]", "{2: 3}"), "not a genotype"),
        (GOOD.replace("[2, 3, 4, 5]", "range(a, 6)"), "not a genotype"),
        (GOOD.replace("[2, 3, 4, 5]", "open('x')"), "not a genotype"),
        (GOOD.replace("[2, 3, 4, 5]", "range(2, 10**9)"), "not a genotype"),
        (GOOD.replace("[2, 3, 4, 5]", "range(2, 1000000000)"), "concatenate all of their 4"),
        (GOOD.replace("[2, 3, 4, 5]", "[3, 4, 5]"), "concatenate all of their 4"),
        (GOOD.replace("('skip_connect', 0), ", "", 1), "7 pairs"),
        (GOOD.replace("sep_conv_3x3", "none", 1), r"node 1 of normal has \('none', 0\)"),
        (GOOD.replace("'sep_conv_3x3', 1", "'sep_conv_3x3', 2", 1), "sources 0 to 1"),
        (GOOD.replace("'sep_conv_3x3', 1", "'sep_conv_3x3', 0", 1), "source 0 twice"),
        (GOOD.replace("('sep_conv_3x3', 1)", "3", 1), "node 1 of normal has 3"),
    ],
)
def test_what_is_no_genotype_is_refused(text, says):
    with pytest.raises(InvalidArchitecture, match=says):
        from_genotype(text)


def test_what_is_no_member_has_no_genotype():
    with pytest.raises(InvalidArchitecture, match="lacks choice 'normal/node1/inputs'"):
        to_genotype({})


# --- cells that differ only by names ---------------------------------------------------------


def orders(architecture, kind):
    """Every order of a cell's nodes in which sources come before what uses them."""
    uses = {n: set(architecture[f"{kind}/node{n}/inputs"]) for n in NODES}
    for order in itertools.permutations(NODES):
        if all(
            f"node{later}" not in uses[n]
            for place, n in enumerate(order)
            for later in order[place:]
        ):
            yield order


def renumbered(architecture, kind, order):
    """The architecture with node order[i] as node i + 1."""
    names = {f"node{old}": f"node{new}" for new, old in enumerate(order, start=1)}
    sources = ("earlier", "previous", "node1", "node2", "node3")
    decisions = {}
    for name, option in architecture.items():
        if name.startswith(f"{kind}/"):
            _, node, *rest = name.split("/")
            if isinstance(option, tuple):
                option = tuple(sorted((names.get(o, o) for o in option), key=sources.index))
            else:
                source = rest[0].partition("=")[2]
                rest[0] = f"inputs={names.get(source, source)}"
            name = "/".join((kind, names[node], *rest))
        decisions[name] = option
    return parti.validate(SPACE, decisions)


@settings(deadline=None)
@given(seeds, kinds, st.data())
def test_numbering_nodes_otherwise_does_not_change_form_or_graph(seed, kind, data):
    architecture = drawn(seed)
    order = data.draw(st.sampled_from(list(orders(architecture, kind))))
    other = renumbered(architecture, kind, order)
    assert parti.canonical(SPACE, other) == parti.canonical(SPACE, architecture)
    graphs = [graph_of(SPACE, a) for a in (other, architecture)]
    assert certificate(graphs[0]) == certificate(graphs[1])


@settings(deadline=None)
@given(seeds)
def test_other_cells_have_other_forms_and_graphs(seed):
    form = parti.canonical(SPACE, drawn(seed))
    other = parti.canonical(SPACE, parti.mutate(SPACE, form, Random(seed)))
    graphs = [certificate(graph_of(SPACE, a)) for a in (form, other)]
    assert (form == other) == (graphs[0] == graphs[1])


def test_a_cell_is_drawn_with_inputs_operations_nodes_and_output():
    graph = graph_of(SPACE, from_genotype(GENOTYPES["DARTS_V1"]))
    assert len(graph.labels) == 2 * (2 + 8 + 4 + 1)
    assert graph.labels.count("normal/sep_conv_3x3") == 5
    assert graph.labels.count("reduction/max_pool_3x3") == 4
    assert graph.labels.count("reduction/node") == 4
    half = len(graph.labels) // 2
    assert all((start < half) == (end < half) for start, end in graph.edges)


@settings(max_examples=15, deadline=None)
@given(seeds, kinds, st.data())
def test_isomorphic_architectures_with_permuted_weights_compute_the_same(seed, kind, data):
    architecture = drawn(seed)
    order = data.draw(st.sampled_from(list(orders(architecture, kind))))
    other = renumbered(architecture, kind, order)
    names = {f"node{old}": f"node{new}" for new, old in enumerate(order, start=1)}

    torch.manual_seed(seed)
    network = SPACE.build(architecture).eval()
    weights = {}
    for key, value in network.state_dict().items():
        parts = key.split(".")
        cell = int(parts[1]) if parts[0] == "cells" else None
        if cell is not None and parts[2] == "nodes" and KINDS[cell] == kind:
            parts[3] = str(int(names[f"node{int(parts[3]) + 1}"].removeprefix("node")) - 1)
            parts[4] = names.get(parts[4], parts[4])
        # What reads the concatenated nodes of such a cell has its inputs in the new order.
        if cell is not None and parts[2] == "enter" and value.dim() == 4:
            source = cell - (1 if parts[3] == "previous" else 2)
            if source >= 0 and KINDS[source] == kind:
                value = torch.cat([value.chunk(4, dim=1)[old - 1] for old in order], dim=1)
        if key == "head.classifier.weight" and KINDS[-1] == kind:
            value = torch.cat([value.chunk(4, dim=1)[old - 1] for old in order], dim=1)
        weights[".".join(parts)] = value
    twin = SPACE.build(other).eval()
    twin.load_state_dict(weights)
    x = torch.randn(2, 1, 8, 8)
    assert torch.allclose(twin(x), network(x), atol=1e-4)


def test_most_random_cells_have_twins():
    moved = sum(parti.canonical(SPACE, drawn(seed)) != drawn(seed) for seed in range(50))
    assert moved > 25
