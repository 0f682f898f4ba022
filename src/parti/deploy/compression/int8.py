"""Static quantization to 8-bit integers: what ONNX Runtime's quantizer makes of an ONNX file.

Weights are stored in 8 bits for each output channel, activations are rounded to 8 bits in ranges
that are measured beforehand on training images (Jacob et al., CVPR 2018, section 2.1; Nagel et
al., "A White Paper on Neural Network Quantization", arXiv 2106.08295, section 3). Three ways of
measuring are tried, and validation accuracy decides:

    minmax      the least and largest value seen
    percentile  99.99 % of the values
    entropy     the range in which the rounded values' distribution diverges least from the true
                one (Migacz, "8-bit Inference with TensorRT", GTC 2017)

When accuracy suffers, layers are left in float32, the most sensitive first: those whose rounding
alone changes the logits most (Nagel et al., section 4.5, the debugging of single layers).
"""

from __future__ import annotations

import io
import logging
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidSettings, TrialError
from parti.deploy.check import onnx_logits

__all__ = ["METHODS", "Quantized", "quantize"]

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "minmax": ("MinMax", {}),
    "percentile": ("Percentile", {"CalibPercentile": 99.99, "CalibTensorRangeSymmetric": False}),
    "entropy": ("Entropy", {}),
}
"""Ways of measuring ranges: ONNX Runtime's name, and its options."""

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operations that are layers; those between them follow."""

BATCH, JUDGED = 32, 64
"""Images in a calibration batch; images on which layers' sensitivity is measured."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """What quantization has made.

    Args:
        file: the int8 ONNX file, of the same input and output.
        method: how ranges were measured, a key of `METHODS`.
        types: of activations and weights, as "U8S8".
        val_accuracy: its score.
        layers: how many layers there are.
        kept_float: names of the layers that were left in float32.
        tried: the score of each method, and of each number of layers left in float32.
    """

    file: Path
    method: str
    types: str
    val_accuracy: float
    layers: int
    kept_float: tuple[str, ...]
    tried: tuple[tuple[str, float], ...]


def quantize(
    source: Path,
    target: Path,
    images: NDArray[np.float32],
    score: Callable[[Path], float],
    *,
    floor: float,
    methods: Sequence[str] = tuple(METHODS),
) -> Quantized:
    """Quantize an ONNX file; what is written is the best that was found, even under the floor.

    Args:
        source: float32 ONNX file with one input.
        target: the int8 file to write.
        images: [n, channels, height, width] training images as the file takes them, for
            calibration; some hundreds.
        score: validation accuracy of a file, from 0 to 1.
        floor: layers are left in float32 until the score is at least this.
        methods: which of `METHODS` to try.

    Returns:
        The file and how it was made.

    Raises:
        InvalidSettings: there is no such method, or no image.
        TrialError: ONNX Runtime cannot quantize the file.
    """
    if unknown := set(methods) - METHODS.keys():
        raise InvalidSettings(f"no method {sorted(unknown)}; choose from {', '.join(METHODS)}")
    if images.ndim != 4 or not len(images) or not methods:
        raise InvalidSettings(
            f"calibration images of shape {images.shape} with {len(methods)} methods; give "
            "[n, channels, height, width], n at least 1, and one method"
        )
    with TemporaryDirectory(prefix="parti-int8-") as folder, _quiet():
        try:
            work = _Work(source, Path(folder), images)
            return _searched(work, target, score, floor, methods)
        except TrialError:
            raise
        except Exception as error:
            raise TrialError(
                f"ONNX Runtime cannot quantize {source}: {type(error).__name__}: "
                f"{str(error)[:200]}. Leave out the step 'int8'"
            ) from error


def _searched(
    work: _Work,
    target: Path,
    score: Callable[[Path], float],
    floor: float,
    methods: Sequence[str],
) -> Quantized:
    tried: list[tuple[str, float]] = []
    best, best_file, method = -1.0, work.prepared, methods[0]
    for name in methods:
        file = work.quantized(name)
        tried.append((name, score(file)))
        if tried[-1][1] > best:
            best, best_file, method = tried[-1][1], file, name
    spared: tuple[str, ...] = ()
    if best < floor and len(work.layers) > 1:
        ranked, count = work.by_sensitivity(method), 1
        while best < floor and count < len(ranked):
            file = work.quantized(method, exclude=ranked[:count])
            tried.append((f"{method}, {count} in float32", score(file)))
            if tried[-1][1] > best:
                best, best_file, spared = tried[-1][1], file, tuple(ranked[:count])
            count *= 2
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(_without_shapes(best_file))
    partial.replace(target)
    return Quantized(target, method, work.types, best, len(work.layers), spared, tuple(tried))


def _without_shapes(file: Path) -> bytes:
    """A model without the shapes of what is between its nodes.

    Only the quantizer needs them; runtimes infer them, and they make up kilobytes.
    """
    import onnx

    model = onnx.load(file)
    del model.graph.value_info[:]
    content: bytes = model.SerializeToString()
    return content


class _Work:
    """A prepared file, and everything that is quantized from it in a folder."""

    def __init__(self, source: Path, folder: Path, images: NDArray[np.float32]) -> None:
        import onnx
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self.prepared = folder / "prepared.onnx"
        # ONNX's own shape inference knows all sizes of these graphs but that of the batch.
        quant_pre_process(str(source), str(self.prepared), skip_symbolic_shape=True)
        model = onnx.load(self.prepared)
        for number, node in enumerate(model.graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
        onnx.save(model, self.prepared)
        weights = {tensor.name for tensor in model.graph.initializer}
        self.layers = [
            node.name
            for node in model.graph.node
            if node.op_type in LAYERS and weights.intersection(node.input)
        ]
        if not self.layers:
            raise TrialError(f"{source} has no layer to quantize ({', '.join(LAYERS)})")
        self._input = model.graph.input[0].name
        self._folder, self._images, self._count = folder, images, 0
        self._unsigned, self._narrow = _for_cpu()
        self.types = "U8S8" if self._unsigned else "S8S8"

    def quantized(
        self, method: str, *, only: Sequence[str] = (), exclude: Sequence[str] = ()
    ) -> Path:
        """Quantize the whole file, some nodes only, or all but some."""
        from onnxruntime.quantization import (
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        name, options = METHODS[method]
        self._count += 1
        file = self._folder / f"{self._count}.onnx"
        quantize_static(
            str(self.prepared),
            str(file),
            _reader(self._input, self._images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=self._narrow,
            activation_type=QuantType.QUInt8 if self._unsigned else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(exclude),
            calibrate_method=CalibrationMethod[name],
            extra_options=dict(options),
        )
        return file

    def by_sensitivity(self, method: str) -> list[str]:
        """Layers by how much the logits change when each of them alone is quantized."""
        images = self._images[:JUDGED]
        right = onnx_logits(self.prepared)(images)
        changes = {
            layer: float(
                np.square(onnx_logits(self.quantized(method, only=[layer]))(images) - right).mean()
            )
            for layer in self.layers
        }
        return sorted(changes, key=lambda layer: -changes[layer])


def _reader(name: str, images: NDArray[np.float32]) -> Any:
    """ONNX Runtime's reader of calibration images."""
    from onnxruntime.quantization import CalibrationDataReader

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            whole = len(images) // BATCH * BATCH or len(images)  # histograms want equal batches
            self._starts = iter(range(0, whole, BATCH))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            start = next(self._starts, None)
            return None if start is None else {name: images[start : start + BATCH]}

    return Batches()


def _for_cpu() -> tuple[bool, bool]:
    """Whether activations are unsigned here, and whether weights must keep to 7 bits.

    As ONNX Runtime advises: x86 multiplies unsigned by signed, and without VNNI the sum of two
    products may overflow; ARM multiplies signed by signed.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False, False
    try:
        flags = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return True, True
    return True, "vnni" not in flags


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer from printing and from logging what is no error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
