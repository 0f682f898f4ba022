"""Elastic layers: what they use of the largest weights, and that it is what a plain layer does."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parti import activate, architectures, choose, computed, extract, space, supernet
from parti.core.architecture import Architecture
from parti.core.choice import Choice
from parti.core.elastic import Elastic
from parti.core.errors import SpaceError
from parti.supernets.constructors import elastic_layers
from parti.supernets.cutting import cut
from parti.supernets.layers import ELASTIC
from parti.supernets.modules import State
from parti.supernets.share import Supernet


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def shared(make: Callable[[], nn.Module]) -> Supernet:
    return supernet(space(make))


def inputs() -> Any:
    return choose("inputs", [4, 6])


def outputs() -> Any:
    return choose("outputs", [2, 8])


def kernel() -> Any:
    return choose("kernel", [1, 3, 5])


def images(architecture: Architecture) -> Tensor:
    return torch.randn(2, architecture.get("inputs", 4), 7, 7)


def vectors(architecture: Architecture) -> Tensor:
    return torch.randn(3, 5, architecture.get("inputs", 4))


def sequences(architecture: Architecture) -> Tensor:
    return torch.randn(2, architecture.get("inputs", 4), 9)


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[Architecture], Tensor]]] = {
    "conv1d": (lambda: nn.Conv1d(inputs(), outputs(), k := kernel(), padding=k // 2), sequences),
    "conv2d": (lambda: nn.Conv2d(inputs(), outputs(), kernel(), choose("stride", [1, 2])), images),
    "unbatched": (lambda: nn.Conv2d(inputs(), outputs(), 3), lambda a: images(a)[0]),
    "oblong": (lambda: nn.Conv2d(inputs(), 2, (k := kernel(), 1), padding=(k // 2, 0)), images),
    "same": (lambda: nn.Conv2d(inputs(), 2, kernel(), padding="same"), images),
    "circular": (
        lambda: nn.Conv2d(
            inputs(), 2, (3, k := kernel()), padding=(1, k // 2), padding_mode="circular"
        ),
        images,
    ),
    "same replicate": (
        lambda: nn.Conv2d(4, 2, kernel(), padding="same", padding_mode="replicate"),
        images,
    ),
    "valid reflect": (
        lambda: nn.Conv2d(4, 2, kernel(), padding="valid", padding_mode="reflect"),
        images,
    ),
    "grouped": (lambda: nn.Conv2d(inputs(), outputs(), 3, groups=2), images),
    "depthwise": (lambda: nn.Conv2d(n := inputs(), n, kernel(), groups=n), images),
    "multiplied": (lambda: nn.Conv2d(n := inputs(), 3 * n, 3, groups=n), images),
    "pairs": (lambda: nn.Conv2d(n := inputs(), n, 3, groups=n // 2), images),
    "maybe bias": (lambda: nn.Conv2d(4, outputs(), 1, bias=choose("bias", [False, True])), images),
    "transposed": (lambda: nn.ConvTranspose2d(inputs(), outputs(), kernel(), 2), images),
    "transposed groups": (
        lambda: nn.ConvTranspose2d(inputs(), outputs(), 3, 2, 1, output_padding=1, groups=2),
        images,
    ),
    "linear": (lambda: nn.Linear(inputs(), outputs()), vectors),
    "linear bias": (lambda: nn.Linear(4, outputs(), bias=choose("bias", [False, True])), vectors),
    "embedding": (
        lambda: nn.Embedding(choose("tokens", [5, 7]), outputs(), padding_idx=0),
        lambda _: torch.randint(0, 5, (2, 3)),
    ),
    "batch norm 1d": (lambda: nn.BatchNorm1d(inputs()), sequences),
    "batch norm 2d": (lambda: nn.BatchNorm2d(inputs(), momentum=None), images),
    "bare batch norm": (
        lambda: nn.BatchNorm2d(inputs(), affine=False, track_running_stats=False),
        images,
    ),
    "group norm": (lambda: nn.GroupNorm(choose("groups", [1, 2]), inputs()), images),
    "odd groups": (
        lambda: nn.GroupNorm(computed(lambda n: 4 if n == 4 else 3, n := inputs()), n),
        images,
    ),
    "bare group norm": (lambda: nn.GroupNorm(2, inputs(), affine=False), images),
    "layer norm": (lambda: nn.LayerNorm(inputs()), vectors),
    "layer norm of two": (lambda: nn.LayerNorm((5, inputs()), bias=False), vectors),
    "prelu": (lambda: nn.PReLU(inputs()), images),
    "dropout": (lambda: nn.Dropout(choose("rate", [0.0, 0.5])), images),
    "max pool": (lambda: nn.MaxPool2d(kernel()), images),
    "average pool": (
        lambda: nn.AvgPool2d(k := kernel(), 1, k // 2, count_include_pad=False),
        images,
    ),
    "scaled": (lambda: nn.Upsample(choose("size", [3, 5, 9]), mode="bilinear"), images),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_do_what_plain_ones_do(name: str) -> None:
    make, data = LAYERS[name]
    net = shared(make)
    assert type(net.network) in ELASTIC.values()
    for architecture in architectures(net.space):
        x = data(architecture)
        activate(net, architecture)
        for training in (True, False):
            net.train(training)
            plain = extract(net, architecture)
            assert type(plain) in ELASTIC
            torch.manual_seed(0)
            expected = plain(x)
            torch.manual_seed(0)
            assert torch.equal(net(x), expected)


def test_every_elastic_layer_is_tried() -> None:
    tried = {type(shared(make).network) for make, _ in LAYERS.values()}
    assert {*ELASTIC.values()} - tried == {ELASTIC[nn.MultiheadAttention]}


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bias": False, "dropout": 0.5}])
@pytest.mark.parametrize("same", [True, False])
def test_attention_does_what_plain_attention_does(options: dict[str, Any], same: bool) -> None:
    net = shared(lambda: nn.MultiheadAttention(inputs(), choose("heads", [1, 2]), **options))
    for architecture in architectures(net.space):
        query = torch.randn(3, 5, architecture["inputs"])
        rest = [query if same else torch.randn_like(query) for _ in range(2)]
        activate(net, architecture)
        plain = extract(net, architecture)
        assert list(plain.state_dict()) == list(net.space.build(architecture).state_dict())
        for weights in (True, False):
            torch.manual_seed(0)
            found = net.network, plain
            net.state.running = True
            mine = found[0](query, *rest, need_weights=weights)
            net.state.running = False
            torch.manual_seed(0)
            theirs = plain(query, *rest, need_weights=weights)
            assert torch.equal(mine[0], theirs[0])
            assert (mine[1] is None and theirs[1] is None) or torch.equal(mine[1], theirs[1])


@pytest.mark.parametrize("padded", [False, True])
def test_torch_does_not_fuse_what_has_elastic_parts(padded: bool) -> None:
    def make() -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that it cannot nest tensors
            layer = nn.TransformerEncoderLayer(8, 2, choose("hidden", [4, 16]), batch_first=True)
            return nn.TransformerEncoder(layer, 2)

    net = shared(make).eval()
    mask = torch.tensor([[False, False, False], [False, False, True]]) if padded else None
    x = torch.randn(2, 3, 8)
    for hidden in (4, 16):
        activate(net, {"hidden": hidden})
        plain = extract(net, {"hidden": hidden})
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that nested tensors are a prototype
            net.state.running = True
            mine = net.network(x, src_key_padding_mask=mask)
            theirs = plain(x, src_key_padding_mask=mask)
        kept = torch.ones(2, 3, dtype=torch.bool) if mask is None else ~mask
        assert torch.allclose(mine[kept], theirs[kept])


def test_copies_that_torch_makes_while_a_program_runs_follow_the_same_choice() -> None:
    def make() -> nn.Module:
        layer = nn.TransformerEncoderLayer(4, 1, choose("hidden", [4, 16]), batch_first=True)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    net = shared(make)
    widths = []
    for number in range(2):
        net.network.layers[number].linear1.register_forward_hook(
            lambda _, __, output: widths.append(output.shape[-1])
        )
    activate(net, {"hidden": 4})
    net(torch.randn(1, 2, 4))
    assert widths == [4, 4]


# --- what is used of the largest -----------------------------------------------------------------


def test_cut_takes_the_first_channels_and_the_centre_of_a_kernel() -> None:
    weight = torch.arange(4 * 3 * 5 * 5).reshape(4, 3, 5, 5)
    assert torch.equal(cut(weight, (2, 3, 3, 1), centred=2), weight[:2, :, 1:4, 2:3])
    assert cut(weight, (4, 3, 5, 5)) is weight


def test_cut_takes_the_first_of_each_part() -> None:
    weight = torch.arange(6)
    assert cut(weight, (4,), parts=2).tolist() == [0, 1, 3, 4]
    assert cut(weight, (3,), parts=3).tolist() == [0, 2, 4]
    with pytest.raises(SpaceError, match="at most 6 channels or features, but 7 come in"):
        cut(weight, (7,))


def test_a_cut_is_a_view_where_possible() -> None:
    weight = torch.zeros(4, 3, 5, 5)
    cut(weight, (2, 3, 3, 3), centred=2).fill_(1.0)
    assert weight.sum() == 2 * 3 * 3 * 3


def test_heads_of_a_narrow_attention_come_from_query_key_and_value_alike() -> None:
    net = shared(lambda: nn.MultiheadAttention(choose("width", [2, 4]), 1))
    wide = net.network.in_proj_weight
    narrow = extract(net, {"width": 2}).in_proj_weight
    assert torch.equal(narrow, wide.reshape(3, 4, 4)[:, :2, :2].reshape(6, 2))


def test_statistics_of_the_first_channels_are_shared() -> None:
    net = shared(lambda: nn.BatchNorm2d(inputs(), momentum=1.0)).train()
    activate(net, {"inputs": 4})
    x = torch.randn(2, 4, 3, 3)
    net(x)
    assert torch.allclose(net.network.running_mean[:4], x.mean((0, 2, 3)))
    assert torch.equal(net.network.running_mean[4:], torch.zeros(2))
    assert net.network.num_batches_tracked == 1


def test_transposed_convolutions_reach_the_size_asked_for() -> None:
    net = shared(lambda: nn.ConvTranspose2d(2, outputs(), kernel(), 2, 1))
    activate(net, {"outputs": 2, "kernel": 3})
    plain = extract(net, {"outputs": 2, "kernel": 3})
    x = torch.randn(1, 2, 5, 5)
    for size in ([9, 9], [10, 10]):
        output = net(x, size)
        assert list(output.shape[2:]) == size
        assert torch.equal(output, plain(x, size))


def test_what_is_extracted_has_nothing_of_the_supernet() -> None:
    net = shared(lambda: nn.Sequential(nn.Conv2d(3, outputs(), 3), nn.ReLU()))
    plain = extract(net, {"outputs": 8})
    assert type(plain[0]) is nn.Conv2d
    with torch.no_grad():
        plain[0].weight.zero_()
    assert net.network[0].weight.abs().sum() > 0


# --- constructors --------------------------------------------------------------------------------


def value(*options: Any) -> Elastic:
    return Elastic.of(Choice("value", options), State())


def test_layers_with_plain_arguments_stay_plain() -> None:
    with elastic_layers():
        assert type(nn.Conv2d(3, 4, 3)) is nn.Conv2d
        assert type(nn.Conv2d(3, value(4, 8), 3)) is ELASTIC[nn.Conv2d]


def test_constructors_are_restored_whatever_happens() -> None:
    before = {plain: plain.__init__ for plain in ELASTIC}

    def fails() -> nn.Module:
        nn.Conv2d(3, choose("width", [4, 8]), 3)
        raise ArithmeticError("no network")

    program = space(lambda: nn.Linear(2, choose("width", [4, 8])))
    assert program.tree is not None
    program.function = fails
    with pytest.raises(ArithmeticError, match="no network"):
        supernet(program)
    with pytest.raises(SpaceError), elastic_layers():
        nn.Conv2d(3, 3, 3, groups=value(1, 3))
    assert {plain: plain.__init__ for plain in ELASTIC} == before
    with pytest.raises(TypeError):
        nn.Linear(2, value(4, 8))


def test_adjusting_changes_what_layers_are_built_with() -> None:
    def halve(layer: nn.Module, given: dict[str, Any]) -> None:
        if isinstance(layer, nn.Linear):
            given["out_features"] //= 2

    with elastic_layers(halve):
        assert nn.Linear(2, 8).out_features == 4
        assert nn.Linear(2, value(4, 8)).weight.shape == (4, 2)
        assert nn.Conv2d(2, 8, 1).out_channels == 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nn.Conv2d(8, value(6, 8), 3, groups=4),
            r"out_channels .* may be \[6\], no multiple",
        ),
        (lambda: nn.Conv2d(16, 16, 3, groups=value(8, 16)), "a group has 1, 2 of them"),
        (lambda: nn.MultiheadAttention(value(2, 4), 1, add_bias_kv=True), "no add_bias_kv"),
        (lambda: nn.MultiheadAttention(value(2, 4), 1, kdim=2), "kdim=2 .* must be the same"),
        (lambda: nn.LayerNorm(4, eps=value(0.1, 0.2)), "LayerNorm takes .* normalized_shape"),
        (lambda: nn.Dropout2d(value(0.1, 0.2)), "Dropout2d .* not classes derived"),
    ],
)
def test_arguments_that_cannot_be_elastic(make: Callable[[], nn.Module], message: str) -> None:
    with elastic_layers(), pytest.raises(SpaceError, match=message) as caught:
        make()
    assert f" at {__file__}:" in str(caught.value)


def test_attention_takes_widths_of_key_and_value_that_are_its_own() -> None:
    width = value(2, 4)
    with elastic_layers():
        layer = nn.MultiheadAttention(width, 1, kdim=width, vdim=width)
    assert layer.in_proj_weight.shape == (12, 4)
