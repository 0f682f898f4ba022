"""A model repository for NVIDIA's Triton inference server, with its ONNX Runtime backend.

The layout and the fields are those of Triton's documentation ("Model Repository" and "Model
Configuration"): `<repository>/<model>/config.pbtxt`, `<repository>/<model>/<version>/model.onnx`.
Class names stand one a line in a file beside them, to which the output's `label_filename` points:
a request with the classification extension gets names instead of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from parti.deploy.check import Compute, onnx_logits
from parti.deploy.model import DeployedModel
from parti.evaluators.to_onnx import INPUT, OUTPUT, to_onnx

__all__ = ["LABELS", "MODEL", "config", "write"]

MODEL = "model"
"""The name under which Triton serves it, and that of its folder."""
LABELS = f"{MODEL}/labels.txt"
"""Where the names of the classes go; the export fills it, since a model does not know them."""

LARGEST_BATCH = 64
"""As many images as Triton puts together."""
DELAY_MICROSECONDS = 2_000
"""As long as it lets the first request wait for others."""


def write(model: DeployedModel, input_shape: Sequence[int], file: Path) -> Compute:
    """Write the folder `triton`; arguments, result and errors as in `Format.write`."""
    version = file / MODEL / "1"
    version.mkdir(parents=True)
    graph = version / "model.onnx"
    graph.write_bytes(to_onnx(model, input_shape))
    with torch.inference_mode():
        classes = model(torch.zeros(2, *input_shape)).shape[1]
    (file / MODEL / "config.pbtxt").write_text(config(input_shape, classes), encoding="utf-8")
    return onnx_logits(graph, threads=1)


def config(input_shape: Sequence[int], classes: int) -> str:
    """Write Triton's configuration of the model, in the text form of protocol buffers.

    Args:
        input_shape: (channels, height, width); the batch is not part of Triton's sizes.
        classes: number of logits.
    """
    return f"""\
name: "{MODEL}"
backend: "onnxruntime"
max_batch_size: {LARGEST_BATCH}
input [
  {{
    name: "{INPUT}"
    data_type: TYPE_FP32
    dims: [ {", ".join(map(str, input_shape))} ]
  }}
]
output [
  {{
    name: "{OUTPUT}"
    data_type: TYPE_FP32
    dims: [ {classes} ]
    label_filename: "{Path(LABELS).name}"
  }}
]
dynamic_batching {{
  max_queue_delay_microseconds: {DELAY_MICROSECONDS}
}}
"""
