"""What tests of training-free proxies share: a batch, a network, its gradients."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parti.proxies.scoring import score

__all__ = ["batch", "convolutional", "gradients", "one"]


def batch(n: int = 8, channels: int = 1, side: int = 6, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, channels, side, side, generator=generator)
    return images, torch.arange(n) % classes


def convolutional(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(45, classes),
    )


def one(network: nn.Module, name: str, images: Tensor, labels: Tensor, **options: object) -> float:
    return score(network, images, labels, [name], **options)[name]


def gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights of layers and their gradients."""
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    loss = F.cross_entropy(network(images), labels)
    return list(zip(weights, torch.autograd.grad(loss, weights), strict=True))
