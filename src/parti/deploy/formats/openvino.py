"""OpenVINO's own form, float32 weights kept as they are, with a free batch dimension."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from parti.deploy.check import Compute
from parti.deploy.model import DeployedModel
from parti.evaluators.runtimes.openvino import openvino_request
from parti.evaluators.to_onnx import to_onnx

__all__ = ["write"]


def write(model: DeployedModel, input_shape: Sequence[int], file: Path) -> Compute:
    """Write model.xml and model.bin; arguments, result and errors as in `Format.write`."""
    import openvino

    with TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        graph.write_bytes(to_onnx(model, input_shape))
        openvino.save_model(openvino.convert_model(str(graph)), str(file), compress_to_fp16=False)
    request = openvino_request(file, (-1, *input_shape))

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = np.array(request.infer([images])[0])
        return logits

    return compute
