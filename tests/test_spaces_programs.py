"""What holds for every space of parti's own: its members build, run and learn."""

import re
import statistics
import sys
from functools import cache, partial
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import parti
from parti.core.errors import InvalidSettings
from parti.evaluators.complexity import complexity
from parti.networks.known import known_network
from parti.networks.layers import ACTIVATIONS
from parti.spaces import load_space
from parti.spaces.mobile import mobile
from parti.spaces.stages import fitting, stages, stem_stride, widths

torch.set_num_threads(1)
SPACES = ("chain", "branches", "residual", "mobile", "cell")
RESOLUTIONS = (8, 16, 28, 32, 64, 224)


@cache
def of(name, resolution=32):
    """The space, traced once for all tests."""
    return load_space(name, 3, 10, resolution)


def drawn(name, resolution, seed):
    return parti.sample(of(name, resolution), Random(seed))


def params(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("name", SPACES)
def test_members_learn(name, resolution):
    # One step: outputs, loss and gradients are finite, and every weight has a gradient.
    for seed in range(4 if resolution < 64 else 1):
        in_channels = (1, 3)[seed % 2]
        torch.manual_seed(seed)
        network = load_space(name, in_channels, 10, resolution).build(drawn(name, resolution, seed))
        logits = network(torch.randn(2, in_channels, resolution, resolution))
        assert logits.shape == (2, 10)
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
        assert loss.isfinite()
        loss.backward()
        for key, parameter in network.named_parameters():
            # Nobody need use the output of a cell.
            assert parameter.grad is not None or key.startswith("cells."), key
            assert parameter.grad is None or parameter.grad.isfinite().all(), key


def test_a_network_may_choose_its_resolution():
    """In `mobile`: a smaller one costs less, and nothing else is another."""
    space = load_space(mobile(resolutions=(16, 24, 32), width=8), 3, 10, 40)
    drawn = dict(parti.sample(space, Random(0)))
    members = {side: space.build({**drawn, "resolution": side}) for side in (16, 24, 32)}
    cost = {side: complexity(network, (3, 40, 40)) for side, network in members.items()}
    assert cost[16].macs < cost[24].macs < cost[32].macs
    assert len({each.params for each in cost.values()}) == 1
    assert "resolution" not in parti.sample(load_space("mobile"), Random(0))
    images = torch.randn(2, 3, 40, 40, dtype=torch.float64)
    elastic = parti.supernet(space).double().eval()
    seen = []
    elastic.network.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    for side in members:
        parti.activate(elastic, {**drawn, "resolution": side})
        expected = parti.extract(elastic, {**drawn, "resolution": side}).eval()(images)
        assert torch.equal(elastic(images), expected)
        assert seen[-1] == (2, 3, side, side)


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=5, deadline=None)
@given(st.integers(8, 224), st.integers(8, 224), st.integers(0, 2**32))
def test_members_take_any_size_of_images(name, height, width, seed):
    # On the meta device: shapes without arithmetic. Members take other sizes than their own.
    resolution = RESOLUTIONS[seed % len(RESOLUTIONS)]
    with torch.device("meta"):
        network = load_space(name, 1, 7, resolution).build(drawn(name, resolution, seed))
        assert network(torch.empty(2, 1, height, width)).shape == (2, 7)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("name", SPACES)
def test_every_extreme_fits(name, resolution):
    # Always the first option, always the last: the least and the most of everything.
    space = of(name, resolution)
    with torch.device("meta"):
        for place in (0, -1):
            network = space.build(space.walk(lambda choice, p=place: choice.options[p]))
            images = torch.empty(2, 3, resolution, resolution)
            assert network(images).shape == (2, 10)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("name", SPACES)
def test_spaces_are_static_and_large(name, resolution):
    assert of(name, resolution).tree is not None
    assert parti.size(of(name, resolution)) > 1e6


@pytest.mark.parametrize("name", SPACES)
def test_samples_differ(name):
    space = of(name)
    assert len({parti.sample(space, Random(seed)) for seed in range(1000)}) > 990


@pytest.mark.parametrize("name", SPACES)
def test_members_are_small_to_large(name):
    space = of(name)
    with torch.device("meta"):
        counts = [params(space.build(parti.sample(space, Random(i)))) for i in range(30)]
        counts += [params(space.build(space.walk(partial(wide, Random(i))))) for i in range(10)]
    assert min(counts) < 100_000
    assert 100_000 < statistics.median(counts) < 1_000_000
    assert max(counts) > 1_000_000


def wide(random, choice):
    """Pick the most of every width and depth, anything else at random."""
    if "width" in choice.name or choice.kind == "repeat":
        return choice.options[-1]
    return random.choice(choice.options)


