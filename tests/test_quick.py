"""Layers that train more quickly compute what torch's own do; memory that is freed is kept."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from random import Random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from parti.core.memory import keep_freed_memory
from parti.core.walks import sample
from parti.evaluators import quick as quick_layers
from parti.evaluators.machine import Machine
from parti.evaluators.quick import quickened
from parti.networks.darts import Cell
from parti.networks.operations import FactorizedReduce
from parti.spaces.darts import darts
from parti.spaces.mobile import mobile
from parti.supernets import fused_library
from parti.supernets.depthwise import KERNELS, convolve
from parti.supernets.fused_cells import fuse
from parti.supernets.fused_torch import halvings
from parti.supernets.share import supernet
from parti.supernets.subnets import activate, extract

CPU = Machine(torch.device("cpu"))


@pytest.fixture
def compiled() -> None:
    if fused_library.library() is None:
        pytest.skip("no compiler on this machine")


def images(*shape: int) -> Tensor:
    return torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()


def network(side: int = 16) -> nn.Module:
    space = mobile(3, 4, side, width=8)
    tree = space.tree
    assert tree is not None
    torch.manual_seed(0)
    largest = tree.walk(lambda choice: choice.options[-1])
    return space.build(largest).to(memory_format=torch.channels_last)


@given(
    st.sampled_from([4, 8, 12, 16, 24, 48]),
    st.integers(1, 9),
    st.integers(1, 19),
    st.sampled_from(KERNELS),
    st.sampled_from([1, 2]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_depthwise_convolution_is_that_of_torch(
    channels: int, h: int, w: int, side: int, stride: int, dilation: int, count: int, biased: bool
) -> None:
    """Forwards and backwards, against float64."""
    if fused_library.library() is None:
        pytest.skip("no compiler on this machine")
    torch.manual_seed(channels * h + w)
    x, weight = images(count, channels, h, w), torch.randn(channels, 1, side, side)
    given_ = [x, weight.requires_grad_()]
    if biased:
        given_.append(torch.randn(channels, requires_grad=True))
    bias = given_[2] if biased else None
    form = (stride, side // 2 * dilation, dilation, channels)
    out = convolve(x, weight, bias, *form)
    assert "Depthwise" in str(out.grad_fn if not biased else out.grad_fn.next_functions[0][0])
    gradient = torch.randn_like(out)
    exact = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), *form)
    torch.testing.assert_close(out.double(), exact, rtol=1e-5, atol=1e-5)
    for got, right in zip(
        torch.autograd.grad(out, given_, gradient),
        torch.autograd.grad(exact, given_, gradient.double()),
        strict=True,
    ):
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "side", "form"),
    [
        (8, 3, {"padding": 1, "groups": 8}),
        (6, 5, {"padding": 2, "groups": 6}),
        (8, 5, {"padding": 1, "groups": 8}),
        (8, 5, {"padding": 2, "groups": 4}),
        (8, 5, {"padding": 6, "stride": 3, "dilation": 3, "groups": 8}),
        (8, 5, {"padding": (2, 1), "groups": 8}),
        (8, 5, {"padding": "valid", "groups": 8}),
    ],
)
def test_what_has_no_kernel_is_left_to_torch(channels: int, side: int, form: dict) -> None:
    x = images(2, channels, 9, 9)
    weight = torch.randn(channels, channels // form["groups"], side, side)
    assert torch.equal(convolve(x, weight, **form), F.conv2d(x, weight, **form))


def test_without_gradients_or_kernels_torch_convolves(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = images(2, 8, 9, 9), torch.randn(8, 1, 5, 5)
    form = {"padding": "same", "groups": 8}
    right = F.conv2d(x, weight, **form)
    with torch.no_grad():
        assert torch.equal(convolve(x, weight, **form), right)
    doubled = convolve(x.double(), weight.double(), **form)
    assert torch.equal(doubled, F.conv2d(x.double(), weight.double(), **form))
    monkeypatch.setattr(fused_library, "library", lambda: None)
    assert torch.equal(convolve(x, weight, **form), right)


def test_a_network_trains_as_it_would_with_torchs_layers(compiled: None) -> None:
    """Its gradients are as near to those of float64 as torch's own, give or take."""
    plain = network()
    quick, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    x, gradient = images(8, 3, 16, 16), torch.randn(8, 4)
    seen: list[str] = []
    quick.register_forward_hook(lambda *_: seen.append("hook"))
    kinds = [type(module) for module in quick.modules()]
    plain.train()(x).backward(gradient)
    exact.train()(x.double()).backward(gradient.double())
    with quickened(quick.train(), CPU):
        names = {type(module).__name__ for module in quick.modules()}
        quick(x).backward(gradient)
    assert {"_Depthwise", "_GlobalPool"} <= names
    assert seen == ["hook"]
    assert [type(module) for module in quick.modules()] == kinds

    def flat(net: nn.Module) -> Tensor:
        return torch.cat([p.grad.double().flatten() for p in net.parameters()])

    truth = flat(exact)
    ours, theirs = ((flat(net) - truth).norm() / truth.norm() for net in (quick, plain))
    assert ours < 1e-3
    assert ours < 5 * theirs
    for one, two in zip(exact.buffers(), quick.buffers(), strict=True):
        torch.testing.assert_close(two.double(), one.double(), rtol=1e-3, atol=1e-4)


