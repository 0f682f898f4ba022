"""PyTorch, eager and compiled: the network itself, on the device where its weights are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from parti.core.errors import InvalidSettings, TrialError
from parti.evaluators.modes import evaluating
from parti.evaluators.runtimes.runtime import Call, Prepared, Setting, cpu_has_bfloat16
from parti.evaluators.silence import silence

__all__ = ["Compiled", "Eager"]


class Eager:
    """PyTorch without compilation: inference and evaluation mode, contiguous images.

    With bfloat16, weights, statistics and images are all in bfloat16.
    """

    package = "torch"
    library = "torch"
    suffixes: tuple[str, ...] = ()
    devices = ("cpu", "cuda", "mps")
    mode = "eager"

    def lacks(self, precision: str, device: str) -> str:
        """Refuse bfloat16 where the CPU lacks it; int8 networks are files of other runtimes."""
        if precision == "int8":
            return (
                "a PyTorch network is not run in int8 here; quantize it to an ONNX file and "
                "measure that with runtime='onnxruntime' or 'openvino'"
            )
        if precision == "bfloat16" and not _bfloat16_on(torch.device(device)):
            return f"{device!r} has no bfloat16 arithmetic, it would be imitated; use 'float32'"
        return ""

    def describe(self, setting: Setting) -> str:
        """Its version and mode."""
        return f"PyTorch {torch.__version__} {self.mode}, contiguous NCHW"

    def prepare(
        self, network: nn.Module, input_shape: Sequence[int], setting: Setting, folder: Path
    ) -> nn.Module:
        """Return the network, or a copy in bfloat16."""
        if setting.precision == "bfloat16":
            return copy.deepcopy(network).to(torch.bfloat16)
        return network

    @contextmanager
    def open(
        self, prepared: Prepared, images: NDArray[np.float32], setting: Setting
    ) -> Iterator[Call]:
        """Put the network in evaluation mode; calls return tensors, and wait for a GPU.

        Raises:
            InvalidSettings: it is a file.
        """
        if isinstance(prepared, Path):
            raise InvalidSettings(f"{prepared} is a file; with runtime 'torch' pass the network")
        device = next((p.device for p in prepared.parameters()), torch.device("cpu"))
        dtype = torch.bfloat16 if setting.precision == "bfloat16" else torch.float32
        tensor = torch.from_numpy(images).to(device, dtype)
        compute = self._made(prepared)

        def call() -> Any:
            result = compute(tensor)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return result

        with evaluating(prepared), torch.inference_mode():
            yield call

    def _made(self, network: nn.Module) -> Callable[[torch.Tensor], Any]:
        return network


class Compiled(Eager):
    """PyTorch after `torch.compile` for one shape. It needs a C++ compiler on the CPU.

    The first call compiles: half a minute or more when nothing of it was compiled before.
    """

    mode = "compiled"

    @contextmanager
    def open(
        self, prepared: Prepared, images: NDArray[np.float32], setting: Setting
    ) -> Iterator[Call]:
        """Compile the network by a first call; later ones return tensors.

        Raises:
            TrialError: it cannot be compiled.
            InvalidSettings: it is a file.
        """
        with super().open(prepared, images, setting) as call:
            try:
                with silence():
                    call()
            except Exception as error:
                raise TrialError(
                    f"torch.compile cannot compile {type(prepared).__name__}: "
                    f"{type(error).__name__}: {str(error)[:300]}. It needs a C++ compiler such as "
                    "g++; or use runtime='torch'"
                ) from error
            yield call

    def _made(self, network: nn.Module) -> Callable[[torch.Tensor], Any]:
        with silence():
            compiled: Callable[[torch.Tensor], Any] = torch.compile(network, dynamic=False)
        return compiled


def _bfloat16_on(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported())
    return device.type == "cpu" and cpu_has_bfloat16()
