"""Cells computed together give what their operations give one by one."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import pytest
import torch
import torch.nn.functional as F
from benchmarks.bench_supernet import shared
from benchmarks.plain_darts import FirstOrder, SearchNetwork
from torch import Tensor, nn

from parti.core.walks import sample
from parti.networks.darts import PRIMITIVES
from parti.networks.nasbench201 import edge_operations
from parti.networks.operations import average_pool, max_pool, separable
from parti.recipes.relaxation import Relaxation
from parti.spaces.darts import darts
from parti.spaces.nasbench201 import nasbench201
from parti.supernets import fused_library
from parti.supernets.fused import Edge, FusedCell
from parti.supernets.fused_cells import fuse
from parti.supernets.fused_parts import Chain, Halving, Normed, Pool, part_of
from parti.supernets.share import NormalizedPool, Relaxed, Supernet, supernet
from parti.supernets.subnets import activate, mix

Nodes = list[list[Edge]]


@pytest.fixture(params=["native", "torch"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(fused_library, "library", lambda: None)
    elif fused_library.library() is None:
        pytest.skip("no compiler on this machine")
    return request.param


@pytest.fixture
def grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's operations as on a GPU, over concatenated channels."""
    from parti.supernets import fused_torch

    monkeypatch.setattr(fused_library, "library", lambda: None)
    monkeypatch.setattr(fused_torch, "_together", lambda _, items, key: alike(items, key))
    alike = fused_torch._alike