def of_cells(seed: int) -> nn.Module:
    space = darts(3, 4, 16, channels=8, cells=4)
    torch.manual_seed(seed)
    member = sample(space, Random(seed))
    return space.build(member).to(memory_format=torch.channels_last).train()


@pytest.mark.parametrize("seed", range(6))
def test_cells_train_as_they_would_one_operation_after_the_other(compiled: None, seed: int) -> None:
    plain = of_cells(seed)
    quick, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    x, gradient = images(8, 3, 16, 16), torch.randn(8, 4)
    plain(x).backward(gradient)
    exact(x.double()).backward(gradient.double())
    with quickened(quick, CPU):
        out = quick(x)
        out.backward(gradient)
        assert "SeparablesBackward" in functions_of(out)
        again = quick.eval()(x)
        assert "SeparablesBackward" not in functions_of(again)
    assert "SeparablesBackward" not in functions_of(quick.train()(x))

    def flat(net: nn.Module) -> Tensor:
        return torch.cat([p.grad.double().flatten() for p in net.parameters()])

    truth = flat(exact)
    ours, theirs = ((flat(net) - truth).norm() / truth.norm() for net in (quick, plain))
    assert ours < max(1e-3, 5 * theirs)


def of_all_slopes() -> nn.Module:
    """A network whose normalizations are no ordinary ones, so that no gradient is tiny."""
    net = network()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    return net.train()


@pytest.mark.parametrize(
    "make",
    [of_all_slopes, *(partial(of_cells, seed) for seed in range(6))],
    ids=["layers", *(f"cells{seed}" for seed in range(6))],
)
def test_every_parameter_learns_what_it_would(
    compiled: None, make: Callable[[], nn.Module]
) -> None:
    """However small its gradient is beside the others.

    Each is compared to itself, in the best of three batches: rounding may turn a value that goes
    into a ReLU from just below 0 to just above, which no wrong gradient can hide behind thrice.
    """
    net = make()
    exact = copy.deepcopy(net).double()
    batches = []
    for _ in range(3):
        x, gradient = images(8, 3, 16, 16), torch.randn(8, 4)
        with quickened(net, CPU):
            got = torch.autograd.grad(net(x), list(net.parameters()), gradient)
        right = torch.autograd.grad(exact(x.double()), list(exact.parameters()), gradient.double())
        sizes = torch.stack([one.norm() for one in right])
        off = torch.stack([(a.double() - b).norm() for a, b in zip(got, right, strict=True)])
        # What a normalization takes away at once has a gradient of 0, but for rounding.
        batches.append(off / (1e-2 * sizes + 1e-7 * sizes.norm()))
    best = torch.stack(batches).amin(dim=0)
    names = [name for name, _ in net.named_parameters()]
    assert [name for name, error in zip(names, best, strict=True) if error > 1] == []


