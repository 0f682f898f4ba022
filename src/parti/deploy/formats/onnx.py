"""ONNX with a free batch dimension: batch norms folded, constants computed, weights inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parti.deploy.check import Compute, onnx_logits
from parti.deploy.model import DeployedModel
from parti.evaluators.to_onnx import to_onnx

__all__ = ["write"]


def write(model: DeployedModel, input_shape: Sequence[int], file: Path) -> Compute:
    """Write model.onnx; arguments, result and errors as in `Format.write`."""
    file.write_bytes(to_onnx(model, input_shape))
    return onnx_logits(file, threads=1)
