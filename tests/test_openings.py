"""One test split, opened by several: each opening counts those before it."""

from pathlib import Path

import pytest

from parti.core.study import Objective, Study
from parti.finding.files import write_json
from parti.finding.openings import COMPRESSION_JSON, count_openings
from parti.stores import open_store


class Folder:
    """Studies in a store, with the files that openings leave."""

    def __init__(self, path: Path) -> None:
        self.path, self.store = path, open_store("memory://")

    def study(self, name: str, **settings: object) -> None:
        self.store.create(Study(name, (Objective("val_accuracy", "max"),), settings=settings))

    def opens(self, name: str, file: str = "result.json", **more: object) -> int:
        """Open the split as the code does: count, then write down."""
        now = 1 + count_openings(self.store, name, self.path)
        write_json(self.path / name / file, {"test_openings": now, **more})
        return now


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path)
    made.study("one", recipe="single-path")
    made.study("one/random")
    return made


def test_nobody_has_opened_it(folder):
    assert count_openings(folder.store, "one", folder.path) == 0


def test_compressions_and_networks_of_the_supernet_count_each_other(folder):
    assert folder.opens("one") == 1
    assert folder.opens("one", COMPRESSION_JSON) == 2
    folder.study("small", supernet_of="one")
    assert count_openings(folder.store, "small", folder.path) == 2
    assert folder.opens("small") == 3
    assert folder.opens("small", COMPRESSION_JSON) == 4
    assert folder.opens("one", COMPRESSION_JSON) == 5, "asked otherwise, it opens once more"
    folder.study("smaller", supernet_of="one")
    assert folder.opens("smaller") == 6


def test_who_begins_with_it_counts_on_the_same_data_alone(folder):
    folder.opens("one")
    folder.study("same", init="one")
    folder.study("other", init="one")
    assert count_openings(folder.store, "one", folder.path) == 1
    write_json(folder.path / "same" / "result.json", {
        "test_openings": 2, "init": {"study": "one", "same_data": True},
    })  # fmt: skip
    write_json(folder.path / "other" / "result.json", {
        "test_openings": 1, "init": {"study": "one", "same_data": False},
    })  # fmt: skip
    assert folder.opens("one", COMPRESSION_JSON) == 3
    assert folder.opens("same", COMPRESSION_JSON) == 4
    assert folder.opens("other", COMPRESSION_JSON) == 2


def test_studies_of_their_own_do_not_count(folder):
    folder.opens("one")
    folder.study("two")
    assert folder.opens("two") == 1
