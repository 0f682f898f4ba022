"""Cells that differ only by names are one: the canonical form."""

import itertools
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import parti
from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.walks import graph_of
from parti.spaces.cell import cell
from parti.spaces.isomorphism import certificate

torch.set_num_threads(1)
NODES = 4
SPACE = cell(1, 3, 8, nodes=NODES)
SMALL_SPACE = cell(1, 3, 8, nodes=3)
seeds = st.integers(0, 2**32)


def drawn(seed, space=SPACE):
    return parti.sample(space, Random(seed))


def swapped(architecture, kind, number):
    """The architecture with the two sides of one node exchanged."""
    node = f"{kind}/node{number}/"
    exchange = {"left": "right", "right": "left"}
    decisions = {}
    for name, option in architecture.items():
        if name.startswith(node):
            side, what = name.removeprefix(node).split("/")
            name = f"{node}{exchange[side]}/{what}"
        decisions[name] = option
    return Architecture(decisions)


def orders(architecture, kind, nodes=NODES):
    """Every order of a cell's nodes in which inputs come before what uses them."""
    uses = {
        n: {architecture[f"{kind}/node{n}/{side}/input"] for side in ("left", "right")}
        for n in range(1, nodes + 1)
    }
    for order in itertools.permutations(uses):
        if all(
            f"node{later}" not in uses[n]
            for place, n in enumerate(order)
            for later in order[place:]
        ):
            yield order


def renumbered(architecture, kind, order):
    """The architecture with node order[i] as node i + 1."""
    names = {f"node{old}": f"node{new}" for new, old in enumerate(order, start=1)}
    decisions = {}
    for name, option in architecture.items():
        parts = name.split("/")
        if parts[0] == kind:
            parts[1] = names[parts[1]]
            if parts[3] == "input":
                option = names.get(option, option)
        decisions["/".join(parts)] = option
    return parti.validate(SPACE, decisions)


@settings(deadline=None)
@given(seeds)
def test_the_canonical_form_is_a_member_and_its_own(seed):
    architecture = drawn(seed)
    form = parti.canonical(SPACE, architecture)
    assert parti.validate(SPACE, form) == form
    assert list(form) == list(architecture)
    assert parti.canonical(SPACE, form) == form


@settings(deadline=None)
@given(seeds, st.sampled_from(["normal", "reduction"]), st.data())
def test_swapping_sides_and_renumbering_nodes_do_not_change_it(seed, kind, data):
    architecture = drawn(seed)
    other = renumbered(
        architecture, kind, data.draw(st.sampled_from(list(orders(architecture, kind))))
    )
    for number in data.draw(st.sets(st.integers(1, NODES))):
        other = swapped(other, kind, number)
    assert parti.canonical(SPACE, other) == parti.canonical(SPACE, architecture)


@settings(deadline=None)
@given(seeds)
def test_nodes_with_equal_expressions_are_told_apart(seed):
    # node3 of nodes 1 and 2, alike but not the same, against node3 of node 1 twice.
    architecture = drawn(seed, SMALL_SPACE).decisions
    for name in ("normal/node1", "normal/node2"):
        for side in ("left", "right"):
            architecture[f"{name}/{side}/input"] = "previous"
            architecture[f"{name}/{side}/operation"] = "conv3"
    for side in ("left", "right"):
        architecture[f"normal/node3/{side}/operation"] = "skip"
    of = {}
    for inputs in itertools.product(["node1", "node2"], repeat=2):
        architecture["normal/node3/left/input"] = inputs[0]
        architecture["normal/node3/right/input"] = inputs[1]
        of[inputs] = parti.canonical(SMALL_SPACE, Architecture(architecture))
    assert of["node1", "node1"] == of["node2", "node2"]
    assert of["node1", "node2"] == of["node2", "node1"]
    assert of["node1", "node1"] != of["node1", "node2"]


