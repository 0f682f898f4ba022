"""Where a study keeps its files, and writing them so that none is ever half there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["DEFAULT_STORE", "read_json", "study_folder", "write_json"]

HOME = Path("parti-studies")
DEFAULT_STORE = f"sqlite:///{HOME}/studies.db"


def study_folder(store_url: str, study: str) -> Path:
    """The folder of a study: beside the store's file, else under `parti-studies`."""
    if store_url.startswith("sqlite:///") and store_url != "sqlite:///:memory:":
        return Path(store_url.removeprefix("sqlite:///")).parent / study
    return HOME / study


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file; it appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON file; None when there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found
