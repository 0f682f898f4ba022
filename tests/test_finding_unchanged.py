"""A finished study answers at once, unless its data is no longer what it was."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import parti
from parti.core.errors import InvalidData
from parti.finding import Silent
from parti.finding.desk import Desk
from parti.finding.found import Found
from parti.finding.settings import settings_of
from parti.finding.unchanged import check_unchanged, digest_of, keep_digest
from parti.stores.memory import MemoryStore
from parti.tasks import images
from parti.tasks.splits import save_splits, split


def picture(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


class Finished:
    """A study of a folder of photos, as it is when it has ended."""

    def __init__(self, path: Path) -> None:
        self.photos, self.folder = path / "photos", path / "studies" / "birds"
        for i in range(12):
            picture(self.photos / ("crow", "wren")[i % 2] / f"{i}.png", i)
        self.settings = settings_of(data=str(self.photos), trials=1)
        digest = digest_of(self.photos)
        data = images.read_images(self.photos)
        save_splits(self.folder / "splits.npz", split(data, seed=0), data)
        keep_digest(self.folder, digest)
        self.found = Found(
            {
                "study": "birds",
                "finished": "2026-01-02T03:04:05+00:00",
                "data": {"splits": {"train": 8, "val": 2, "test": 2}},
            },
            self.folder,
            MemoryStore(),
        )

    def check(self) -> None:
        check_unchanged(self.found, self.settings, self.settings.data)


@pytest.fixture
def study(tmp_path: Path) -> Finished:
    return Finished(tmp_path)


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """One for each time that data is read."""
    read, seen = images.read_images, []
    monkeypatch.setattr(images, "read_images", lambda *a, **k: seen.append(1) or read(*a, **k))
    return seen


def test_what_has_not_changed_is_not_read(study: Finished, reads: list[int]) -> None:
    study.check()
    assert reads == []


def added(photos: Path) -> None:
    picture(photos / "wren" / "new.png", 99)


def removed(photos: Path) -> None:
    (photos / "wren" / "1.png").unlink()


def replaced(photos: Path) -> None:
    picture(photos / "crow" / "0.png", 77)


def moved(photos: Path) -> None:
    (photos / "crow" / "0.png").rename(photos / "wren" / "0.png")


@pytest.mark.parametrize("change", [added, removed, replaced, moved])
def test_a_result_of_other_images_is_refused(study: Finished, change) -> None:
    change(study.photos)
    for _ in range(2):  # it is not forgotten either
        with pytest.raises(InvalidData, match=r"result of 2026-01-02.* is for 12 images") as raised:
            study.check()
    for said in ("the data now differs", "another --study", "parti report birds"):
        assert said in str(raised.value)


def test_equal_files_of_another_time_are_read_once(study: Finished, reads: list[int]) -> None:
    for file in study.photos.rglob("*.png"):
        os.utime(file, (1, 1))
    study.check()
    assert reads == [1]
    study.check()
    assert reads == [1], "the new times are kept"


def test_a_study_that_kept_no_digest_is_read_once(study: Finished, reads: list[int]) -> None:
    (study.folder / "data.json").unlink()
    study.check()
    study.check()
    assert reads == [1]


def test_data_that_is_gone_does_not_take_the_result_with_it(study: Finished) -> None:
    study.photos.rename(study.photos.with_name("elsewhere"))
    study.check()


def test_the_split_of_a_supernet_is_that_of_its_study(study: Finished) -> None:
    """`parti specialize` writes no splits.npz of its own."""
    other = Found(study.found.to_dict(), study.folder.with_name("small"), MemoryStore())
    settings = settings_of(data=str(study.photos), recipe="single-path", supernet_of="birds")
    check_unchanged(other, settings, settings.data)
    added(study.photos)
    with pytest.raises(InvalidData, match="the data now differs"):
        check_unchanged(other, settings, settings.data)


def test_labels_beside_an_array_belong_to_it(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((4, 8, 8), np.uint8))
    np.save(tmp_path / "labels.npy", np.arange(4))
    before = digest_of(tmp_path / "images.npy")
    (tmp_path / "notes.txt").write_text("nothing to do with it")
    assert digest_of(tmp_path / "images.npy") == before
    np.save(tmp_path / "labels.npy", np.arange(5))
    assert digest_of(tmp_path / "images.npy") != before


@pytest.mark.parametrize("data", ["digits", "hf:mnist", "python:0123", (1, 2)])
def test_what_has_no_files_has_no_digest(data: object) -> None:
    assert digest_of(data) is None


def test_the_same_call_on_changed_data_is_refused(tmp_path: Path, monkeypatch) -> None:
    """The whole of `find` but for what takes long; the data is read and split as ever."""

    def stages(desk: Desk) -> SimpleNamespace:
        desk.store.create(desk.main_study)
        return SimpleNamespace(study=desk.main_study, trials=[])

    def concluded(desk: Desk, *_: object) -> dict[str, object]:
        splits = {part: len(getattr(desk.splits, part)) for part in ("train", "val", "test")}
        return {"study": desk.name, "finished": "today", "data": {"splits": splits}}

    monkeypatch.setattr("parti.finding.stages.run_stages", stages)
    monkeypatch.setattr("parti.finding.outcome.conclude", concluded)
    monkeypatch.setattr("parti.reports.write_report", lambda *_: None)
    file = tmp_path / "pets.npz"

    def find(n: int) -> str:
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
        np.savez(file, images=images, labels=np.arange(n) % 2)
        store = f"sqlite:///{tmp_path / 'studies.db'}"
        return parti.find(file, trials=1, study="pets", store=store, watcher=Silent()).study

    assert find(40) == "pets"
    assert find(40) == "pets", "written again, but the same"
    with pytest.raises(InvalidData, match="result of today is for 40 images; the data now differs"):
        find(42)
