"""Networks of every way of sharing channels, and one that is trained, for tests of compression."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parti.evaluators.recipe import Recipe
from parti.evaluators.trained import train
from parti.networks.blocks import DenseLayer, SqueezeExcitation, basic_block, inverted_residual
from parti.networks.heads import assemble, head
from parti.networks.operations import FactorizedReduce, Zero, conv_norm_act
from training_makers import toy_data

SHAPE = (1, 8, 8)
RECIPE = Recipe(epochs=6, batch_size=12, optimizer="sgd", lr=0.05)


class Summed(nn.Module):
    """A node that sums an edge, nothing, and nothing after an edge, as cells do."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.edge = conv_norm_act(channels, channels)
        self.none = Zero(1, channels)
        self.gone = Zero(1, channels)
        self.after = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.edge(x) + self.none(x) + self.after(self.gone(x))


class Shuffled(nn.Module):
    """Splits channels in two and joins them, as ShuffleNet does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.changed = conv_norm_act(channels // 2, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, dim=1)
        return torch.cat([kept, F.relu(self.changed(changed))], dim=1)


def around(body: nn.Module, channels: int = 16) -> nn.Module:
    """A stem, a body of 16 channels in, and a head; random weights and statistics."""
    torch.manual_seed(0)
    network = assemble({"stem": conv_norm_act(1, 16), "body": body, "head": head(channels, 2)})
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    nn.init.normal_(network.head.classifier.weight)
    return network.eval()


BODIES = {
    "plain": lambda: around(conv_norm_act(16, 16)),
    "residual": lambda: around(basic_block(16, 16)),
    "projected": lambda: around(basic_block(16, 32, stride=2, project=True), 32),
    "depthwise": lambda: around(inverted_residual(16, 16, expansion=2, shortcut=True)),
    "squeeze": lambda: around(basic_block(16, 16, attention=SqueezeExcitation(16))),
    "grouped": lambda: around(conv_norm_act(16, 16, groups=4)),
    "dense": lambda: around(DenseLayer(conv_norm_act(16, 8)), 24),
    "halves": lambda: around(FactorizedReduce(16, 32), 32),
    "summed": lambda: around(Summed(16)),
    "shuffled": lambda: around(Shuffled(16)),
    "group norm": lambda: around(conv_norm_act(16, 16, norm="group")),
}


def wide(width: int = 32) -> nn.Module:
    """A network with many more channels than its task needs."""
    torch.manual_seed(1)
    return assemble(
        {
            "stem": conv_norm_act(1, width),
            "body": nn.Sequential(basic_block(width, width), conv_norm_act(width, width)),
            "head": head(width, 2),
        }
    )


def trained(width: int = 32, train_images: int = 144) -> tuple[nn.Module, object]:
    """A wide network, trained, and its data."""
    data = toy_data(train_images, 120)
    return train(wide(width), data, RECIPE, threads=1), data
