"""How often a test split was opened: by a study, others on its split, and their compressions."""

from __future__ import annotations

from pathlib import Path

from parti.core.protocols import Store
from parti.finding.files import read_json

__all__ = ["COMPRESSION_JSON", "count_openings"]

COMPRESSION_JSON = "compression.json"
"""What is written of a compression, in the study's folder."""


def count_openings(store: Store, study: str, folder: Path) -> int:
    """Count how often the test split of a study has been opened by now.

    A split is shared by a study, those that took a network from its supernet, and those that began
    with its result on the same data. Each of them and each compression writes down, when it opens
    the split, for which time that is; the largest of these numbers counts.

    Args:
        store: keeps the studies.
        study: the name of one of them.
        folder: in which each study has its folder.

    Returns:
        0 while nobody has opened it.
    """
    owner = _owner(store, study, folder)
    names = [name for name in store.studies() if "/" not in name]
    written = [
        read_json(folder / name / file)
        for name in names
        if _owner(store, name, folder) == owner
        for file in ("result.json", COMPRESSION_JSON)
    ]
    return max((int(one.get("test_openings") or 1) for one in written if one), default=0)


def _owner(store: Store, study: str, folder: Path) -> str:
    """The study that drew the split."""
    settings = store.study(study).settings
    before = settings.get("supernet_of")
    if settings.get("init") and (result := read_json(folder / study / "result.json")):
        before = settings["init"] if (result.get("init") or {}).get("same_data") else None
    return study if before is None else _owner(store, str(before), folder)
