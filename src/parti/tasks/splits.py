"""Cutting data into training, validation and test, and giving out only what may be seen."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from parti.core.errors import InvalidData, InvalidSettings
from parti.tasks.found import few
from parti.tasks.storage import allocate
from parti.tasks.values import (
    TEST,
    VAL,
    ImageData,
    Indices,
    Pixels,
    SearchData,
    Splits,
    TestData,
)

__all__ = [
    "SearchData",
    "Splits",
    "TestData",
    "load_splits",
    "part_of",
    "save_splits",
    "search_data",
    "split",
    "test_data",
]

ROWS_AT_ONCE = 1024


def split(data: ImageData, *, seed: int, val: float = 0.15, test: float = 0.15) -> Splits:
    """Cut data into training, validation and test, with each class in proportion.

    A test or validation split that the source fixes is kept. What is missing is cut, at random,
    from the rest; the rest is for training.

    Args:
        data: what to cut.
        seed: of the random numbers; the same seed gives the same cut in every process.
        val: share of the images to cut from that goes to validation.
        test: share of them that goes to the test.

    Returns:
        Three disjoint sets of indices that cover all images; every class is in each of them.

    Raises:
        InvalidData: a class has too few images to be in all three.
        InvalidSettings: a share is not between 0 and 1, or nothing would be left to train on.
    """
    if not (0 < val < 1 and 0 < test < 1 and val + test < 1):
        raise InvalidSettings(
            f"val={val!r} and test={test!r} must be shares between 0 and 1 that leave some images "
            "for training, such as 0.15 and 0.15"
        )
    purpose = data.given.astype(np.int8)
    free = (purpose != VAL) & (purpose != TEST)
    to_cut = [
        (code, share) for code, share in ((VAL, val), (TEST, test)) if not (purpose == code).any()
    ]
    for label in range(len(data.classes)):
        members = np.flatnonzero((data.labels == label) & free)
        order = np.random.default_rng([seed, label]).permutation(members)
        sizes = _sizes(len(members), [share for _, share in to_cut])
        start = 0
        for (code, _), size in zip(to_cut, sizes, strict=True):
            purpose[order[start : start + size]] = code
            start += size
    train = np.flatnonzero((purpose != VAL) & (purpose != TEST))
    splits = Splits(
        train,
        np.flatnonzero(purpose == VAL),
        np.flatnonzero(purpose == TEST),
        seed,
        _how(to_cut, seed),
    )
    _refuse_absent(data, splits)
    return splits


def _sizes(n: int, shares: list[float]) -> list[int]:
    """How many of a class's n images to cut for each share: one at least, and one is left."""
    sizes = [max(1, round(n * share)) for share in shares]
    while sum(sizes) >= n and max(sizes, default=0) > 1:
        sizes[sizes.index(max(sizes))] -= 1
    return sizes


def _how(to_cut: list[tuple[int, float]], seed: int) -> str:
    names = {VAL: "validation", TEST: "test"}
    cut = " and ".join(f"{share:.0%} for {names[code]}" for code, share in to_cut)
    kept = [names[code] for code in (VAL, TEST) if code not in dict(to_cut)]
    if not to_cut:
        return "All splits are those of the source."
    source = f"The source's {kept[0]} split is kept; " if kept else ""
    return f"{source}{cut} cut at random within each class (seed {seed})."


def _refuse_absent(data: ImageData, splits: Splits) -> None:
    totals = np.bincount(data.labels, minlength=len(data.classes))
    for name, part in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        counts = np.bincount(data.labels[part], minlength=len(data.classes))
        absent = np.flatnonzero(counts == 0)
        if len(absent):
            listed = few([f"{data.classes[c]!r} ({totals[c]} images)" for c in absent])
            raise InvalidData(
                f"{data.origin}: the {name} split has no image of {listed}; every class needs at "
                "least one in each of train, val and test. Add images, remove or merge these "
                "classes, or put all images together so that the split is cut anew"
            )


