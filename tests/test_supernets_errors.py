"""What cannot be shared says what, where, and what to do."""

import re
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parti import (
    activate,
    choose,
    extract,
    mix,
    one_of,
    repeat,
    select,
    some_of,
    space,
    supernet,
)
from parti.core.errors import SpaceError


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class OwnWeight(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))


class OwnConv(nn.Conv2d):
    pass


def wide() -> Any:
    return choose("width", [8, 16])


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "own weight": (lambda: OwnWeight(wide()), r"<elastic width> cannot be used in OwnWeight at"),
    "bilinear": (
        lambda: nn.Bilinear(wide(), 2, 2),
        r"<elastic width> cannot be used in Bilinear at",
    ),
    "lstm": (lambda: nn.LSTM(wide(), 2), "cannot be used in LSTM at"),
    "own layer": (lambda: OwnConv(3, wide(), 3), "OwnConv at .*derived from them"),
    "kept": (lambda: nn.Sequential(nn.PixelShuffle(wide())), r"PixelShuffle\(upscale_factor=<elas"),
    "eps": (lambda: nn.BatchNorm2d(4, eps=wide()), r"for num_features, but eps=.*BatchNorm2d at"),
    "groups": (
        lambda: nn.Conv2d(16, 16, 3, groups=wide()),
        r"<elastic width> groups, but 16 channels come in, so that a group has 1, 2 of them",
    ),
    "keys": (
        lambda: nn.MultiheadAttention(wide(), 2, kdim=4),
        r"kdim=4 and embed_dim=<elastic width>: they must be the same",
    ),
    "branch": (lambda: nn.ReLU() if wide() > 8 else nn.Tanh(), "`width > 8` at"),
    "truth": (lambda: nn.ReLU() if wide() - 8 else nn.Tanh(), r"`bool\(width - 8\)` at"),
    "range": (lambda: nn.Sequential(*(nn.ReLU() for _ in range(wide()))), "as a plain number at"),
    "table": (lambda: {8: nn.ReLU, 16: nn.Tanh}[wide()](), "'width' is looked up in a table at"),
    "text": (lambda: nn.Sequential().add_module(f"{wide()}", nn.ReLU()), "'width' becomes text at"),
    "attribute": (lambda: wide().bit_length(), "cannot be used at .*no attribute 'bit_length'"),
    "nothing selected": (lambda: select(wide(), {8: nn.ReLU}), "has no factory for 16; it has 8"),
    "no module selected": (
        lambda: select(wide(), {8: nn.ReLU, 16: lambda: 3}),
        "16 of 'width' is a int",
    ),
    "depth": (
        lambda: nn.Linear(len(repeat("depth", lambda _: nn.ReLU(), [1, 2])), 1),
        r"number of bodies of repeat 'depth' is used at .*computed\(len",
    ),
    "taken apart": (
        lambda: nn.ModuleList(some_of("paths", {"a": nn.ReLU, "b": nn.Tanh}, 1).values()),
        "some_of 'paths' gives is taken apart at .*go through its items in forward",
    ),
    "no module": (lambda: one_of("op", {"a": lambda: 1, "b": nn.ReLU}), "option 'a' .* is a int"),
    "no network": (
        lambda: choose("width", [1, 2]),
        "gives a Elastic; a supernet is made of modules",
    ),
    "a label": (lambda: one_of("op", {"state": nn.ReLU, "b": nn.ReLU}), "'state' already exists"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("inside", [False, True])
def test_what_cannot_be_shared_is_said_where_it_is_written(name: str, inside: bool) -> None:
    make, message = BAD[name]
    if inside and name not in ("no network", "no module", "a label"):
        make = nested(make)
        message = re.sub("(width|depth|paths)(?!=)", r"outer=bad/\1", message)
    constructor = nn.Conv2d.__init__
    with pytest.raises(SpaceError, match=message) as caught:
        supernet(space(make))
    if " at" in message:
        assert f"{__file__}:" in str(caught.value)
    assert nn.Conv2d.__init__ is constructor


def nested(make: Callable[[], Any]) -> Callable[[], Any]:
    """The same program below an option, where errors pass through the words."""
    return lambda: one_of("outer", {"bad": make, "good": nn.Identity})


def test_concatenated_paths_work_when_decided_and_say_why_not_when_mixed() -> None:
    class Concatenated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.paths = some_of("paths", {"a": nn.ReLU, "b": nn.Tanh, "c": nn.Sigmoid}, k=2)
            self.join = nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.join(torch.cat([path(x) for path in self.paths.values()], 1))

    net = supernet(space(Concatenated))
    x = torch.randn(1, 2, 3, 3)
    activate(net, {"paths": ("a", "c")})
    assert torch.equal(net(x), extract(net, {"paths": ("a", "c")})(x))
    mix(net, {"paths": torch.ones(3)})
    with pytest.raises(RuntimeError) as caught:
        net(x)
    assert "must be summed, not concatenated" in caught.value.__notes__[0]


def test_bodies_that_are_mixed_cannot_be_gone_through() -> None:
    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = repeat("depth", lambda _: nn.Sigmoid(), [1, 2])

        def forward(self, x: Tensor) -> Tensor:
            return reduce(lambda y, layer: layer(y), self.layers, x)

    net = supernet(space(Chain))
    activate(net, {"depth": 1})
    assert torch.equal(net(torch.zeros(1)), torch.full((1,), 0.5))
    mix(net, {"depth": torch.ones(2)})
    with pytest.raises(SpaceError, match="repeat 'depth' is mixed"):
        net(torch.zeros(1))
