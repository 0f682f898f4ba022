"""Runtimes by name: what runs a network or a file of one, and how it is timed."""

from __future__ import annotations

from importlib.util import find_spec

from parti.core.errors import InvalidSettings
from parti.core.plugins import load
from parti.evaluators.runtimes.runtime import PRECISIONS, Runtime

__all__ = ["RUNTIMES", "load_runtime", "unavailable"]

RUNTIMES: dict[str, str] = {
    "onnxruntime": "parti.evaluators.runtimes.onnx_runtime:OnnxRuntime",
    "torch": "parti.evaluators.runtimes.pytorch:Eager",
    "torch_compiled": "parti.evaluators.runtimes.pytorch:Compiled",
    "openvino": "parti.evaluators.runtimes.openvino:OpenVINO",
    "executorch": "parti.evaluators.runtimes.executorch:ExecuTorch",
}
"""Where parti's runtimes are, loaded on use."""


def load_runtime(
    name: str, precision: str = "float32", device: str = "cpu", *, network: bool = True
) -> Runtime:
    """Return a runtime that is installed and computes with that precision.

    Args:
        name: a key of `RUNTIMES`, "package.module:Name", or an entry point of the group
            `parti.runtime`.
        precision: one of `PRECISIONS`; "int8" stands for files that were quantized.
        device: where it is to run; "cpu", or what torch knows, such as "cuda".
        network: whether it is to run networks, which have no int8, rather than files.

    Raises:
        InvalidSettings: there is no such runtime or precision here, or not on that device, or not
            for networks.
    """
    runtime: Runtime = load("runtime", name, RUNTIMES)()
    if precision not in PRECISIONS:
        raise InvalidSettings(f"no precision {precision!r}; choose from {', '.join(PRECISIONS)}")
    if find_spec(runtime.package) is None:
        raise InvalidSettings(
            f"runtime {name!r} needs the package {runtime.package!r}, which is not installed: "
            f"pip install 'parti[{runtime.package}]', or choose another runtime"
        )
    if device.split(":")[0] not in runtime.devices:
        raise InvalidSettings(
            f"device {device!r} with runtime {name!r}: it is measured on the CPU; use "
            "runtime='torch' to measure on a GPU"
        )
    if reason := runtime.lacks(precision, device):
        raise InvalidSettings(reason)
    if network and precision == "int8":
        raise InvalidSettings(
            "precision 'int8' is that of a quantized file: quantize the network first, and pass "
            "the file"
        )
    return runtime


def unavailable(name: str, precision: str = "float32", device: str = "cpu") -> str:
    """Why neither networks nor files run here with that precision; "" when either can.

    Args:
        name: as in `load_runtime`.
        precision: likewise.
        device: likewise.
    """
    try:
        load_runtime(name, precision, device, network=False)
    except InvalidSettings as error:
        return str(error)
    return ""
