"""A trained network with its normalisation inside, so that it takes raw pixels."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, PartiError
from parti.core.protocols import Builder

__all__ = ["DeployedModel", "load_model"]


class DeployedModel(nn.Module):
    """A network that normalises its own input: nothing about preprocessing can be got wrong.

    Args:
        network: maps normalised images [batch, channels, height, width] to logits.
        mean: of each channel, in raw pixel units (those of the training data).
        std: of each channel, likewise.

    Raises:
        InvalidSettings: mean and std do not fit together, or a std is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean:
            raise InvalidSettings(
                f"mean has {len(mean)} values and std {len(std)}; give one of each per channel"
            )
        if not all(math.isfinite(m) for m in mean) or not all(0 < s < math.inf for s in std):
            raise InvalidSettings(
                f"mean {list(mean)} must be finite and std {list(std)} positive: they are those "
                "of the training pixels"
            )
        self.network = network
        shape = (1, len(mean), 1, 1)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(shape))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(shape))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Args:
            images: float32 [batch, channels, height, width], raw pixels in the value range of
                the training data (0 to 255, for images of 8 bits).

        Returns:
            The network's logits, [batch, classes].
        """
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


def load_model(folder: Path, space: Builder) -> DeployedModel:
    """Rebuild the PyTorch model of an export.

    Args:
        folder: what `export` wrote, with weights.safetensors in it.
        space: the space that was searched.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        PartiError: the folder is no such export, or the weights are of another network.
    """
    from safetensors.torch import load_model as load_weights

    try:
        info = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        architecture = Architecture.from_json(json.dumps(info["architecture"]))
        with torch.random.fork_rng(devices=[]):
            network = space.build(architecture)
        load_weights(network, folder / "weights.safetensors")
        return DeployedModel(network, info["mean"], info["std"]).eval()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise PartiError(
            f"{folder} cannot be loaded as an exported model: {type(error).__name__}: "
            f"{str(error)[:300]}. Pass a folder written by `parti export` with safetensors, and "
            "the space it came from"
        ) from error