def test_the_statistics_of_cells_follow_as_they_would(compiled: None) -> None:
    plain = of_cells(0)
    quick, x = copy.deepcopy(plain), images(8, 3, 16, 16)
    plain(x)
    with quickened(quick, CPU):
        quick(x)
    for (name, one), (_, two) in zip(plain.named_buffers(), quick.named_buffers(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4, msg=name)


def test_cells_that_drop_operations_run_them_one_by_one(compiled: None) -> None:
    net = of_cells(0)
    for cell in net.modules():
        if isinstance(cell, Cell):
            cell.drop_path.rate = 0.5
    with quickened(net, CPU):
        assert "SeparablesBackward" not in functions_of(net(images(4, 3, 16, 16)))


def test_cells_of_a_width_without_kernels_run_operations_one_by_one(
    compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch is slower with them together; what comes into them may be of any width."""
    space = darts(3, 4, 16, channels=10, cells=9)
    net = space.build(sample(space, Random(0))).train()
    ran, forward = list[nn.Module](), Cell.forward

    def seen(cell: Cell, *inputs: Tensor) -> Tensor:
        ran.append(cell)
        return forward(cell, *inputs)

    monkeypatch.setattr(Cell, "forward", seen)
    ten, twenty = net.cells[2], net.cells[5]
    with quickened(net, CPU):
        ten(images(2, 40, 8, 8), images(2, 40, 8, 8))
        assert ran == [ten]
        twenty(images(2, 80, 8, 8), images(2, 80, 8, 8))
        assert ran == [ten]


def test_a_cell_may_hold_its_entries_in_any_order(compiled: None) -> None:
    plain = of_cells(0)
    for cell in plain.modules():
        if isinstance(cell, Cell):
            cell.enter = nn.ModuleDict(dict(reversed(cell.enter.items())))
    quick, x = copy.deepcopy(plain), images(8, 3, 16, 16)
    with quickened(quick, CPU):
        out = quick(x)
    assert "SeparablesBackward" in functions_of(out)
    torch.testing.assert_close(out, plain(x), rtol=1e-3, atol=1e-4)


HOOKS = [
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
]


@pytest.mark.parametrize("register", HOOKS)
@pytest.mark.parametrize("where", ["enter", "nodes", "drop_path"])
def test_the_hooks_of_a_cells_modules_are_called(compiled: None, register: str, where: str) -> None:
    """Those that are called where nothing is quicker, as often."""
    net, seen = of_cells(0), dict[str, int]()

    def count(name: str, *_: object) -> None:
        seen[name] = seen.get(name, 0) + 1

    for name, module in net.cells[1].named_modules():
        if name.startswith(where):
            getattr(module, register)(partial(count, name))

    def step() -> dict[str, int]:
        seen.clear()
        net(images(4, 3, 16, 16)).square().sum().backward()
        return dict(seen)

    right = step()
    assert right
    with quickened(net, CPU):
        assert step() == right


def test_one_hook_in_a_cell_leaves_its_other_operations_quick(compiled: None) -> None:
    net, seen = of_cells(0), list[str]()
    node = net.cells[1].nodes[0]
    listened = next(iter(node.values()))
    listened.register_full_backward_hook(lambda *_: seen.append("hook"))
    with quickened(net, CPU):
        out = net.cells[1](images(4, 24, 16, 16), images(4, 32, 16, 16))
        out.square().sum().backward()
    assert seen == ["hook"]
    assert "SeparablesBackward" in functions_of(out)


def functions_of(out: Tensor) -> set[str]:
    """Names of what autograd goes back through."""
    names, left, seen = set[str](), [out.grad_fn], set[object]()
    while left:
        function = left.pop()
        if function is not None and function not in seen:
            seen.add(function)
            names.add(function.name())
            left += [after for after, _ in function.next_functions]
    return names


def test_layers_are_torchs_again_whatever_happens() -> None:
    net = network()
    kinds = [type(module) for module in net.modules()]
    with pytest.raises(RuntimeError, match="odd"), quickened(net, CPU):
        raise RuntimeError("odd")
    assert [type(module) for module in net.modules()] == kinds


def test_what_breaks_off_while_layers_are_changed_leaves_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = network()
    kinds = [type(module) for module in net.modules()]
    monkeypatch.setattr(quick_layers, "_GlobalPool", int)  # no module can be one
    with pytest.raises(TypeError, match="__class__"), quickened(net, CPU):
        pytest.fail("all layers were changed")
    assert [type(module) for module in net.modules()] == kinds


def test_a_network_may_be_quickened_within(compiled: None) -> None:
    net, x = of_cells(0), images(4, 3, 16, 16)
    kinds = [type(module) for module in net.modules()]
    with quickened(net, CPU):
        for _ in range(2):
            with quickened(net, CPU):
                assert "SeparablesBackward" in functions_of(net(x))
            assert "SeparablesBackward" in functions_of(net(x))
            assert [type(module) for module in net.modules()] != kinds
    assert [type(module) for module in net.modules()] == kinds
    assert "SeparablesBackward" not in functions_of(net(x))


def test_a_cell_that_has_a_forward_of_its_own_keeps_it() -> None:
    net = of_cells(0)
    cell = net.cells[1]
    own = cell.forward = lambda earlier, previous: Cell.forward(cell, earlier, previous) * 0.0
    with quickened(net, CPU):
        assert not cell(images(4, 24, 16, 16), images(4, 32, 16, 16)).any()
        assert cell.forward is own
    assert cell.forward is own


def test_a_fused_supernet_is_fused_within_and_after() -> None:
    shared = supernet(darts(3, 4, 16, channels=8, cells=3))
    fuse(shared)
    before = [cell.forward for cell in shared.network.cells]
    with quickened(shared, CPU):
        assert [cell.forward for cell in shared.network.cells] == before
    assert [cell.forward for cell in shared.network.cells] == before


@pytest.mark.parametrize(
    "machine", [Machine(torch.device("meta")), Machine(CPU.device, compile=True)]
)
def test_only_what_a_cpu_runs_itself_is_changed(machine: Machine) -> None:
    net = network()
    kinds = [type(module) for module in net.modules()]
    with quickened(net, machine):
        assert [type(module) for module in net.modules()] == kinds


def test_a_pool_of_one_pixel_is_that_of_torch() -> None:
    """Its gradient too, added to another: as in squeeze and excitation."""
    pools = nn.ModuleList([nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(2)])
    x = images(2, 8, 6, 7)

    def both() -> tuple[Tensor, Tensor]:
        found: list[Tensor] = []
        inside = x * 1.0
        inside.register_hook(found.append)
        out = (inside * pools[0](inside)).relu()
        out.square().sum().backward()
        return out, found[0]

    right = both()
    with quickened(pools, CPU):
        assert type(pools[0]) is not nn.AdaptiveAvgPool2d
        assert type(pools[1]) is nn.AdaptiveAvgPool2d
        got = both()
        assert got[1].is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(got, right)
        (alone,) = torch.autograd.grad(pools[0](x).sum(), x)
        assert torch.equal(pools[0](x[0].contiguous()), nn.AdaptiveAvgPool2d(1)(x[0].contiguous()))
    torch.testing.assert_close(alone, torch.full_like(x, 1 / 42))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 6), (5, 9), (1, 1)])
def test_a_factorized_reduction_is_that_of_torch(
    height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(
        quick_layers, "halvings", lambda *given: calls.append(given) or halvings(*given)
    )
    torch.manual_seed(height)
    reduction = FactorizedReduce(8, 12)
    reduction.norm.momentum = 0.3
    exact = copy.deepcopy(reduction).double()
    x = images(4, 8, height, width)
    with quickened(reduction, CPU):
        got = reduction(x)
    assert len(calls) == 1
    right = exact(x.double())
    gradient = torch.randn_like(got)
    torch.testing.assert_close(got.double(), right, rtol=1e-4, atol=1e-4)
    ours = torch.autograd.grad(got, [x, *reduction.parameters()], gradient)
    theirs = torch.autograd.grad(right, [x, *exact.parameters()], gradient.double())
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), two.double(), rtol=1e-3, atol=1e-4)
    for one, two in zip(reduction.buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(one.double(), two.double(), rtol=1e-4, atol=1e-5)
    assert type(reduction) is FactorizedReduce


def test_the_hooks_of_a_factorized_reduction_see_its_layers() -> None:
    reduction, seen = FactorizedReduce(8, 12), list[int]()
    reduction.even.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    with quickened(reduction, CPU):
        reduction(images(4, 8, 6, 6))
    assert seen == [4]


def test_a_supernet_learns_by_the_kernels_what_its_networks_learn(compiled: None) -> None:
    """The gradients of the largest kernels and of smaller ones, which are their middles."""
    space = mobile(3, 4, 16, width=8)
    shared = supernet(space)
    assert space.tree is not None
    for pick in (-1, 0):
        member = space.tree.walk(lambda choice, pick=pick: choice.options[pick])
        activate(shared, member)
        plain = extract(shared, member).train()
        x = images(4, 3, 16, 16).detach()
        (loss, other) = (net(x).square().mean() for net in (shared.train(), plain))
        loss.backward()
        other.backward()
        torch.testing.assert_close(loss, other, rtol=1e-4, atol=1e-6)
        mine = sum(float(p.grad.square().sum()) for p in shared.parameters() if p.grad is not None)
        theirs = sum(float(p.grad.square().sum()) for p in plain.parameters())
        assert mine == pytest.approx(theirs, rel=1e-2)
        shared.zero_grad()


FAULTS = """
import resource, sys
from parti.core.memory import keep_freed_memory
from parti.core.walks import sample
if sys.argv[1] == "keep":
    assert keep_freed_memory()
import numpy as np
def use():
    for _ in range(20):
        np.ones(20 * 2**20, np.uint8)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_kept_for_what_comes_next() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, "keep"], capture_output=True, text=True, check=False
    )
    if "AssertionError" in done.stderr:
        pytest.skip("no glibc")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20 * 2**20 / 4096  # not even one of twenty was given back


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
