"""Stores keep studies and trials: in memory, or in an SQL database by URL."""

from __future__ import annotations

from parti.core.errors import StoreError
from parti.core.protocols import Store

__all__ = ["open_store"]


def open_store(url: str) -> Store:
    """Open the store at a URL, making it when it does not exist.

    Args:
        url: "memory://" for one that is gone with the process, "sqlite:///file.db" for a file,
            or any other URL that SQLAlchemy understands.

    Raises:
        StoreError: the URL is not understood, or what is there cannot be opened.
    """
    if url == "memory://":
        from parti.stores.memory import MemoryStore

        return MemoryStore()
    if "://" not in url:
        raise StoreError(
            f"store {url!r} is not a URL; for a file write sqlite:///{url}, "
            "for one that is gone with the process memory://"
        )
    from parti.stores.sql import SqlStore

    return SqlStore(url)
