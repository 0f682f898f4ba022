"""Networks as ONNX bytes, by either of torch's two exporters, and in silence.

Both give graphs that ONNX Runtime optimises to the same speed (0.32 ms for one small network,
either way). They differ in what they cost and in their future: TorchScript takes 0.05 s a network
but is deprecated; dynamo is maintained but takes 1 to 3 s. So what is measured thousands of times
is exported by the first, what is deployed by the second, and each steps in for the other.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from parti.core.errors import TrialError
from parti.evaluators.modes import evaluating
from parti.evaluators.silence import silence

__all__ = ["INPUT", "OUTPUT", "OnnxError", "to_onnx"]

INPUT = "images"
"""The name of the input in every exported graph."""
OUTPUT = "logits"
"""The name of the output in every exported graph."""
OPSET = 18
"""The operator set that both exporters reach and every runtime since 2023 reads."""


class OnnxError(TrialError):
    """A network cannot be written as ONNX."""


def to_onnx(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    quick: bool = False,
    batch: int | None = None,
) -> bytes:
    """Write a network in evaluation mode as an ONNX graph with a free batch dimension.

    Batch norms are folded into the convolutions before them, and constants are computed.
    The network is left as it was, and nothing is printed.

    Args:
        network: maps float images [batch, channels, height, width] to one tensor.
        input_shape: (channels, height, width).
        quick: prefer the exporter that takes 0.05 s, for measurements.
        batch: images per call, for a graph whose every size is fixed; None leaves it free.

    Returns:
        The file's bytes, weights included; the input is named "images", the output "logits".

    Raises:
        OnnxError: neither exporter can.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    # Two images: a batch of one would be taken for a constant.
    images = torch.zeros(batch or 2, *input_shape, device=device)
    exporters = [_torchscript, _dynamo] if quick else [_dynamo, _torchscript]
    reasons = []
    with evaluating(network), torch.no_grad(), TemporaryDirectory() as folder, _silence():
        file = Path(folder) / "model.onnx"
        for export in exporters:
            try:
                export(network, images, file, batch is None)
                return file.read_bytes()
            except Exception as error:  # noqa: BLE001 - anything can go wrong in them; the other is next
                first_line = next(iter(str(error).strip().splitlines()), "")
                reasons.append(f"{export.__name__[1:]}: {type(error).__name__}: {first_line:.200}")
                cause = error
    raise OnnxError(
        f"{type(network).__name__} cannot be written as ONNX for images of shape "
        f"{tuple(input_shape)}: {'; '.join(reasons)}. Use operations with a fixed shape that ONNX "
        "has, or measure and deploy with PyTorch (runtime='torch', formats without 'onnx')"
    ) from cause


def _torchscript(network: nn.Module, images: Tensor, file: Path, free: bool) -> None:
    torch.onnx.export(
        network,
        (images,),
        file,
        dynamo=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}} if free else None,
        opset_version=OPSET,
    )


def _dynamo(network: nn.Module, images: Tensor, file: Path, free: bool) -> None:
    program = torch.onnx.export(
        network,
        (images,),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},) if free else None,
        opset_version=OPSET,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    program.save(file)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporters from printing, warning and logging, and modules from fused attention.

    torch's fused attention is quicker in PyTorch but unknown to the exporters. When an export
    fails, C++ code prints the graph, past `sys.stdout`, so the file descriptor is turned away.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # They warn of their own deprecation, of their internals, and of tracing as such.
        with silence(), _stdout_to_null(), redirect_stderr(io.StringIO()):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def _stdout_to_null() -> Iterator[None]:
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    with Path(os.devnull).open("w") as null:
        os.dup2(null.fileno(), 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
