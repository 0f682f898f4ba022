"""What was understood of the data: said before anything runs, and kept with the results."""

from __future__ import annotations

from typing import Any

import numpy as np

from parti.tasks.found import few
from parti.tasks.values import ImageData, Splits

__all__ = ["describe", "summary"]


def summary(data: ImageData, splits: Splits) -> dict[str, Any]:
    """Return what is known of data and splits, as JSON values."""
    counts = np.bincount(data.labels, minlength=len(data.classes))
    return {
        "name": data.name,
        "origin": data.origin,
        "images": len(data),
        "height": data.height,
        "width": data.width,
        "channels": data.channels,
        "type": str(data.images.dtype),
        "classes": list(data.classes),
        "images_per_class": counts.tolist(),
        "train": len(splits.train),
        "val": len(splits.val),
        "test": len(splits.test),
        "split_seed": splits.seed,
        "split": splits.how,
        "notes": list(data.notes),
        "fingerprint": data.fingerprint,
    }


def describe(data: ImageData, splits: Splits) -> list[tuple[str, str]]:
    """Return rows of (what, value) for people to read."""
    counts = np.bincount(data.labels, minlength=len(data.classes))
    smallest, largest = int(counts.argmin()), int(counts.argmax())
    colours = {1: "grey", 3: "colour"}.get(data.channels, f"{data.channels} channels")
    balance = f"{counts[smallest]:,} images each"
    if counts[smallest] != counts[largest]:
        balance = (
            f"from {counts[smallest]:,} images ({data.classes[smallest]}) "
            f"to {counts[largest]:,} ({data.classes[largest]})"
        )
    parts = f"{len(splits.train):,} train, {len(splits.val):,} val, {len(splits.test):,} test"
    return [
        ("data", data.name if data.name == data.origin else f"{data.name} ({data.origin})"),
        ("images", f"{len(data):,}"),
        ("size", f"{data.width} × {data.height} pixels, {colours}, {data.images.dtype}"),
        ("classes", f"{len(data.classes)}: {few(data.classes, 10)}"),
        ("balance", balance),
        ("splits", f"{parts}. {splits.how}"),
        *(("note", note) for note in data.notes),
    ]
