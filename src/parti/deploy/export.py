"""One trained model as files that need neither parti nor, for ONNX, PyTorch."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import stat
import tempfile
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
from parti.deploy.card import card, without_paths
from parti.deploy.check import Agreement, Compute, agreement, torch_logits
from parti.deploy.formats import FORMATS, USUAL, checked_formats
from parti.deploy.formats.triton import LABELS
from parti.deploy.model import DeployedModel
from parti.deploy.temperature import checked_temperature
from parti.evaluators.runtimes.measuring import Timing, hardware, timed, torch_threads

__all__ = [
    "MODEL_JSON",
    "ExportResult",
    "accompany",
    "checked",
    "described_files",
    "export",
    "partial_folder",
    "usual_modes",
    "write_json",
    "written",
]

MODEL_JSON = "model.json"
LAYOUT = 1
"""The version of model.json."""
TIMING = Timing(warmup=3, repeats=20, min_seconds=0.2)
"""How each file's calls are timed after it was checked."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written.

    Args:
        folder: where.
        files: the names in it, with their sizes in bytes.
        agreements: by format, how well the file agrees with the trained model.
        latencies: by format, milliseconds of a call with one image.
    """

    folder: Path
    files: Mapping[str, int]
    agreements: Mapping[str, Agreement]
    latencies: Mapping[str, float]


def export(
    model: DeployedModel,
    folder: Path,
    *,
    info: Mapping[str, Any],
    samples: NDArray[np.float32],
    formats: Sequence[str] = USUAL,
    keep: Path | None = None,
) -> ExportResult:
    """Write a model, check every file against the trained one, time it, and describe it.

    The folder appears complete or not at all. It holds the formats that were asked for,
    model.json (all that is known of the model), README.md (its card), and with ONNX predict.py,
    which needs only NumPy and ONNX Runtime. The model itself is left as it was.

    Args:
        model: the trained model.
        folder: where to write; it must not exist, unless as an earlier export, which is replaced.
        info: what to say of the model, as JSON values, kept in model.json. `classes` (names, in
            the order of the logits) is required; the card shows `name`, `description`,
            `architecture`, `data` (of its `origin`, a path, only the last folder is kept),
            `training`, `value_range` ([least, largest] pixel value, [0, 255] unless given),
            `metrics` (name to number), `conditions` (metric name to the conditions it holds
            under), `temperature` (what predict.py and the server divide logits by for
            probabilities), `limits` and `license`.
        samples: [n, channels, height, width] float32, real images as raw pixels, at least one.
        formats: which of `parti.deploy.formats.FORMATS`.
        keep: where to keep the samples (.npz) for checking formats that are made later; it is no
            part of the model's folder, since they are the user's data.

    Returns:
        What was written and how well it agrees.

    Raises:
        InvalidSettings: an argument is not allowed, or the folder holds something else.
        ExportMismatch: a file does not compute what the trained model computes.
        ExportError: a format cannot be written.
    """
    formats = checked_formats(formats)
    _check_arguments(folder, info, samples)
    model = copy.deepcopy(model).cpu().eval()
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    trained = torch_logits(model)
    _check_classes(trained(samples[:2]), info["classes"])
    partial = partial_folder(folder)
    try:
        agreements, latencies = written(model, trained, samples, formats, partial)
        accompany(formats, partial, info["classes"])
        described = _description(model, partial, info, samples)
        described |= checked(agreements, latencies)
        write_json(partial / MODEL_JSON, described)
        (partial / "README.md").write_text(card(described), encoding="utf-8")
        files = {name: int(facts["bytes"]) for name, facts in described_files(partial).items()}
        usual_modes(partial)
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if keep is not None:
        np.savez_compressed(keep, images=samples)
    return ExportResult(folder, files, agreements, latencies)


def written(
    model: DeployedModel,
    trained: Compute,
    samples: NDArray[np.float32],
    formats: Sequence[str],
    folder: Path,
) -> tuple[dict[str, Agreement], dict[str, float]]:
    """Write formats into a folder, compare each with the trained model, and time it.

    Args:
        model: on the CPU and in evaluation mode.
        trained: what computes the right logits.
        samples: [n, channels, height, width] float32, raw pixels.
        formats: keys of `FORMATS`.
        folder: that exists.

    Returns:
        By format, how well it agrees, and the median milliseconds of a call with one image.

    Raises:
        ExportMismatch: a file does not compute what the trained model computes.
        PartiError: a format cannot be written.
    """
    agreements, latencies = dict[str, Agreement](), dict[str, float]()
    for name in formats:
        exported = FORMATS[name].write(model, samples.shape[1:], folder)
        agreements[name] = agreement(trained, exported, samples, FORMATS[name].file)
        latencies[name] = _milliseconds(exported, samples[:1])
    return agreements, latencies


def accompany(formats: Sequence[str], folder: Path, classes: Sequence[str]) -> None:
    """Write what goes with some formats: predict.py with ONNX, the classes' names for Triton.

    Args:
        formats: that were written.
        folder: in which.
        classes: names, in the order of the logits.
    """
    if "onnx" in formats:
        shutil.copyfile(Path(__file__).with_name("predict_template.py"), folder / "predict.py")
    if "triton" in formats:
        text = "".join(f"{name}\n" for name in classes)
        (folder / FORMATS["triton"].file / LABELS).write_text(text, encoding="utf-8")


def usual_modes(folder: Path) -> None:
    """Let everybody read a folder and all in it whom the umask lets read new files.

    Some writers (safetensors) and temporary folders shut out all but the owner.

    Args:
        folder: in which all files and folders are meant.
    """
    probe = folder / ".mode"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in (folder, *folder.rglob("*")):
        # Who may read a folder may enter it.
        path.chmod(mode | (mode & 0o444) >> 2 if path.is_dir() else mode)


def _milliseconds(compute: Compute, images: NDArray[np.float32]) -> float:
    with torch_threads(1):
        return float(np.median(timed(lambda: compute(images), TIMING)) * 1e3)


def checked(
    agreements: Mapping[str, Agreement], latencies: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Say for model.json how the formats were checked and timed.

    Args:
        agreements: by format.
        latencies: by format, in milliseconds.
    """
    procedure = f"median of at least {TIMING.repeats} calls with one image after {TIMING.warmup}"
    return {
        "agreement": {
            name: {"difference": a.difference, "tolerance": a.tolerance, "images": a.images}
            for name, a in agreements.items()
        },
        "latency_ms": dict(latencies),
        "latency_conditions": {
            name: f"{FORMATS[name].file}, 1 thread, {procedure}, from and to NumPy, "
            f"{hardware(torch.device('cpu'))}"
            for name in latencies
        },
    }


