"""What runtimes that read ONNX have in common: the file that is made of a network for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from parti.evaluators.runtimes.runtime import Setting
from parti.evaluators.to_onnx import to_onnx

__all__ = ["ThroughOnnx"]


class ThroughOnnx:
    """The part of a runtime that exports networks as ONNX."""

    def prepare(
        self, network: nn.Module, input_shape: Sequence[int], setting: Setting, folder: Path
    ) -> Path:
        """Export the network with a free batch dimension, as the deployed model is.

        Raises:
            TrialError: it cannot be exported.
        """
        file = folder / "model.onnx"
        file.write_bytes(to_onnx(network, input_shape, quick=True))
        return file
