"""Small networks of many kinds, for tests of counting, timing and exporting."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.excite = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(y))))


class Residual(nn.Module):
    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Patches(nn.Module):
    """A small vision transformer, with attention both functional and as torch's module."""

    def __init__(self, channels: int, classes: int, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, 2, stride=2)
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).chunk(3, dim=-1)
        tokens = tokens + F.scaled_dot_product_attention(q, k, v)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(tokens.mean(1))


def plain(channels: int = 1, classes: int = 10, width: int = 8, depth: int = 3) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [
            nn.Conv2d(width if i else channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def depthwise(channels: int = 1, classes: int = 10) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        Residual(
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
            nn.BatchNorm2d(8),
            nn.Hardswish(),
            nn.Conv2d(8, 8, 1),
            SqueezeExcite(8),
        ),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(3),  # 4×4 to 3×3: not a divisor
        nn.Flatten(),
        nn.Linear(72, classes),
    )


NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "plain": plain,
    "depthwise": depthwise,
    "attention": Patches,
}


def warmed(network: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """The network with batch statistics that are not those of a fresh one, in evaluation mode."""
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(16, *shape))
    return network.eval()


class SpaceOf:
    """A space whose every architecture builds the same kind of network."""

    def __init__(self, factory: Callable[[], nn.Module]) -> None:
        self.factory = factory

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        return self.factory()
