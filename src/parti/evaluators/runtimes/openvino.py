"""OpenVINO on the CPU: networks through ONNX, ONNX files, and its own model.xml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.evaluators.runtimes.runtime import Call, Prepared, Setting
from parti.evaluators.runtimes.through_onnx import ThroughOnnx

__all__ = ["OpenVINO", "openvino_precision", "openvino_request"]


class OpenVINO(ThroughOnnx):
    """OpenVINO's CPU plug-in: for latency, one stream, with the batch fixed."""

    package = "openvino"
    library = "openvino"
    suffixes = (".onnx", ".xml")
    devices = ("cpu",)

    def lacks(self, precision: str, device: str) -> str:
        """Refuse bfloat16 where the plug-in does not have it."""
        if precision == "bfloat16" and "BF16" not in _capabilities():
            return "OpenVINO has no bfloat16 on this CPU; use precision='float32'"
        return ""

    def describe(self, setting: Setting) -> str:
        """Its name and version."""
        import openvino

        version = openvino.__version__.split("-")[0]
        return f"OpenVINO {version} CPU, fixed batch"

    @contextmanager
    def open(
        self, prepared: Prepared, images: NDArray[np.float32], setting: Setting
    ) -> Iterator[Call]:
        """Compile the model for the shape of the images; calls return OpenVINO's results."""
        request = openvino_request(
            Path(str(prepared)), images.shape, setting.threads, setting.precision
        )
        yield lambda: request.infer([images], share_inputs=True, share_outputs=True)


def openvino_request(
    file: Path, shape: Sequence[int], threads: int = 1, precision: str = "float32"
) -> Any:
    """Open a file with OpenVINO.

    Args:
        file: an ONNX file or model.xml.
        shape: [batch, channels, height, width] that it is compiled for; -1 for a free size.
        threads: of the CPU.
        precision: "bfloat16" computes in it; anything else in the file's own.

    Returns:
        An `openvino.InferRequest`.
    """
    import openvino

    core = openvino.Core()
    model = core.read_model(str(file))
    model.reshape(openvino.PartialShape(list(shape)))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }
    return core.compile_model(model, "CPU", settings).create_infer_request()


def openvino_precision(file: Path) -> str:
    """Precision of a model.xml: "int8" when it holds quantized operators, else "float32".

    Args:
        file: OpenVINO's own form.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    return "int8" if 'type="FakeQuantize"' in text else "float32"


@cache
def _capabilities() -> tuple[str, ...]:
    import openvino

    return tuple(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
