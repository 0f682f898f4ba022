"""The network's weights by name, in a file that holds numbers and nothing that could run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch

from parti.deploy.check import Compute, torch_logits
from parti.deploy.model import DeployedModel

__all__ = ["write"]


def write(model: DeployedModel, input_shape: Sequence[int], file: Path) -> Compute:
    """Write weights.safetensors; arguments, result and errors as in `Format.write`."""
    from safetensors.torch import load_model, save_model

    save_model(model.network, str(file))
    again = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in [*again.network.parameters(), *again.network.buffers()]:
            tensor.zero_()
    load_model(again.network, file)
    return torch_logits(again)
