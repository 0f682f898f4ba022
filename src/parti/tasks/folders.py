"""Reader of folders of image files: a folder for each class, perhaps within train, val, test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from parti.core.errors import InvalidData
from parti.tasks.found import Found, few, split_code
from parti.tasks.values import TEST, TRAIN, UNDECIDED, VAL

__all__ = ["IMAGE_SUFFIXES", "read_folder"]

IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "jp2", "png", "webp", "gif", "bmp", "tif", "tiff"),
        *("pbm", "pgm", "pnm", "ppm"),
    )
)
LAYOUT = (
    "allowed are a folder of images for each class (photos/cat/1.jpg), these within train/, val/ "
    "and test/, images.npy beside labels.npy, and .parquet files"
)


def read_folder(folder: Path) -> Found:
    """Find the images under a folder with one folder for each class.

    Args:
        folder: holds the class folders, or train/ with val/ and test/ that hold them.

    Returns:
        The paths of the images and the names of their classes.

    Raises:
        InvalidData: there are no class folders, or no images in them.
    """
    notes: list[str] = []
    root = _root(folder, notes)
    parts = [
        (code, child) for child in _folders(root) if (code := split_code(child.name)) is not None
    ]
    if not any(code == TRAIN for code, _ in parts):
        parts = [(UNDECIDED, root)]
    elif extra := [child.name for child in _folders(root) if split_code(child.name) is None]:
        notes.append(f"Folders beside train/ were not read: {few(extra)}.")
    paths: list[Path] = []
    labels: list[str] = []
    given: list[int] = []
    ignored: list[Path] = []
    empty: list[str] = []
    for code, part in parts:
        classes = _folders(part)
        loose = [path for path in _files(part) if _is_image(path)]
        ignored += [path for path in _files(part) if not _is_image(path)]
        if loose and (classes or code in (VAL, TEST)):
            notes.append(
                f"{len(loose)} images lie in {part.name}/ itself, in no class folder: they have "
                f"no label and were left out ({few([path.name for path in loose], 3)})."
            )
        for folder_of_class in classes:
            files = sorted(path for path in _deep(folder_of_class))
            images = [path for path in files if _is_image(path)]
            ignored += [path for path in files if not _is_image(path)]
            if not images:
                empty.append(f"{folder_of_class.relative_to(root)}/")
            paths += images
            labels += [folder_of_class.name] * len(images)
            given += [code] * len(images)
    if not paths:
        raise InvalidData(
            f"{folder}: no images in class folders, only {_contents(folder)}; {LAYOUT}"
        )
    if ignored:
        kinds = Counter(path.suffix.lower() or path.name for path in ignored)
        listed = [f"{count} {kind}" for kind, count in kinds.most_common()]
        notes.append(f"{len(ignored)} files that are not images were ignored: {few(listed)}.")
    if empty:
        notes.append(f"Folders without images were ignored: {few(empty)}.")
    return Found(
        name=folder.resolve().name,
        origin=str(folder),
        pictures=_Files(root, paths),
        labels=np.array(labels, object),
        given=np.array(given, np.int8),
        notes=tuple(notes),
    )


class _Files:
    """Image files, called by their paths below the root."""

    def __init__(self, root: Path, paths: list[Path]) -> None:
        self.root = root
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        for path in self.paths:
            yield path.relative_to(self.root).as_posix(), path


def _root(folder: Path, notes: list[str]) -> Path:
    """Go down where a folder holds nothing but one folder of folders (as archives unpack)."""
    folders = _folders(folder)
    if len(folders) == 1 and split_code(folders[0].name) is None:
        only = folders[0]
        if len(_folders(only)) > 1 and not any(map(_is_image, _files(only))):
            notes.append(f"The classes were read from {only.name}/, the only folder there is.")
            return only
    return folder


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _hidden(path))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _deep(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and not _hidden(path):
            yield from _deep(path)
        elif path.is_file():
            yield path


def _hidden(path: Path) -> bool:
    return path.name.startswith((".", "__MACOSX"))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _contents(folder: Path) -> str:
    names = [f"{path.name}/" if path.is_dir() else path.name for path in sorted(folder.iterdir())]
    return few(names) or "nothing at all"