def _check_arguments(folder: Path, info: Mapping[str, Any], samples: NDArray[Any]) -> None:
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
    checked_temperature(info.get("temperature"))
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


def partial_folder(folder: Path) -> Path:
    """Make a new folder beside one that is to be written, which is renamed when it is complete.

    Args:
        folder: that is to be written.

    Raises:
        InvalidSettings: nothing can be written there.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    except OSError as error:
        raise InvalidSettings(
            f"nothing can be written in {folder.parent}: {error}; choose another folder"
        ) from error


def _description(
    model: DeployedModel,
    folder: Path,
    info: Mapping[str, Any],
    samples: NDArray[np.float32],
) -> dict[str, Any]:
    given = _plain(info)
    temperature = checked_temperature(given.pop("temperature", None))
    if isinstance(given.get("data"), Mapping):
        given["data"] = without_paths(given["data"])
    return {
        "value_range": [0, 255],
        **given,
        **({"temperature": temperature} if temperature is not None else {}),
        "layout": LAYOUT,
        "input": "images",
        "output": "logits",
        "input_shape": list(samples.shape[1:]),
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "params": sum(p.numel() for p in model.network.parameters()),
        "files": described_files(folder),
        "torch": torch.__version__,
    }


def described_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Bytes and SHA-256 of every file in a folder and its folders, by its path in it."""
    return {
        file.relative_to(folder).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": _sha256(file),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
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


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Write JSON values for readers, in UTF-8."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8")


def _publish(partial: Path, folder: Path) -> None:
    """Give a complete folder its name; an earlier export of that name is replaced."""
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
