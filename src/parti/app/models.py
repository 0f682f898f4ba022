"""Copying an exported model, and predicting with it as its owner will: through its predict.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from parti.core.errors import InvalidSettings

__all__ = ["copy_model", "run_predict"]

FILES = {"onnx": "model.onnx", "safetensors": "weights.safetensors", "torch_export": "model.pt2"}


def copy_model(model: Path, to: Path, formats: Sequence[str] | None) -> list[Path]:
    """Copy a model's folder with some of its formats.

    Args:
        model: the folder that a search has exported, every file of which was checked.
        to: the folder to make.
        formats: keys of `FILES`; None for all.

    Returns:
        The files written.

    Raises:
        InvalidSettings: there is no such format, or the folder exists.
    """
    wanted = set(formats or FILES)
    if unknown := wanted - FILES.keys():
        raise InvalidSettings(f"unknown formats {sorted(unknown)}; there are {', '.join(FILES)}")
    if to.exists():
        raise InvalidSettings(f"{to} exists; name a folder that does not")
    left_out = {FILES[name] for name in FILES if name not in wanted}
    if "onnx" not in wanted:
        left_out.add("predict.py")
    shutil.copytree(model, to, ignore=lambda _, names: left_out & set(names))
    return sorted(file for file in to.rglob("*") if file.is_file())


def run_predict(model: Path, images: Sequence[Path], top: int, json_: bool) -> int:
    """Run the model's own predict.py and return its exit code."""
    command = [sys.executable, str(model / "predict.py"), *map(str, images), "--top", str(top)]
    return subprocess.run([*command, *(["--json"] if json_ else [])], check=False).returncode  # noqa: S603
