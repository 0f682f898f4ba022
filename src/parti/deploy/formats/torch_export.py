"""The program that torch.export traces: PyTorch runs it without the network's own code."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from parti.deploy.check import Compute, ExportError, program_logits
from parti.deploy.model import DeployedModel

__all__ = ["traced", "write"]


def write(model: DeployedModel, input_shape: Sequence[int], file: Path) -> Compute:
    """Write model.pt2; arguments, result and errors as in `Format.write`."""
    torch.export.save(traced(model, input_shape), file)
    return program_logits(file)


def traced(model: DeployedModel, input_shape: Sequence[int]) -> torch.export.ExportedProgram:
    """Trace a model with a free batch size.

    Args:
        model: on the CPU and in evaluation mode.
        input_shape: (channels, height, width).

    Raises:
        ExportError: it cannot be traced.
    """
    # Two images: a batch of one would be taken for a constant.
    images = torch.zeros(2, *input_shape)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # torch.export warns of deprecations in its own code.
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
            batch = {0: torch.export.Dim("batch")}
            return torch.export.export(model, (images,), dynamic_shapes=(batch,), strict=False)
    except Exception as error:
        raise ExportError(
            f"torch.export cannot write {type(model.network).__name__}: {type(error).__name__}: "
            f"{str(error)[:300]}. Leave out the format 'torch_export', or make the network "
            "independent of the batch size and of its input's values"
        ) from error