def save_splits(path: str | Path, splits: Splits, data: ImageData) -> None:
    """Write splits to an .npz file, with the fingerprint of the data they belong to."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with unfinished.open("wb") as file:
        np.savez_compressed(
            file,
            train=splits.train,
            val=splits.val,
            test=splits.test,
            seed=splits.seed,
            how=splits.how,
            fingerprint=data.fingerprint,
        )
    unfinished.replace(path)


def load_splits(path: str | Path, data: ImageData) -> Splits:
    """Read what `save_splits` wrote.

    Raises:
        InvalidData: the file is missing or broken, or the data is no longer the same.
    """
    try:
        with Path(path).open("rb") as opened, np.load(opened) as file:
            fingerprint = str(file["fingerprint"])
            train, val, test = (file[name].astype(np.int64) for name in ("train", "val", "test"))
            seed, how = int(file["seed"]), str(file["how"])
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise InvalidData(
            f"{path} cannot be read as splits ({error}); cut them again with split()"
        ) from error
    if fingerprint != data.fingerprint:
        raise InvalidData(
            f"{path} belongs to other data (fingerprint {fingerprint}) than {data.origin} is now "
            f"({data.fingerprint}): images or labels have changed since. Restore the data, or "
            "start a new study with a new split"
        )
    return Splits(train, val, test, seed, how)


def search_data(data: ImageData, splits: Splits, cache: Path | None = None) -> SearchData:
    """Copy out what a search may see, without any reference to the test images.

    Args:
        data: all images.
        splits: which of them are for what.
        cache: the folder for images that do not fit in memory; None for ~/.cache/parti.
    """
    train = _taken(data.images, splits.train, cache)
    mean, std = _moments(train)
    value_range = (0.0, 255.0)
    if train.dtype != np.uint8:
        value_range = (float(train.min()), float(train.max()))
    return SearchData(
        train_images=train,
        train_labels=data.labels[splits.train],
        val_images=_taken(data.images, splits.val, cache),
        val_labels=data.labels[splits.val],
        classes=data.classes,
        mean=mean,
        std=std,
        value_range=value_range,
        name=data.name,
    )


def part_of(data: SearchData, train: int, val: int, *, seed: int) -> SearchData:
    """Keep some of the images, with each class in proportion.

    Args:
        data: what a search may see.
        train: how many training images to keep; more than there are keeps all.
        val: how many validation images to keep, likewise.
        seed: of the draw.

    Raises:
        InvalidSettings: fewer images than classes.
    """
    if min(train, val) < data.class_count:
        raise InvalidSettings(
            f"{train} training and {val} validation images for {data.class_count} classes; "
            "keep at least one of each class in both"
        )
    random = np.random.default_rng(seed)
    kept = _in_proportion(data.train_labels, train, random)
    kept_val = _in_proportion(data.val_labels, val, random)
    return replace(
        data,
        train_images=data.train_images[kept],
        train_labels=data.train_labels[kept],
        val_images=data.val_images[kept_val],
        val_labels=data.val_labels[kept_val],
    )


def _in_proportion(labels: Indices, count: int, random: np.random.Generator) -> Indices:
    """Draw `count` places so that every class gives the same share, and each at least one."""
    order = random.permutation(len(labels))
    # The rank of an image within its class, relative to the size of the class: the lowest stay.
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        rank[mine] = np.arange(len(mine)) / len(mine)
    kept: Indices = np.sort(order[np.argsort(rank[order], kind="stable")[:count]])
    return kept


def test_data(data: ImageData, splits: Splits, cache: Path | None = None) -> TestData:  # noqa: PT028
    """Copy out the test split, for the report on the final model."""
    return TestData(_taken(data.images, splits.test, cache), data.labels[splits.test], data.classes)


test_data.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def _taken(images: Pixels, indices: Indices, cache: Path | None) -> Pixels:
    taken = allocate((len(indices), *images.shape[1:]), images.dtype, cache)
    for start in range(0, len(indices), ROWS_AT_ONCE):
        taken[start : start + ROWS_AT_ONCE] = images[indices[start : start + ROWS_AT_ONCE]]
    return taken


def _moments(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation for each channel, in two passes of float64."""
    count = images[..., 0].size
    mean = np.zeros(images.shape[-1])
    for start in range(0, len(images), ROWS_AT_ONCE):
        mean += images[start : start + ROWS_AT_ONCE].sum(axis=(0, 1, 2), dtype=np.float64) / count
    variance = np.zeros(images.shape[-1])
    for start in range(0, len(images), ROWS_AT_ONCE):
        away = images[start : start + ROWS_AT_ONCE] - mean
        variance += np.square(away).sum(axis=(0, 1, 2)) / count
    std = np.sqrt(variance)
    std[std <= 1e-8 * np.maximum(1, np.abs(mean))] = 1.0
    return tuple(mean.tolist()), tuple(std.tolist())
