"""An exported model once more, elsewhere and in formats that were not made at first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidSettings
from parti.deploy.card import FLOAT32, card
from parti.deploy.check import ExportError, agreement, program_logits, torch_logits
from parti.deploy.export import (
    MODEL_JSON,
    accompany,
    checked,
    described_files,
    partial_folder,
    usual_modes,
    write_json,
    written,
)
from parti.deploy.formats import FORMATS, checked_formats

__all__ = ["SAMPLES", "export_again"]

SAMPLES = "samples.npz"
"""Where a study keeps real images, in its folder beside the model's: they are the user's data."""

RANDOM_IMAGES = 64


def export_again(model: Path, to: Path, formats: Sequence[str] | None = None) -> list[Path]:
    """Copy an export with some formats; those that it lacks are made of its model.pt2.

    What is made is compared with model.pt2 on the images that the study kept (`SAMPLES`, beside
    the model's folder), or on random pixels where there are none, and timed. The folder appears
    complete or not at all.

    Args:
        model: a folder that `parti.deploy.export.export` wrote.
        to: the folder to make.
        formats: keys of `FORMATS`; None for those that are there.

    Returns:
        The files written.

    Raises:
        InvalidSettings: there is no such format, its package is missing, or the folder exists.
        ExportError: a format cannot be made, or computes something else.
    """
    if not (model / MODEL_JSON).is_file():
        raise ExportError(f"{model} holds no exported model (no {MODEL_JSON}); search again")
    present = _formats_in(model)
    wanted = checked_formats(formats) if formats else present
    if to.exists():
        raise InvalidSettings(f"{to} exists; name a folder that does not")
    partial = partial_folder(to)
    try:
        _copy(model, partial, [name for name in present if name not in wanted], wanted)
        described = json.loads((model / MODEL_JSON).read_text(encoding="utf-8"))
        if missing := [name for name in wanted if name not in present]:
            described |= _make(model, partial, missing, described)
        if set(wanted) != set(present):
            _describe(partial, described)
        usual_modes(partial)
        partial.rename(to)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(file for file in to.rglob("*") if file.is_file())


def _formats_in(folder: Path) -> tuple[str, ...]:
    return tuple(name for name, form in FORMATS.items() if (folder / form.file).exists())


def _copy(model: Path, to: Path, unwanted: Sequence[str], wanted: Sequence[str]) -> None:
    """Copy a model's folder without some formats; predict.py goes with model.onnx."""
    kept = {file for name in wanted for file in (FORMATS[name].file, *FORMATS[name].more)}
    left_out = {file for name in unwanted for file in (FORMATS[name].file, *FORMATS[name].more)}
    left_out -= kept
    if "onnx" not in wanted:
        left_out |= {"predict.py", FLOAT32}

    def ignored(folder: str, names: list[str]) -> set[str]:
        # A Triton repository has a model.onnx of its own.
        return left_out & set(names) if Path(folder) == model else set()

    shutil.copytree(model, to, ignore=ignored, dirs_exist_ok=True)


def _make(
    model: Path, folder: Path, formats: Sequence[str], described: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Write further formats into a copy.

    Returns:
        What model.json says of how all formats were checked, with the further ones.
    """
    from parti.deploy.formats.pytorch import rebuilt

    program = model / FORMATS["torch_export"].file
    if not program.is_file():
        raise ExportError(
            f"{model} has no {program.name}, of which {', '.join(formats)} would be made; export "
            "the formats that are there, or export the trained network again from Python"
        )
    samples = _samples(model.parent / SAMPLES, described)
    trained = program_logits(program)
    network = rebuilt(program, described["mean"], described["std"], samples.shape[1:])
    agreement(trained, torch_logits(network), samples, program.name)
    agreements, latencies = written(network, trained, samples, formats, folder)
    accompany(formats, folder, described["classes"])
    return {
        key: {**described.get(key, {}), **facts}
        for key, facts in checked(agreements, latencies).items()
    }


def _describe(folder: Path, described: dict[str, Any]) -> None:
    """Let model.json and README.md tell of the files that are in a folder, and of no others."""
    files = described_files(folder)
    described["files"] = {
        name: facts for name, facts in files.items() if name not in (MODEL_JSON, "README.md")
    }
    left_out = set(FORMATS) - set(_formats_in(folder))
    if "onnx" in left_out:
        left_out.add(FLOAT32)
        if own := described.pop("temperatures", None):
            described["temperature"] = own[FLOAT32]  # what is left was made of that version
    for key in ("agreement", "latency_ms", "latency_conditions"):
        facts = described.get(key, {})
        described[key] = {name: fact for name, fact in facts.items() if name not in left_out}
    write_json(folder / MODEL_JSON, described)
    (folder / "README.md").write_text(card(described), encoding="utf-8")


def _samples(file: Path, described: Mapping[str, Any]) -> NDArray[np.float32]:
    """Images that the study kept; where there are none, random ones in the range of its pixels."""
    if file.is_file():
        with np.load(file, allow_pickle=False) as kept:
            images: NDArray[np.float32] = kept["images"].astype(np.float32)
        return images
    low, high = described["value_range"]
    shape = (RANDOM_IMAGES, *described["input_shape"])
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)
