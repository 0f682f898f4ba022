"""Arrays from files and from Python, labels, and what does not fit in memory."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from data_makers import image_data, labels, pixels
from parti.core.errors import InvalidData
from parti.tasks import storage
from parti.tasks.images import read_images
from parti.tasks.splits import search_data, split
from parti.tasks.values import TEST, TRAIN, UNDECIDED, VAL, ImageData


def notes(data):
    return " ".join(data.notes)


def test_digits():
    data = read_images("digits")
    assert data.images.shape == (1797, 8, 8, 1)
    assert data.images.dtype == np.uint8
    assert len(np.unique(data.images)) == 17  # 16 grey levels above 0: nothing is lost
    assert data.images.max() == 255
    assert data.classes == tuple("0123456789")
    assert read_images("digits", image_size=16).images.shape == (1797, 16, 16, 1)


@pytest.mark.parametrize("keys", [("x", "y"), ("images", "labels"), ("X", "targets")])
def test_npz(tmp_path, keys):
    np.savez(tmp_path / "a.npz", **{keys[0]: pixels(), keys[1]: labels()})
    data = read_images(tmp_path / "a.npz")
    assert np.array_equal(data.images, pixels())
    assert np.array_equal(data.labels, labels())
    assert (data.given == UNDECIDED).all()


@pytest.mark.parametrize("pattern", ["{role}_{part}", "{part}_{role}"])
@pytest.mark.parametrize("roles", [("x", "y"), ("images", "labels")])
def test_npz_with_splits(tmp_path, pattern, roles):
    arrays = {}
    for part in ("train", "val", "test"):
        arrays[pattern.format(role=roles[0], part=part)] = pixels(channels=1)[..., 0]
        arrays[pattern.format(role=roles[1], part=part)] = labels()[:, None]  # as MedMNIST
    np.savez(tmp_path / "a.npz", **arrays)
    data = read_images(tmp_path / "a.npz")
    assert data.images.shape == (36, 10, 10, 1)
    assert [(data.given == code).sum() for code in (TRAIN, VAL, TEST)] == [12, 12, 12]


def test_npz_without_pairs(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=pixels(), y_test=labels())
    with pytest.raises(InvalidData, match="no pairs of images and labels"):
        read_images(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", x=pixels(), y=labels(11))
    with pytest.raises(InvalidData, match="12 images in 'x' with 11 labels in 'y'"):
        read_images(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_broken_array_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK junk")
    (tmp_path / "a_labels.npy").touch()
    with pytest.raises(InvalidData, match="cannot be read as NumPy arrays"):
        read_images(tmp_path / name)


def test_python_objects_in_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}, {}], object), y=labels(2))
    with pytest.raises(InvalidData, match="no Python objects"):
        read_images(tmp_path / "a.npz")


def test_npy_pairs(tmp_path):
    np.save(tmp_path / "scans.npy", pixels())
    with pytest.raises(InvalidData, match=r"scans_labels\.npy"):
        read_images(tmp_path / "scans.npy")
    np.save(tmp_path / "scans_labels.npy", labels())
    assert np.array_equal(read_images(tmp_path / "scans.npy").images, pixels())
    folder = tmp_path / "folder"
    folder.mkdir()
    np.save(folder / "images.npy", pixels())
    np.save(folder / "labels.npy", labels())
    assert np.array_equal(read_images(folder).labels, labels())


def test_layouts_are_told():
    nhwc = pixels(12, 10, 8, 3)
    assert np.array_equal(read_images((nhwc, labels())).images, nhwc)
    first = read_images((nhwc.transpose(0, 3, 1, 2), labels()))
    assert np.array_equal(first.images, nhwc)
    assert "(n, channels, height, width)" in notes(first)
    spectral = pixels(12, 10, 8, 7)
    assert read_images((spectral, labels())).channels == 7
    ambiguous = read_images((pixels(12, 3, 9, 3), labels()))
    assert ambiguous.channels == 3
    assert "(n, height, width, channels)" in notes(ambiguous)


def test_number_types():
    images = pixels(channels=1)
    assert read_images((images.astype(np.int64), labels())).images.dtype == np.uint8
    floats = read_images((images.astype(np.float64) / 255, labels()))
    assert floats.images.dtype == np.float32
    deep = read_images((images.astype(np.int32) * 100, labels()))
    assert deep.images.dtype == np.float32
    assert "float32" in notes(deep)
    flags = read_images((images > 99, labels()))
    assert set(np.unique(flags.images)) == {0, 255}
    with pytest.raises(InvalidData, match="complex128"):
        read_images((images.astype(complex), labels()))
    with pytest.raises(InvalidData, match="Reshape flat rows"):
        read_images((images.reshape(12, -1), labels()))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_must_be_finite(value):
    images = pixels().astype(np.float32)
    images[5, 2, 3, 0] = value
    with pytest.raises(InvalidData, match=r"1 of 12 images hold NaN or infinite pixels \(images 5"):
        read_images((images, labels()))


def test_tensors():
    images = torch.rand(12, 3, 10, 10)
    data = read_images((images, torch.tensor(labels())))
    assert np.array_equal(data.images, images.permute(0, 2, 3, 1).numpy())
    assert read_images((images.bfloat16(), labels())).images.dtype == np.float32


class Pairs(Dataset):
    """A data set of pairs, with class names."""

    def __init__(self, items, classes=None):
        self.items = items
        self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def test_torch_datasets():
    data = read_images(TensorDataset(torch.rand(12, 1, 9, 9), torch.tensor(labels())))
    assert data.images.shape == (12, 9, 9, 1)
    pillow = [(Image.fromarray(image), int(y)) for image, y in zip(pixels(), labels(), strict=True)]
    data = read_images(Pairs(pillow, ["cat", "dog", "fox"]))
    assert data.classes == ("cat", "dog", "fox")
    assert np.array_equal(data.images, pixels())
    pillow[0] = (Image.new("RGB", (30, 20)), 0)
    assert read_images(Pairs(pillow)).images.shape == (12, 10, 10, 3)


def test_odd_torch_datasets():
    with pytest.raises(InvalidData, match=r"pairs \(image, label\)"):
        read_images(Pairs([1, 2, 3]))
    with pytest.raises(InvalidData, match="different shapes"):
        read_images(Pairs([(np.zeros((4, 4)), 0), (np.zeros((5, 4)), 1)]))
    with pytest.raises(InvalidData, match="holds no images"):
        read_images(Pairs([]))


@pytest.mark.parametrize("source", [pixels(), 7, None, {"x": 1}, (pixels(), labels(), 3)])
def test_odd_sources(source):
    with pytest.raises(InvalidData, match="allowed are"):
        read_images(source)


def test_image_data_is_taken_as_it_is():
    data = image_data()
    assert read_images(data) is data
    assert read_images(data, image_size=8).images.shape == (30, 8, 8, 1)


@pytest.mark.parametrize(
    ("given", "classes"),
    [
        (["b", "a", "c"] * 4, ("a", "b", "c")),
        ([5, -3, 40] * 4, ("-3", "5", "40")),
        ([1.0, 2.0, 10.0] * 4, ("1", "2", "10")),
        (["10", "9", "1"] * 4, ("1", "9", "10")),
        ([True, False, True] * 4, ("0", "1")),
        (np.array([b"x", b"y", b"z"] * 4), ("x", "y", "z")),
        (np.eye(3)[labels()], ("0", "1", "2")),
    ],
)
def test_labels(given, classes):
    data = read_images((pixels(), given))
    assert data.classes == classes
    assert data.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0, 1, None] * 4, r"4 of 12 labels are missing or NaN \(rows 2, 5, 8, 11"),
        ([0.0, 1.0, np.nan] * 4, "4 of 12 labels are missing or NaN"),
        (["a", "b", ""] * 4, "4 of 12 labels are missing"),
        ([0.5, 1.0, 2.0] * 4, "0.5 are not whole numbers"),
        ([0, 1] * 5, "12 images with 10 labels"),
        ([0, "a", 1] * 4, "all text or all whole numbers"),
        ([7] * 12, "one class only, '7'"),
        (np.ones((12, 3), int), "only one class"),
        (np.array(["2020-01-01"] * 12, "M8[D]"), "text or whole numbers"),
    ],
)
def test_bad_labels(given, message):
    with pytest.raises(InvalidData, match=message):
        read_images((pixels(), given))


def test_class_names_without_images_are_dropped():
    pairs = [(image, 2 * int(y % 2)) for image, y in zip(pixels(), labels(), strict=True)]
    data = read_images(Pairs(pairs, ["a", "b", "c"]))
    assert data.classes == ("a", "c")
    assert "Classes without images were left out: b." in data.notes
    with pytest.raises(InvalidData, match="labels go from 0 to 2"):
        read_images(Pairs(pairs, ["a", "b"]))


def test_image_data_is_checked():
    with pytest.raises(InvalidData, match="uint8 or float32"):
        ImageData("a", "a", pixels().astype(float), labels(), ("a",), labels())
    with pytest.raises(InvalidData, match="every image"):
        ImageData("a", "a", pixels(), labels(5), ("a",), labels())
    with pytest.raises(InvalidData, match=r"0\.\.1"):
        ImageData("a", "a", pixels(), labels(), ("a", "b"), labels())


def test_fingerprint_sees_every_change():
    data = image_data()
    assert data.fingerprint == image_data().fingerprint
    images = data.images.copy()
    images[17, 2, 1, 0] ^= 1
    relabelled = data.labels.copy()
    relabelled[3] = (relabelled[3] + 1) % 3
    others = [
        ImageData("made", "made/", images, data.labels, data.classes, data.given),
        ImageData("made", "made/", data.images, relabelled, data.classes, data.given),
        ImageData("made", "made/", data.images, data.labels, ("a", "b", "c"), data.given),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_fingerprint_is_equal_in_another_process():
    code = "from parti.tasks.images import read_images as r; print(r('digits').fingerprint)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == read_images("digits").fingerprint


@pytest.fixture
def no_memory(monkeypatch):
    monkeypatch.setattr(storage, "available_memory", lambda: 0)


def test_data_larger_than_memory_lies_in_files(tmp_path, no_memory):
    cache = tmp_path / "cache"
    images = tmp_path / "images"
    for i, image in enumerate(pixels()):
        (images / str(i % 3)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(images / str(i % 3) / f"{i:02}.png")
    data = read_images(images, cache=cache)
    assert isinstance(data.images, np.memmap)
    order = np.argsort(labels(), kind="stable")
    assert np.array_equal(data.images, pixels()[order])
    search = search_data(data, split(data, seed=0), cache)
    assert isinstance(search.train_images, np.memmap)
    assert not np.shares_memory(search.train_images, data.images)
    passed = pickle.dumps(search)
    assert len(passed) < 2000
    again = pickle.loads(passed)
    assert np.array_equal(again.train_images, search.train_images)
    assert np.array_equal(again.val_images, search.val_images)
    assert len(list(cache.iterdir())) == 3
    del data, search
    assert list(cache.iterdir()) == []


def test_files_of_dead_processes_are_removed(tmp_path, no_memory):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    kept = storage.allocate((4,), np.uint8, tmp_path)
    orphan = next(tmp_path.iterdir()).name.split(".")
    orphan[-3] = str(process.pid)
    (tmp_path / ".".join(orphan)).touch()
    another = storage.allocate((4,), np.uint8, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert kept.shape == another.shape


def test_available_memory_is_positive():
    assert storage.available_memory() > 2**20
