"""The readable source of a network: the same outputs, no parti, one class for all alike."""

import ast
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from measured_networks import NETWORKS, Residual, warmed
from parti.core.walks import sample
from parti.deploy.check import ExportError, agreement, torch_logits
from parti.deploy.formats import pytorch
from parti.deploy.model import DeployedModel
from parti.deploy.source.text import Made, laid_out
from parti.spaces.catalogue import load_space


def source_of(network: nn.Module, folder: Path, shape=(3, 16, 16)) -> str:
    """Write a network, check that the file computes what it computes, and return the file."""
    folder.mkdir(exist_ok=True)
    model = DeployedModel(warmed(network, shape), [120.0] * shape[0], [60.0] * shape[0]).eval()
    compute = pytorch.write(model, shape, folder / "network.py")
    images = np.random.default_rng(0).uniform(0, 255, (5, *shape)).astype(np.float32)
    found = agreement(torch_logits(model), compute, images, "network.py")
    assert found.difference <= 1e-2 * found.tolerance
    return (folder / "network.py").read_text()


def built(space: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    program = load_space(space, 3, 10, 16)
    return program.build(sample(program, Random(seed)))


class Shared(nn.Module):
    """Calls one convolution twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(F.relu(self.conv(x))).mean((2, 3)))


class Owner(nn.Module):
    """Owns a parameter, a buffer and a constant, and lists modules, one of which does nothing."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(1, 3, 1, 1))
        self.register_buffer("scale", torch.rand(1, 3, 1, 1))
        self.paths = nn.ModuleList(
            [nn.Conv2d(3, 4, 1), nn.Identity(), nn.Conv2d(3, 4, 3, padding=1)]
        )
        self.named = nn.ModuleDict({"a-b": nn.Conv2d(3, 4, 1)})
        self.head = nn.Linear(11, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.gain + self.scale * torch.tensor(0.5)
        summed = self.paths[0](x) + self.named["a-b"](x)
        x = torch.cat([summed, self.paths[1](x), self.paths[2](x)], 1)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Overwriting(nn.Module):
    """Uses what an activation has overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        z = self.act(y)
        return self.head((y + z).mean((2, 3)))


@pytest.mark.parametrize(
    "space",
    ["chain", "branches", "residual", "mobile", "cell", "nasbench101", "nasbench201"],
)
def test_random_members_of_spaces_compute_the_same(space, tmp_path):
    text = source_of(built(space, 1), tmp_path)
    assert "parti" not in text.partition('"""\n\n')[2]
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize(
    "space",
    ["darts", "fbnet", "proxylessnas", "nats_size", "nasbench_macro", "transnas_micro", "residual"],
)
def test_more_members_of_spaces_compute_the_same(space, seed, tmp_path):
    source_of(built(space, seed), tmp_path)


@pytest.mark.parametrize("name", NETWORKS)
def test_other_networks_compute_the_same(name, tmp_path):
    source_of(NETWORKS[name](1, 10), tmp_path, (1, 8, 8))


@pytest.mark.parametrize("network", [Shared, Owner, Overwriting])
def test_shared_modules_own_weights_and_writing_in_place_are_kept(network, tmp_path):
    torch.manual_seed(0)
    source_of(network(), tmp_path)


def test_parts_that_differ_in_numbers_only_share_a_class(tmp_path):
    def block(channels: int) -> nn.Module:
        return Residual(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))

    network = nn.Sequential(
        block(3), nn.Conv2d(3, 8, 1), block(8), block(8), nn.Flatten(), nn.Linear(8 * 256, 10)
    )
    text = source_of(network, tmp_path)
    classes = [n.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ClassDef)]
    assert classes == ["Residual", "Network", "Model"]
    assert "def __init__(self, channels):" in text
    assert text.count("Residual(8)") == 2
    assert "nn.Conv2d(channels, channels, 3, padding=1)" in text
    assert "nn.BatchNorm2d(channels)" in text


def test_a_network_without_operations_is_refused(tmp_path):
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    model = DeployedModel(Nothing(), [0.0], [1.0]).eval()
    with pytest.raises(ExportError, match="no source to write"):
        pytorch.write(model, (1, 8, 8), tmp_path / "network.py")


def test_calls_are_broken_where_they_are_too_long():
    inner = Made("inner", tuple((f"argument{i}", "1234567890") for i in range(5)))
    assert laid_out("x = ", Made("f", (("", "1"), ("y", "2"))), 4) == ["    x = f(1, y=2)"]
    lines = laid_out("x = ", Made("outer", (("a", inner), ("b", "last"))), 4)
    assert lines[0] == "    x = outer("
    assert lines[1] == "        a=inner("
    assert lines[-2:] == ["        b=last,", "    )"]
    ast.parse("\n".join(line[4:] for line in lines))
