"""One thread for each test process, so that several may run side by side; no real data, no test."""

import os
from pathlib import Path

import pytest

# Before torch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED.is_dir():
        return
    absent = pytest.mark.skip(reason=f"there are no real data sets in {SHARED}")
    for item in items:
        if "shared_data" in item.keywords:
            item.add_marker(absent)
