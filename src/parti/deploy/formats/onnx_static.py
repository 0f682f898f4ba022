"""ONNX for exactly one image per call: every size in the graph is a number.

The exporter has folded and computed what can be; fixing the batch lets compilers for
microcontrollers and accelerators, which refuse free sizes, plan their memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parti.deploy.check import Compute, onnx_logits, singly
from parti.deploy.model import DeployedModel
from parti.evaluators.to_onnx import to_onnx

__all__ = ["write"]


def write(model: DeployedModel, input_shape: Sequence[int], file: Path) -> Compute:
    """Write model-static.onnx; arguments, result and errors as in `Format.write`."""
    file.write_bytes(to_onnx(model, input_shape, batch=1))
    return singly(onnx_logits(file, threads=1))