@settings(deadline=None)
@given(seeds, st.sampled_from(["normal", "reduction"]), st.data())
def test_swapping_and_renumbering_give_the_same_graph(seed, kind, data):
    architecture = drawn(seed)
    order = data.draw(st.sampled_from(list(orders(architecture, kind))))
    other = swapped(renumbered(architecture, kind, order), kind, data.draw(st.integers(1, NODES)))
    mutant = parti.mutate(SPACE, architecture, Random(seed))
    graphs = [certificate(graph_of(SPACE, a)) for a in (architecture, other, mutant)]
    assert graphs[0] == graphs[1]
    forms = [parti.canonical(SPACE, a) for a in (architecture, mutant)]
    assert (graphs[0] == graphs[2]) == (forms[0] == forms[1])


def test_the_graph_has_a_component_for_each_cell_and_the_width():
    architecture = drawn(0).taking(width=24)
    graph = graph_of(SPACE, architecture)
    assert [sum(label.startswith(kind) for label in graph.labels) for kind in ("n", "r")] == [
        15
    ] * 2
    assert graph.labels[-1] == "width=24"
    assert all((start < 15) == (end < 15) for start, end in graph.edges)


def output_with(architecture, weights, x):
    network = SPACE.build(architecture).eval()
    network.load_state_dict(weights)
    return network(x)


@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from(["normal", "reduction"]), st.data())
def test_isomorphic_architectures_with_permuted_weights_compute_the_same(seed, kind, data):
    architecture = drawn(seed)
    torch.manual_seed(seed)
    network = SPACE.build(architecture).eval()
    order = data.draw(st.sampled_from(list(orders(architecture, kind))))
    side = data.draw(st.integers(1, NODES))
    other = swapped(renumbered(architecture, kind, order), kind, side)

    kinds = ["normal", "reduction", "normal", "reduction", "normal"]
    new_place = {old - 1: new for new, old in enumerate(order)}
    weights = {}
    for key, value in network.state_dict().items():
        parts = key.split(".")
        if parts[0] == "cells" and parts[3] == "nodes" and kinds[int(parts[2])] == kind:
            parts[4] = str(new_place[int(parts[4])])
            if int(parts[4]) == side - 1:
                parts[5] = {"left": "right", "right": "left"}[parts[5]]
        # What reads the concatenated nodes of such a cell has its inputs in the new order.
        if parts[0] == "cells" and parts[3] in ("previous", "earlier") and value.dim() == 4:
            source = int(parts[2]) - (1 if parts[3] == "previous" else 2)
            if source >= 0 and kinds[source] == kind:
                value = torch.cat([value.chunk(NODES, dim=1)[old - 1] for old in order], dim=1)
        if key == "head.classifier.weight" and kind == "normal":
            value = torch.cat([value.chunk(NODES, dim=1)[old - 1] for old in order], dim=1)
        weights[".".join(parts)] = value
    x = torch.randn(2, 1, 8, 8)
    assert torch.allclose(output_with(other, weights, x), network(x), atol=1e-4)


@settings(deadline=None)
@given(seeds)
def test_other_networks_keep_other_forms(seed):
    architecture = drawn(seed)
    form = parti.canonical(SPACE, architecture)
    other = parti.mutate(SPACE, form, Random(seed))
    count = [
        sorted(option for name, option in a.items() if name.endswith("operation"))
        for a in (form, other)
    ]
    if count[0] != count[1]:
        assert parti.canonical(SPACE, other) != form


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_cells_of_other_sizes_have_one_too(nodes):
    space = cell(1, 3, 8, nodes=nodes)
    form = parti.canonical(space, drawn(1, space))
    assert parti.validate(space, form) == parti.canonical(space, form)


def test_most_random_cells_have_twins():
    # Otherwise the form would not be worth its time.
    forms = [parti.canonical(SPACE, drawn(seed)) for seed in range(50)]
    moved = sum(form != drawn(seed) for seed, form in enumerate(forms))
    assert moved > 40


@pytest.mark.parametrize("sizes", [{"cells": 0}, {"nodes": 0}])
def test_a_network_without_cells_or_nodes_is_refused(sizes):
    with pytest.raises(InvalidSettings, match="at least 1"):
        parti.size(cell(1, 3, 8, **sizes))
