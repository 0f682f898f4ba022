"""Whether an exported file computes what the trained model computes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from parti.core.errors import PartiError
from parti.deploy.model import DeployedModel
from parti.evaluators.runtimes.onnx_runtime import onnx_session

__all__ = [
    "Agreement",
    "Compute",
    "ExportError",
    "ExportMismatch",
    "agreement",
    "onnx_logits",
    "program_logits",
    "singly",
    "torch_logits",
]

Compute = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Images [n, channels, height, width] to logits [n, classes]."""

RELATIVE = 1e-4
ABSOLUTE = 1e-5
ONE_BY_ONE = 8
"""As many images are computed alone, too."""


class ExportError(PartiError):
    """A model cannot be exported."""


class ExportMismatch(ExportError):
    """An exported file does not compute what the trained model computes."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well an exported file agrees with the trained model.

    Args:
        difference: the largest absolute difference of any logit.
        tolerance: the largest that is allowed: 1e-5 plus 1e-4 of the largest logit.
        images: how many images were compared in one batch, and the first 8 of them alone.
    """

    difference: float
    tolerance: float
    images: int


def torch_logits(model: DeployedModel) -> Compute:
    """Compute with the PyTorch model, which is on the CPU and in evaluation mode."""

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = model(torch.from_numpy(images)).numpy()
        return logits

    return compute


def onnx_logits(file: Path, threads: int = 0) -> Compute:
    """Compute with an exported ONNX file in ONNX Runtime on the CPU.

    Args:
        file: the exported model.
        threads: of ONNX Runtime; 0 lets it decide.

    Returns:
        A function of images of any number, which it computes in batches of 256.

    Raises:
        ExportError: ONNX Runtime cannot open the file.
    """
    import onnxruntime

    try:
        session = onnx_session(file, threads)
    except Exception as error:
        raise ExportError(
            f"ONNX Runtime {onnxruntime.__version__} cannot open {file}: {str(error)[:300]}. "
            "Export the model again"
        ) from error
    name = session.get_inputs()[0].name

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        parts: list[Any] = [
            session.run(None, {name: images[i : i + 256]})[0] for i in range(0, len(images), 256)
        ]
        return np.concatenate(parts)

    return compute


def program_logits(file: Path) -> Compute:
    """Compute with a program that torch.export has saved.

    Args:
        file: model.pt2.

    Raises:
        ExportError: it cannot be loaded.
    """
    try:
        with warnings.catch_warnings():
            # torch warns of deprecations in its own code.
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
            loaded = torch.export.load(file).module()
    except Exception as error:
        raise ExportError(
            f"{file} cannot be loaded by torch.export: {str(error)[:300]}. Export the model again"
        ) from error

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = loaded(torch.from_numpy(images)).numpy()
        return logits

    return compute


def singly(compute: Compute) -> Compute:
    """Let what takes one image take several, one after the other."""

    def each(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([compute(images[i : i + 1]) for i in range(len(images))])

    return each


def agreement(
    trained: Compute, exported: Compute, samples: NDArray[np.float32], file: str
) -> Agreement:
    """Compare two computations on the same images, as a batch and one by one.

    Args:
        trained: what is right.
        exported: what is checked.
        samples: [n, channels, height, width] float32, real images; n at least 1.
        file: the exported file's name, for the error.

    Returns:
        The largest difference and how much was allowed.

    Raises:
        ExportError: the trained model itself gives NaN or infinity.
        ExportMismatch: a logit differs by more than the tolerance; or an image gets another
            class, unless its two best logits lie closer than rounding can tell apart; or the
            file fails on one of the two batch sizes.
    """
    batch = samples if len(samples) > 2 else np.concatenate([samples] * 3)
    right = trained(batch)
    if not np.isfinite(right).all():
        raise ExportError(
            "the trained model gives NaN or infinite logits on the sample images; pass raw pixels "
            "like those it was trained on, or train it again"
        )
    tolerance = ABSOLUTE + RELATIVE * float(np.abs(right).max())
    try:
        got, single = exported(batch), _one_by_one(exported, samples)
    except Exception as error:
        raise ExportMismatch(
            f"{file} does not run on batches of 1 and of {len(batch)} images: "
            f"{type(error).__name__}: {str(error)[:300]}. The network must not build the size of "
            "the batch into its computation: use x.shape[0] only as a size, or -1"
        ) from error
    worst = 0.0
    compared = (("batch", got, right), ("one by one", single, _one_by_one(trained, samples)))
    for what, values, truth in compared:
        if values.shape != truth.shape or not np.isfinite(values).all():
            raise ExportMismatch(
                f"{file} gives logits of shape {values.shape} ({what}), finite: "
                f"{bool(np.isfinite(values).all())}; the trained model gives {truth.shape}"
            )
        difference = float(np.abs(values - truth).max())
        changed = _changed(values, truth, 2 * tolerance)
        if difference > tolerance or changed:
            raise ExportMismatch(
                f"{file} differs from the trained model by {difference:.3g} in a logit ({what}); "
                f"allowed are {tolerance:.3g}. {changed} of {len(truth)} images get another "
                "class. The network may decide by its input's values or use random numbers in "
                "evaluation mode, which an export cannot keep"
            )
        worst = max(worst, difference)
    return Agreement(difference=worst, tolerance=tolerance, images=len(samples))


def _one_by_one(compute: Compute, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    count = min(len(samples), ONE_BY_ONE)
    return np.concatenate([compute(samples[i : i + 1]) for i in range(count)])


def _changed(values: NDArray[np.float32], truth: NDArray[np.float32], tie: float) -> int:
    """How many images get another class, leaving out ties."""
    best = truth.max(axis=1)
    chosen = np.take_along_axis(truth, values.argmax(axis=1)[:, None], axis=1)[:, 0]
    return int((best - chosen > tie).sum())
