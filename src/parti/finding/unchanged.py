"""Whether the data of a finished study is still what its result was measured on.

A finished study answers at once, without reading its data. That its data is the same is told by
what is cheapest: of a folder or file, the names, sizes and times of its files, of which a digest is
kept with the result. Where the digest differs, or none was kept, the data is read, and its
fingerprint decides as it does for an unfinished study: a copy or a new download has other times,
but the same content. If the content differs, the result is no answer to what is asked, so it is
refused, as other settings are.

Arrays from Python carry their fingerprint in the settings; "digits" never changes; a data set of
Hugging Face is known by its name alone, since asking for it needs the network. Data that is no
longer there is no reason to refuse a result.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

from parti.core.errors import InvalidData
from parti.finding.files import read_json, write_json
from parti.finding.found import Found
from parti.finding.settings import Settings

__all__ = ["check_unchanged", "digest_of", "keep_digest"]

FILE = "data.json"
"""Where a study keeps the digest of the files of its data."""


def digest_of(data: object) -> str | None:
    """Digest the names, sizes and times of the files of some data, without opening any.

    Args:
        data: as `parti.tasks.images.read_images` takes it.

    Returns:
        16 hexadecimal digits; None of what is not a file or folder that is there.
    """
    if not isinstance(data, str | Path) or str(data) == "digits" or str(data).startswith("hf:"):
        return None
    path = Path(data).expanduser()
    if not path.exists():
        return None
    digest = blake2b(digest_size=8)
    if path.is_dir():
        for folder, folders, files in os.walk(path):
            folders.sort()
            _add(digest, Path(folder), sorted(files))
    elif path.suffix.lower() == ".npy":  # its labels are in a file beside it
        _add(digest, path.parent, sorted(each.name for each in path.parent.glob("*.npy")))
    else:
        _add(digest, path.parent, [path.name])
    return digest.hexdigest()


def keep_digest(folder: Path, digest: str | None) -> None:
    """Keep what the files of the data were when it was read.

    Args:
        folder: of the study.
        digest: from before it was read.
    """
    if digest is not None:
        write_json(folder / FILE, {"files": digest})


def check_unchanged(found: Found, settings: Settings, data: object) -> None:
    """See that a result is one of the data as it is now.

    Args:
        found: the result.
        settings: of its study.
        data: of its study.

    Raises:
        InvalidData: images or labels have changed since, or cannot be read any more.
    """
    now = digest_of(data)
    if now is None or (read_json(found.folder / FILE) or {}).get("files") == now:
        return
    owner = settings.supernet_of
    splits = (found.folder if owner is None else found.folder.parent / owner) / "splits.npz"
    if not splits.exists():
        return
    from parti.tasks.images import read_images
    from parti.tasks.splits import load_splits

    try:
        read = read_images(
            data,
            image_size=settings.image_size,
            image_column=settings.image_column,
            label_column=settings.label_column,
            cache=found.folder / "cache",
        )
        load_splits(splits, read)
    except InvalidData as error:
        result = found.to_dict()
        images = sum(result["data"]["splits"][part] for part in ("train", "val", "test"))
        raise InvalidData(
            f"study {found.study!r} is finished, and its result of {result['finished']} is for "
            f"{images:,} images; the data now differs ({error}). To search on the data as it is "
            f"now, give the new search another --study name; parti report {found.study} shows "
            "the old result"
        ) from error
    keep_digest(found.folder, now)


def _add(digest: blake2b, folder: Path, names: list[str]) -> None:
    for name in names:
        file = folder / name
        if file.is_file():
            facts = file.stat()
            digest.update(f"{file}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