class Doubled(nn.Module):
    """No operation that anyone could know."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(2.0 * x)


def relaxed(module: nn.Module, affine: bool = False) -> nn.Module:
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        return NormalizedPool(module)
    for inner in module.modules():
        if isinstance(inner, nn.BatchNorm2d) and not affine:
            inner.weight = inner.bias = None
        elif isinstance(inner, nn.BatchNorm2d):
            nn.init.uniform_(inner.weight, 0.5, 1.5)
            nn.init.uniform_(inner.bias, -0.5, 0.5)
    return module


def darts_cell(channels: int, stride: int = 1, affine: bool = False, nodes: int = 3) -> Nodes:
    def edge(source: int) -> Edge:
        by = stride if source < 2 else 1
        built = [relaxed(build(channels, by), affine) for build in PRIMITIVES.values()]
        return Edge(source, built)

    return [[edge(source) for source in range(node + 2)] for node in range(nodes)]


def edge_cell(channels: int) -> Nodes:
    def edge(source: int) -> Edge:
        return Edge(source, [relaxed(build()) for build in edge_operations(channels).values()])

    return [[edge(source) for source in range(node)] for node in (1, 2, 3)]


def odd_cell(channels: int) -> Nodes:
    """Operations that no kernel knows, beside one that is known."""

    def edge(source: int) -> Edge:
        return Edge(
            source,
            [
                Doubled(),
                separable(channels, channels, 7),
                separable(channels, channels, 3, dilation=3),
                nn.Sequential(nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1)),
                nn.Sequential(max_pool(), nn.BatchNorm2d(channels, momentum=None)),
                nn.Sequential(
                    nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)
                ),
                average_pool(),
            ],
        )

    return [[edge(source) for source in range(node + 1)] for node in range(2)]


def one_by_one(
    nodes: Nodes, inputs: Sequence[Tensor], weights: Sequence[Sequence[Tensor]]
) -> list[Tensor]:
    """What a cell is, by the letter."""
    states = list(inputs)
    for edges, on_edges in zip(nodes, weights, strict=True):
        terms = [
            weight * operation(states[edge.source])
            for edge, on_edge in zip(edges, on_edges, strict=True)
            for weight, operation in zip(on_edge, edge.operations, strict=True)
        ]
        states.append(reduce(torch.add, terms))
    return states[len(inputs) :]


@dataclass
class Found:
    outputs: list[Tensor]
    gradients: list[Tensor]
    buffers: list[Tensor]


Computes = Callable[[Nodes, Sequence[Tensor], Sequence[Sequence[Tensor]]], list[Tensor]]


def together(nodes: Nodes, inputs: Sequence[Tensor], weights: Sequence[Sequence[Tensor]]):
    return FusedCell(nodes, len(inputs))(inputs, weights)


def run(
    compute: Computes,
    nodes: Nodes,
    inputs: int,
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    training: bool = True,
) -> Found:
    """Compute with a copy of the cell; gradients of everything."""
    torch.manual_seed(1)
    nodes = copy.deepcopy(nodes)
    held = nn.ModuleList(
        operation for edges in nodes for edge in edges for operation in edge.operations
    )
    held.to(dtype).train(training)
    images = [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(inputs)]
    weights = [
        [torch.rand(len(edge.operations), dtype=dtype, requires_grad=True) for edge in edges]
        for edges in nodes
    ]
    outputs = compute(nodes, images, weights)
    loss = sum((output * torch.randn(output.shape, dtype=dtype)).sum() for output in outputs)
    leaves = [*images, *(w for edges in weights for w in edges), *held.parameters()]
    gradients = list(torch.autograd.grad(loss, leaves))
    return Found([output.detach() for output in outputs], gradients, list(held.buffers()))


def assert_same(one: Found, other: Found, within: float) -> None:
    for kind in ("outputs", "gradients", "buffers"):
        for a, b in zip(getattr(one, kind), getattr(other, kind), strict=True):
            scale = max(1.0, float(a.abs().max()))
            assert float((a - b).abs().max()) <= within * scale, kind


CELLS = {
    "normal": (lambda: darts_cell(16), 2, (3, 16, 8, 8)),
    "wide": (lambda: darts_cell(32, nodes=2), 2, (2, 32, 5, 11)),
    "few channels": (lambda: darts_cell(4), 2, (3, 4, 8, 8)),
    "eight channels": (lambda: darts_cell(8), 2, (3, 8, 9, 9)),
    "twelve channels": (lambda: darts_cell(12, nodes=2), 2, (3, 12, 6, 6)),
    "no multiple of 4": (lambda: darts_cell(6, nodes=2), 2, (3, 6, 6, 6)),
    "reduction": (lambda: darts_cell(16, stride=2), 2, (3, 16, 8, 8)),
    "reduction of odd size": (lambda: darts_cell(16, stride=2), 2, (3, 16, 9, 7)),
    "scaled": (lambda: darts_cell(16, affine=True, nodes=2), 2, (3, 16, 8, 8)),
    "edges": (lambda: edge_cell(16), 1, (3, 16, 8, 8)),
    "unknown": (lambda: odd_cell(16), 1, (3, 16, 8, 8)),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_cells_are_the_sum_of_their_operations(name: str, training: bool, backend: str) -> None:
    torch.manual_seed(0)
    make, inputs, shape = CELLS[name]
    nodes = make()
    exact = run(one_by_one, nodes, inputs, shape, training=training)
    assert_same(exact, run(together, nodes, inputs, shape, training=training), 1e-4)


@pytest.mark.parametrize("name", CELLS)
def test_in_double_precision_they_are_to_rounding(name: str) -> None:
    torch.manual_seed(0)
    make, inputs, shape = CELLS[name]
    nodes = make()
    exact = run(one_by_one, nodes, inputs, shape, torch.float64)
    assert_same(exact, run(together, nodes, inputs, shape, torch.float64), 1e-10)


@pytest.mark.usefixtures("grouped")
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_concatenated_channels_give_the_same(name: str, training: bool) -> None:
    torch.manual_seed(0)
    make, inputs, shape = CELLS[name]
    nodes = make()
    exact = run(one_by_one, nodes, inputs, shape, torch.float64, training)
    assert_same(exact, run(together, nodes, inputs, shape, torch.float64, training), 1e-10)


def test_equal_pixels_send_their_gradient_where_torch_does(backend: str) -> None:
    cell = FusedCell([[Edge(0, [max_pool()])]], 1)
    x = torch.randint(0, 2, (2, 16, 6, 6)).float().requires_grad_()
    (pooled,) = cell([x], [[torch.ones(1)]])
    gradient = torch.randn(pooled.shape)
    (found,) = torch.autograd.grad(pooled, x, gradient)
    (exact,) = torch.autograd.grad(F.max_pool2d(x, 3, 1, 1), x, gradient)
    torch.testing.assert_close(found, exact)


def test_what_is_not_wanted_does_not_run(backend: str) -> None:
    nodes = darts_cell(16, nodes=1)
    places = list(PRIMITIVES)
    wanted = [[(places.index("sep_conv_3x3"),), ()]]
    weights = [[torch.rand(7, requires_grad=True) for _ in range(2)]]
    states = [torch.randn(2, 16, 8, 8) for _ in range(2)]
    (node,) = FusedCell(nodes, 2)(states, weights, wanted)
    first = copy.deepcopy(nodes[0][0].operations[wanted[0][0][0]])
    torch.testing.assert_close(node, weights[0][0][3] * first(states[0]))
    node.square().sum().backward()
    assert weights[0][0].grad is not None
    assert weights[0][0].grad.nonzero().flatten().tolist() == [3]
    for edge in nodes[0]:
        for operation in edge.operations:
            counts = {int(b) for n, b in operation.named_buffers() if n.endswith("tracked")}
            assert counts <= ({1} if operation is nodes[0][0].operations[3] else {0})


def test_weights_that_count_as_constants_get_no_gradient(backend: str) -> None:
    nodes = darts_cell(16, nodes=1)
    held = nn.ModuleList(operation for edge in nodes[0] for operation in edge.operations)
    states = [torch.randn(2, 16, 8, 8, requires_grad=True) for _ in range(2)]
    weights = [[torch.rand(7) for _ in range(2)]]

    def gradients() -> tuple[Tensor, ...]:
        (node,) = FusedCell(nodes, 2)(states, weights)
        return torch.autograd.grad(node.square().sum(), states)

    exact = gradients()
    held.requires_grad_(False)
    torch.testing.assert_close(gradients(), exact)


def test_results_repeat_to_the_last_bit() -> None:
    nodes = darts_cell(16, nodes=2)
    one, other = (run(together, nodes, 2, (5, 16, 8, 8)) for _ in range(2))
    assert_same(one, other, 0.0)


def test_whoever_has_a_hook_is_called(backend: str) -> None:
    nodes = darts_cell(16, nodes=1)
    operation = nodes[0][1].operations[3]
    seen: list[torch.Size] = []
    operation.register_forward_hook(lambda module, given, output: seen.append(output.shape))
    assert part_of(operation) is operation
    FusedCell(nodes, 2)([torch.randn(2, 16, 8, 8)] * 2, [[torch.rand(7)] * 2])
    assert seen == [(2, 16, 8, 8)]


@pytest.mark.parametrize(
    "register", ["register_full_backward_hook", "register_full_backward_pre_hook"]
)
def test_whoever_has_a_hook_for_gradients_is_called(backend: str, register: str) -> None:
    nodes = darts_cell(16, nodes=1)
    operation = nodes[0][1].operations[3]
    seen: list[str] = []
    getattr(operation, register)(lambda *_: seen.append(register))
    assert part_of(operation) is operation
    states = [torch.randn(2, 16, 8, 8, requires_grad=True) for _ in range(2)]
    (node,) = FusedCell(nodes, 2)(states, [[torch.rand(7)] * 2])
    node.square().sum().backward()
    assert seen == [register]


def test_operations_are_known_by_what_they_are() -> None:
    kinds = {
        "max_pool_3x3": Pool,
        "avg_pool_3x3": Pool,
        "skip_connect": Halving,
        **dict.fromkeys(("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"), Chain),
    }
    found = {name: type(part_of(build(16, 2))) for name, build in PRIMITIVES.items()}
    assert found == kinds
    assert isinstance(part_of(NormalizedPool(max_pool())), Pool)
    assert isinstance(part_of(edge_operations(16)["nor_conv_3x3"]()), Normed)


@pytest.mark.parametrize(
    "module",
    [
        nn.Identity(),
        Doubled(),
        nn.MaxPool2d(3, 1, 1, ceil_mode=True),
        nn.MaxPool2d(2),
        nn.AvgPool2d(3, 1, 1),
        nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8)),
        nn.GroupNorm(2, 8),
    ],
    ids=str,
)
def test_what_is_something_else_is_left_as_it_is(module: nn.Module) -> None:
    assert part_of(module) is module


def test_a_stride_in_the_middle_is_no_chain() -> None:
    late = nn.Sequential(separable(8, 8), separable(8, 8, stride=2))
    assert isinstance(part_of(late), Normed)


# Supernets


def pair(relax: Relaxed, edges: bool = False) -> Iterator[tuple[Supernet, Relaxation]]:
    """A supernet as it is, and a fused one, with the same weights and parameters."""
    torch.manual_seed(0)
    plain = supernet(darts(channels=16, cells=3), relax)
    fused = copy.deepcopy(plain)
    assert fuse(fused) == 3
    assert list(fused.state_dict()) == list(plain.state_dict())
    for network in (plain, fused):
        relaxation = Relaxation(network, edges=edges)
        torch.manual_seed(1)
        for parameter in relaxation.parameters():
            nn.init.normal_(parameter)
        yield network, relaxation


def trained(network: Supernet, relaxation: Relaxation) -> list[Tensor]:
    """Logits, gradients and statistics."""
    mix(network, relaxation.weights(), relaxation.active())
    torch.manual_seed(2)
    logits = network(torch.randn(3, 3, 8, 8))
    parameters = [*relaxation.parameters(), *network.parameters()]
    gradients = torch.autograd.grad(logits.square().sum(), parameters)
    return [logits, *gradients, *network.buffers()]


RELAXED = {
    "DARTS": (Relaxed(affine=False, normalize_pools=True), False),
    "PC-DARTS": (Relaxed(affine=False, normalize_pools=True, partial=4), True),
    "plain options": (Relaxed(), True),
}


@pytest.mark.parametrize("name", RELAXED)
def test_a_fused_supernet_trains_alike(name: str, backend: str) -> None:
    found = [trained(*each) for each in pair(*RELAXED[name])]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_cells_may_hold_their_entries_in_any_order(backend: str) -> None:
    found = []
    for network, relaxation in pair(*RELAXED["DARTS"]):
        for cell in network.network.cells:
            cell.enter = nn.ModuleDict(dict(reversed(cell.enter.items())))
        found.append(trained(network, relaxation))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_copy_of_a_fused_supernet_has_weights_of_its_own(backend: str) -> None:
    _, (network, relaxation) = pair(*RELAXED["DARTS"])
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert trained(copied, Relaxation(copied))[1].abs().max() > 0
    assert all(not parameter.any() for parameter in network.parameters())
    assert trained(network, relaxation)[0].abs().max() == 0


def test_a_fused_supernet_still_runs_one_architecture() -> None:
    (plain, _), (fused, _) = pair(*RELAXED["DARTS"])

    architecture = sample(plain.space, random.Random(0))
    images = torch.randn(2, 3, 8, 8)
    logits = []
    for network in (plain, fused):
        activate(network, architecture)
        logits.append(network(images))
    assert torch.equal(*logits)


def test_operations_that_are_dropped_at_random_run_one_by_one() -> None:
    torch.manual_seed(0)
    network = supernet(darts(channels=8, cells=3, drop_path=0.5), RELAXED["DARTS"][0])
    relaxation = Relaxation(network)
    mix(network, relaxation.weights())
    images = torch.randn(2, 3, 8, 8)
    logits = []
    for change in (lambda _: None, fuse):
        change(network)
        torch.manual_seed(3)
        logits.append(network(images))
    assert torch.equal(*logits)


def test_cells_of_nasbench201_are_fused(backend: str) -> None:
    torch.manual_seed(0)
    plain = supernet(nasbench201(channels=8, cells=1), RELAXED["DARTS"][0])
    fused = copy.deepcopy(plain)
    assert fuse(fused) == 3
    found = [trained(each, Relaxation(each, deviation=0.0)) for each in (plain, fused)]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_benchmark_compares_equal_networks() -> None:
    torch.manual_seed(0)
    plain = SearchNetwork()
    mixed = shared(plain)
    fuse(mixed.supernet)
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(2, 3, 8, 8, generator=generator), torch.tensor([1, 7])
    trainers = (
        FirstOrder(plain, plain.alphas.values(), lr=0.001),
        FirstOrder(mixed, mixed.relaxation.alphas.values(), freeze=True, lr=0.001),
    )
    losses = [trainer.step(batch, batch) for trainer in trainers]
    torch.testing.assert_close(*losses, rtol=0, atol=1e-5)
    # `none` comes first in the paper's code, last in parti's.
    moved = torch.stack(list(mixed.relaxation.alphas.values())).roll(1, dims=1)
    exact = torch.cat(list(plain.alphas.values()))
    torch.testing.assert_close(moved, exact, rtol=0, atol=1e-5)


# Compiled kernels


def test_kernels_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fused_library.SWITCH, "0")
    assert fused_library.library.__wrapped__() is None


def test_without_a_compiler_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_library.shutil, "which", lambda _: None)
    assert fused_library.library.__wrapped__() is None


def test_a_compiler_that_fails_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(fused_library.shutil, "which", lambda _: "false")
    assert fused_library.library.__wrapped__() is None


@pytest.mark.skipif(fused_library.library() is None, reason="no compiler on this machine")
def test_compiled_kernels_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_library, "_compile", lambda *_: pytest.fail("compiled again"))
    assert fused_library.library.__wrapped__() is not None
