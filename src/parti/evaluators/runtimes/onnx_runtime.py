"""ONNX Runtime on the CPU: networks as parti exports them, and any ONNX file with one input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.evaluators.runtimes.runtime import Call, Prepared, Setting
from parti.evaluators.runtimes.through_onnx import ThroughOnnx

__all__ = ["OnnxRuntime", "onnx_precision", "onnx_session"]


class OnnxRuntime(ThroughOnnx):
    """ONNX Runtime with its CPU provider, all graph optimisations on, one request at a time."""

    package = "onnxruntime"
    library = "onnxruntime"
    suffixes = (".onnx",)
    devices = ("cpu",)

    def lacks(self, precision: str, device: str) -> str:
        """Its CPU provider has no convolution in bfloat16."""
        if precision != "bfloat16":
            return ""
        return (
            "ONNX Runtime has no bfloat16 convolutions on the CPU; use precision='float32', a "
            "quantized file, or another runtime"
        )

    def describe(self, setting: Setting) -> str:
        """Its name and version."""
        import onnxruntime

        return f"ONNX Runtime {onnxruntime.__version__} CPU"

    @contextmanager
    def open(
        self, prepared: Prepared, images: NDArray[np.float32], setting: Setting
    ) -> Iterator[Call]:
        """Open a session; calls return a list of arrays."""
        session = onnx_session(Path(str(prepared)), setting.threads)
        feed = {session.get_inputs()[0].name: images}
        yield lambda: session.run(None, feed)


def onnx_session(file: Path, threads: int) -> Any:
    """Open a file with ONNX Runtime on the CPU; it says nothing but errors.

    Args:
        file: an ONNX file.
        threads: that compute one operator; 0 lets ONNX Runtime decide.

    Returns:
        An `onnxruntime.InferenceSession`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def onnx_precision(file: Path) -> str:
    """Precision of an ONNX file: "int8" when it holds quantized operators, else "float32".

    Args:
        file: an ONNX file.
    """
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    quantized = any(
        "QuantizeLinear" in n.op_type or "QLinear" in n.op_type or n.op_type.endswith("Integer")
        for n in graph.node
    )
    return "int8" if quantized else "float32"
