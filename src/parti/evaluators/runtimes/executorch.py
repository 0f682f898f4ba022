"""ExecuTorch with XNNPACK, the runtime of PyTorch for phones: networks, and .pte files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from parti.core.errors import InvalidSettings, TrialError
from parti.evaluators.modes import evaluating
from parti.evaluators.runtimes.runtime import Call, Prepared, Setting
from parti.evaluators.silence import silence

__all__ = ["ExecuTorch", "pte_method", "to_pte"]


class ExecuTorch:
    """ExecuTorch's CPU runtime; what XNNPACK has no kernel for runs on its portable ones."""

    package = "executorch"
    library = "executorch.extension.pybindings.portable_lib"
    suffixes = (".pte",)
    devices = ("cpu",)

    def lacks(self, precision: str, device: str) -> str:
        """XNNPACK's convolutions are in float32, or int8 in files that were quantized."""
        if precision == "bfloat16":
            return "ExecuTorch with XNNPACK has no bfloat16 convolutions; use precision='float32'"
        return ""

    def describe(self, setting: Setting) -> str:
        """Its name and version."""
        from importlib.metadata import version

        return f"ExecuTorch {version('executorch')} XNNPACK, fixed batch"

    def prepare(
        self, network: nn.Module, input_shape: Sequence[int], setting: Setting, folder: Path
    ) -> Path:
        """Lower the network for the batch of the setting.

        Raises:
            TrialError: it cannot be lowered.
        """
        file = folder / "model.pte"
        file.write_bytes(to_pte(network, input_shape, setting.batch))
        return file

    @contextmanager
    def open(
        self, prepared: Prepared, images: NDArray[np.float32], setting: Setting
    ) -> Iterator[Call]:
        """Load the program; calls return a list of tensors.

        The threads are those of the whole process, and stay as they were set.
        """
        method = pte_method(Path(str(prepared)), setting.threads)
        given = [torch.from_numpy(images)]
        yield lambda: method.execute(given)


def to_pte(network: nn.Module, input_shape: Sequence[int], batch: int = 1) -> bytes:
    """Lower a network in evaluation mode to an ExecuTorch program for XNNPACK.

    Args:
        network: maps float images [batch, channels, height, width] to one tensor.
        input_shape: (channels, height, width).
        batch: images per call, fixed in the program with the memory it plans.

    Returns:
        The bytes of a .pte file, with one method "forward".

    Raises:
        TrialError: torch.export or ExecuTorch cannot.
        InvalidSettings: ExecuTorch, or a package that it needs, is not installed.
    """
    with _silence(), evaluating(network), torch.no_grad():
        try:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
                XnnpackPartitioner,
            )
            from executorch.exir import to_edge_transform_and_lower
        except ImportError as error:
            raise InvalidSettings(
                f"ExecuTorch is not completely installed ({error}); install it again with: "
                "pip install 'parti[executorch]', or choose another runtime"
            ) from error
        try:
            images = (torch.zeros(batch, *input_shape),)
            program = torch.export.export(network, images, strict=False)
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            made: bytes = lowered.to_executorch().buffer
        except Exception as error:
            raise TrialError(
                f"{type(network).__name__} cannot be lowered to ExecuTorch for images of shape "
                f"{(batch, *input_shape)}: {type(error).__name__}: {str(error)[:300]}. Use "
                "operations of its core set, or another runtime"
            ) from error
    return made


def pte_method(file: Path, threads: int) -> Any:
    """Load the method "forward" of a .pte file.

    Args:
        file: an ExecuTorch program.
        threads: of the whole process's pool.

    Returns:
        An `executorch.runtime.Method`.
    """
    with _silence():
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        portable_lib._unsafe_reset_threadpool(threads)
        # The program is kept alive by what it returns.
        return Runtime.get().load_program(str(file)).load_method("forward")


@contextmanager
def _silence() -> Iterator[None]:
    """Importing and lowering log, warn and print of ExecuTorch's own insides."""
    with silence(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
