"""The folder of a compressed model: complete, described, with the predict.py that runs it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidSettings, PartiError
from parti.deploy.card import FLOAT32, card
from parti.deploy.check import Compute, agreement, onnx_logits, torch_logits
from parti.deploy.compression.plan import Compressed
from parti.deploy.export import (
    MODEL_JSON,
    accompany,
    described_files,
    export,
    usual_modes,
    write_json,
)
from parti.deploy.formats import FORMATS
from parti.deploy.model import DeployedModel

__all__ = ["ship"]

MODEL = FORMATS["onnx"].file

ROUNDED = (
    f"{MODEL} computes in 8-bit integers: its logits differ from those of {FLOAT32}, "
    f"and its accuracy, below, was measured on {MODEL} itself."
)


def ship(
    compressed: Compressed,
    folder: Path,
    *,
    info: Mapping[str, Any],
    samples: NDArray[np.float32],
) -> Path:
    """Write the folder of a compressed model; it appears complete or not at all.

    It holds what `parti.deploy.export.export` writes, except the weights alone, which no space
    builds a network for any more. model.onnx is the final version, int8 if that was kept; then
    model_float32.onnx is the one it was quantized from.

    Args:
        compressed: what was made; its final version is written.
        folder: where to write; it must not exist, unless as an earlier export, which is replaced.
        info: as for `export`: classes, metrics, and so on; `mean` and `std` are required. The
            temperature is that of the final version.
        samples: [n, channels, height, width] real images as raw pixels, to check files on.

    Returns:
        The folder.

    Raises:
        InvalidSettings: the version breaks a limit, or the folder holds something else.
        ExportMismatch: a float32 file does not compute what the network computes.
    """
    if compressed.broken:
        broken = ", ".join(map(str, compressed.broken))
        raise InvalidSettings(
            f"the compressed model breaks {broken}, so it is not shipped; allow a larger drop of "
            "accuracy or a weaker limit"
        )
    if folder.exists() and not (folder / "model.json").is_file():
        raise InvalidSettings(f"{folder} exists and is no earlier export; choose a new name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as place:
        made = Path(place) / "model"
        model = DeployedModel(compressed.float32.network, info["mean"], info["std"]).eval()
        own = {**info, "temperature": compressed.final.temperature}
        export(model, made, info=own, samples=samples, formats=("torch_export",))
        _add_onnx(made, compressed, torch_logits(model), samples)
        usual_modes(made)
        _replace(made, folder)
    return folder


def _add_onnx(
    folder: Path, compressed: Compressed, trained: Compute, samples: NDArray[np.float32]
) -> None:
    """Put the very files that were measured into an export, with predict.py, and describe them."""
    final, name = compressed.final, FLOAT32 if compressed.quantized else MODEL
    shutil.copyfile(compressed.float32.file, folder / name)
    same = agreement(trained, onnx_logits(folder / name, threads=1), samples, name)
    shutil.copyfile(final.file, folder / MODEL)
    described = json.loads((folder / MODEL_JSON).read_text(encoding="utf-8"))
    accompany(("onnx",), folder, described["classes"])
    described["quantized"] = compressed.quantized
    described["agreement"][name if compressed.quantized else "onnx"] = asdict(same)
    described["latency_ms"]["onnx"] = final.metrics["latency_ms"]
    described["latency_conditions"]["onnx"] = final.conditions
    described["files"] = {
        file: facts
        for file, facts in described_files(folder).items()
        if file not in (MODEL_JSON, "README.md")
    }
    if compressed.quantized:
        # 1.0 divides by nothing: the temperature of model.onnx is not that of the float32 version.
        described["temperatures"] = {FLOAT32: compressed.float32.temperature or 1.0}
        training = described.get("training")
        described["training"] = f"{training}. {ROUNDED}" if training else ROUNDED
    write_json(folder / MODEL_JSON, described)
    (folder / "README.md").write_text(card(described), encoding="utf-8")


def _replace(made: Path, folder: Path) -> None:
    """Give a complete folder its name; an earlier one goes with the temporary folder."""
    aside = made.with_name("earlier")
    if folder.exists():
        folder.rename(aside)
    try:
        made.rename(folder)
    except OSError as error:
        if aside.exists():
            with suppress(OSError):
                aside.rename(folder)
        raise PartiError(f"{folder} cannot be written: {error}; choose a new name") from error
