"""One trained model as files that need neither parti nor, for ONNX, PyTorch."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, PartiError
from parti.deploy.card import card
from parti.deploy.check import (
    Agreement,
    Compute,
    ExportError,
    agreement,
    onnx_logits,
    torch_logits,
)
from parti.deploy.model import DeployedModel
from parti.evaluators.to_onnx import to_onnx

__all__ = ["FORMATS", "ExportResult", "export"]

FORMATS: dict[str, str] = {
    "onnx": "model.onnx",
    "safetensors": "weights.safetensors",
    "torch_export": "model.pt2",
}
"""What can be exported, and the file it becomes."""

MODEL_JSON = "model.json"
LAYOUT = 1
"""The version of model.json."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written.

    Args:
        folder: where.
        files: the names in it, with their sizes in bytes.
        agreements: by format, how well the file agrees with the trained model.
    """

    folder: Path
    files: Mapping[str, int]
    agreements: Mapping[str, Agreement]


def export(
    model: DeployedModel,
    folder: Path,
    *,
    info: Mapping[str, Any],
    samples: NDArray[np.float32],
    formats: Sequence[str] = tuple(FORMATS),
) -> ExportResult:
    """Write a model, check every file against the trained one, and describe it.

    The folder appears complete or not at all. It holds the formats that were asked for,
    model.json (all that is known of the model), README.md (its card), and with ONNX predict.py,
    which needs only NumPy and ONNX Runtime. The model itself is left as it was.

    Args:
        model: the trained model.
        folder: where to write; it must not exist, unless as an earlier export, which is replaced.
        info: what to say of the model, as JSON values, kept in model.json. `classes` (names, in
            the order of the logits) is required; the card shows `name`, `description`,
            `architecture`, `data`, `training`, `value_range` ([least, largest] pixel value,
            [0, 255] unless given), `metrics` (name to number), `conditions` (metric name to
            the conditions it holds under), `limits` and `license`.
        samples: [n, channels, height, width] float32, real images as raw pixels, at least one.
        formats: which of `FORMATS`.

    Returns:
        What was written and how well it agrees.

    Raises:
        InvalidSettings: an argument is not allowed, or the folder holds something else.
        ExportMismatch: a file does not compute what the trained model computes.
        ExportError: a format cannot be written.
    """
    _check_arguments(folder, info, samples, formats)
    model = copy.deepcopy(model).cpu().eval()
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    trained = torch_logits(model)
    _check_classes(trained(samples[:2]), info["classes"])
    partial = _partial_folder(folder)
    try:
        agreements = {}
        for name in formats:
            file = partial / FORMATS[name]
            exported = _WRITERS[name](model, samples.shape[1:], file)
            agreements[name] = agreement(trained, exported, samples, file.name)
        if "onnx" in formats:
            shutil.copyfile(Path(__file__).with_name("predict_template.py"), partial / "predict.py")
        described = _description(model, partial, info, samples, agreements)
        _write_json(partial / MODEL_JSON, described)
        (partial / "README.md").write_text(card(described), encoding="utf-8")
        files = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ExportResult(folder, files, agreements)


def _check_arguments(
    folder: Path, info: Mapping[str, Any], samples: NDArray[Any], formats: Sequence[str]
) -> None:
    if unknown := [name for name in formats if name not in FORMATS]:
        raise InvalidSettings(f"no format {unknown[0]!r}; choose from {', '.join(FORMATS)}")
    if not formats:
        raise InvalidSettings(f"no format was asked for; choose from {', '.join(FORMATS)}")
    if samples.ndim != 4 or not len(samples):
        raise InvalidSettings(
            f"samples have shape {samples.shape}; give [n, channels, height, width], n at least 1"
        )
    if not info.get("classes"):
        raise InvalidSettings("info needs 'classes': the names in the order of the logits")
    try:
        json.dumps(_plain(info), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidSettings(f"info must hold JSON values only: {error}") from error
    if folder.exists() and not (folder / MODEL_JSON).is_file():
        raise InvalidSettings(
            f"{folder} exists and is no earlier export (it has no {MODEL_JSON}); choose a new name"
        )


def _check_classes(logits: NDArray[np.float32], classes: Sequence[str]) -> None:
    if logits.ndim != 2 or logits.shape[1] != len(classes):
        raise InvalidSettings(
            f"info names {len(classes)} classes, but the model gives logits of shape "
            f"[batch, {', '.join(map(str, logits.shape[1:]))}]; name one class per logit"
        )


def _partial_folder(folder: Path) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    except OSError as error:
        raise InvalidSettings(
            f"nothing can be written in {folder.parent}: {error}; choose another folder"
        ) from error


def _write_onnx(model: DeployedModel, input_shape: Sequence[int], file: Path) -> Compute:
    file.write_bytes(to_onnx(model, input_shape))
    return onnx_logits(file, threads=1)


def _write_weights(model: DeployedModel, input_shape: Sequence[int], file: Path) -> Compute:
    from safetensors.torch import load_model, save_model

    save_model(model.network, str(file))
    again = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in [*again.network.parameters(), *again.network.buffers()]:
            tensor.zero_()
    load_model(again.network, file)
    return torch_logits(again)


def _write_program(model: DeployedModel, input_shape: Sequence[int], file: Path) -> Compute:
    # Two images: a batch of one would be taken for a constant.
    images = torch.zeros(2, *input_shape)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # torch.export warns of deprecations in its own code.
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
            batch = {0: torch.export.Dim("batch")}
            program = torch.export.export(model, (images,), dynamic_shapes=(batch,), strict=False)
            torch.export.save(program, file)
            loaded = torch.export.load(file).module()
    except Exception as error:
        raise ExportError(
            f"torch.export cannot write {type(model.network).__name__}: {type(error).__name__}: "
            f"{str(error)[:300]}. Leave out the format 'torch_export', or make the network "
            "independent of the batch size and of its input's values"
        ) from error

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = loaded(torch.from_numpy(images)).numpy()
        return logits

    return compute


_WRITERS = {
    "onnx": _write_onnx,
    "safetensors": _write_weights,
    "torch_export": _write_program,
}


def _description(
    model: DeployedModel,
    folder: Path,
    info: Mapping[str, Any],
    samples: NDArray[np.float32],
    agreements: Mapping[str, Agreement],
) -> dict[str, Any]:
    return {
        "value_range": [0, 255],
        **_plain(info),
        "layout": LAYOUT,
        "input": "images",
        "output": "logits",
        "input_shape": list(samples.shape[1:]),
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "params": sum(p.numel() for p in model.network.parameters()),
        "files": {
            file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)}
            for file in sorted(folder.iterdir())
        },
        "agreement": {
            name: {"difference": a.difference, "tolerance": a.tolerance, "images": a.images}
            for name, a in agreements.items()
        },
        "torch": torch.__version__,
    }


def _plain(value: Any) -> Any:
    """Return mappings and sequences as what JSON knows; an architecture is a mapping."""
    if isinstance(value, Architecture):
        return json.loads(value.to_json())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8")


def _publish(partial: Path, folder: Path) -> None:
    """Give a complete folder its name; an earlier export of that name is replaced."""
    partial.chmod(0o755)
    if not folder.exists():
        partial.rename(folder)
        return
    aside = Path(f"{partial}.old")
    folder.rename(aside)
    try:
        partial.rename(folder)
    except OSError as error:
        with suppress(OSError):
            aside.rename(folder)
        raise PartiError(f"{folder} cannot be replaced: {error}; choose a new name") from error
    shutil.rmtree(aside, ignore_errors=True)