@pytest.mark.parametrize("name", SPACES)
def test_documents_say_the_size(name):
    said = re.search(
        r"Size: (\S+) architectures at 32×32", sys.modules[of(name).__module__].__doc__
    )
    assert float(said[1]) == float(f"{parti.size(of(name)):.1e}")


@pytest.mark.parametrize("name", SPACES)
def test_weights_follow_from_the_seed(name):
    space, architecture = of(name, 8), drawn(name, 8, 3)
    built = []
    for _ in range(2):
        torch.manual_seed(5)
        built.append(space.build(architecture).state_dict())
    assert built[0].keys() == built[1].keys()
    assert all(torch.equal(built[0][key], built[1][key]) for key in built[0])


@pytest.mark.parametrize("name", SPACES)
def test_decisions_change_the_network(name):
    # A neighbour by one decision is another network: no option is without effect.
    space, architecture = of(name, 8), drawn(name, 8, 4)
    with torch.device("meta"):
        itself = str(space.build(architecture))
        for other in Random(1).sample(list(parti.neighbours(space, architecture)), 20):
            assert str(space.build(other)) != itself, other


def test_each_activation_and_normalization_is_reached_in_chains():
    space = of("chain")
    activations = space.tree.choices["activation"].options
    assert set(activations) >= {"relu", "prelu", "elu", "selu", "leaky_relu", "silu", "gelu"}
    for act in activations:
        architecture = parti.sample(space, Random(0)).taking(activation=act)
        with torch.device("meta"):
            modules = list(space.build(architecture).modules())
        assert any(type(module) is ACTIVATIONS[act] for module in modules)
    for norm, kind in [("batch", torch.nn.BatchNorm2d), ("group", torch.nn.GroupNorm)]:
        architecture = parti.sample(space, Random(0)).taking(normalization=norm)
        with torch.device("meta"):
            modules = list(space.build(architecture).modules())
        assert any(isinstance(module, kind) for module in modules)


@pytest.mark.parametrize("act", list(ACTIVATIONS)[:7])
def test_chains_without_normalization_start_with_sound_signals(act):
    space = of("chain", 16)
    for seed in range(3):
        torch.manual_seed(seed)
        architecture = drawn("chain", 16, seed).taking(activation=act, normalization="none")
        network = space.build(architecture).eval()
        before_head = network[:-1](torch.randn(4, 3, 16, 16))
        assert 1e-3 < before_head.square().mean() < 1e2


def test_resnet20_is_a_member_of_residual():
    space = of("residual")
    decisions = {}
    for number, channels in enumerate((16, 32, 64), start=1):
        stage = f"stage{number}"
        decisions[f"{stage}/width"] = channels
        decisions[f"{stage}/kind"] = "basic"
        decisions[f"{stage}/kind=basic/blocks"] = 3
        for i in range(3):
            decisions[f"{stage}/kind=basic/blocks[{i}]/attention"] = "none"
    with torch.device("meta"):
        member = space.build(parti.validate(space, decisions))
        projection = params(member.stage1[0].shortcut)
        assert params(member) - projection == params(known_network("resnet20"))


def test_small_images_keep_their_size_in_the_stem_and_large_ones_shrink():
    sizes = {r: [stage.size for stage in stages(r)] for r in RESOLUTIONS}
    assert sizes[8] == [8, 4, 2]
    assert sizes[32] == [32, 16, 8]
    assert sizes[64] == [32, 16, 8]
    assert sizes[224] == [56, 28, 14, 7]
    assert [stem_stride(r) for r in RESOLUTIONS] == [1, 1, 1, 1, 2, 4]


@settings(deadline=None)
@given(st.integers(1, 1024))
def test_stages_end_with_few_pixels_but_some(resolution):
    plan = stages(resolution)
    assert [stage.number for stage in plan] == list(range(1, len(plan) + 1))
    assert plan[0].size * stem_stride(resolution) >= resolution
    assert plan[-1].size >= 1
    assert plan[-1].size >= 2 or resolution < 8
    assert plan[-1].size <= max(10, resolution // 24)


def test_sizes_that_make_no_network_are_refused():
    with pytest.raises(InvalidSettings, match="at least 1 pixel"):
        stages(0)
    for base in (4, 9):
        with pytest.raises(InvalidSettings, match="even number from 8"):
            widths(base, stages(32)[0])


def test_kernels_fit_into_the_images():
    assert fitting((3, 5, 7), 8) == (3, 5, 7)
    assert fitting((3, 5, 7), 3) == (3, 5)
    assert fitting((3, 5, 7), 1) == (3,)


def test_a_residual_space_may_be_narrowed_to_kinds_there_are():
    space = load_space("residual", kinds=("basic",))
    assert space.tree.choices["stage1/kind"].options == ("basic",)
    with pytest.raises(InvalidSettings, match=r"no kind wide; .*basic, bottleneck and dense"):
        parti.size(load_space("residual", kinds=("basic", "wide")))
