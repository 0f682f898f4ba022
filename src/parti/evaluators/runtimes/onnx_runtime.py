"""ONNX Runtime on the CPU: networks as parti exports them, and any ONNX file with one input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from parti.evaluators.runtimes.runtime import Call, Prepared, Setting
from parti.evaluators.to_onnx import to_onnx

__all__ = ["OnnxRuntime", "onnx_precision"]


class OnnxRuntime:
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

    @contextmanager
    def open(
        self, prepared: Prepared, images: NDArray[np.float32], setting: Setting
    ) -> Iterator[Call]:
        """Open a session; calls return a list of arrays."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setting.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        session = onnxruntime.InferenceSession(
            str(prepared), options, providers=["CPUExecutionProvider"]
        )
        feed = {session.get_inputs()[0].name: images}
        yield lambda: session.run(None, feed)


def onnx_precision(file: Path) -> str:
    """Precision of an ONNX file: "int8" when it holds quantized operators, else "float32".

    Args:
        file: an ONNX file.
    """
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    quantized = any("QuantizeLinear" in n.op_type or "QLinear" in n.op_type for n in graph.node)
    return (
        "int8"
        if quantized or any(n.op_type.endswith("Integer") for n in graph.node)
        else ("float32")
    )
