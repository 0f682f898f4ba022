"""Splits, what a search may see, and what is said of the data."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_makers import image_data
from parti.core.errors import InvalidData, InvalidSettings
from parti.tasks.images import read_images
from parti.tasks.splits import load_splits, part_of, save_splits, search_data, split, test_data
from parti.tasks.summary import describe, summary
from parti.tasks.values import TEST, TRAIN, UNDECIDED, VAL, ImageData

counts_of_classes = st.lists(st.integers(3, 60), min_size=2, max_size=6).map(tuple)
shares = st.floats(0.05, 0.4)


@settings(max_examples=60, deadline=None)
@given(counts=counts_of_classes, seed=st.integers(0, 2**32), val=shares, test=shares)
def test_splits_are_disjoint_cover_all_and_keep_proportions(counts, seed, val, test):
    data = image_data(counts)
    splits = split(data, seed=seed, val=val, test=test)
    together = np.concatenate([splits.train, splits.val, splits.test])
    assert np.array_equal(np.sort(together), np.arange(len(data)))
    for part, share in ((splits.val, val), (splits.test, test)):
        assert np.array_equal(part, np.sort(part))
        found = np.bincount(data.labels[part], minlength=len(counts))
        assert (found >= 1).all()
        assert (np.abs(found - np.array(counts) * share) <= 1).all()
    assert (np.bincount(data.labels[splits.train], minlength=len(counts)) >= 1).all()
    again = split(data, seed=seed, val=val, test=test)
    assert all(
        np.array_equal(getattr(splits, n), getattr(again, n)) for n in ("train", "val", "test")
    )


def test_seeds_make_different_cuts():
    data = image_data((50, 50))
    assert not np.array_equal(split(data, seed=0).test, split(data, seed=1).test)


@settings(max_examples=30, deadline=None)
@given(
    kept=st.sets(st.sampled_from([VAL, TEST]), min_size=1),
    counts=st.lists(st.integers(10, 40), min_size=2, max_size=4).map(tuple),
    seed=st.integers(0, 1000),
)
def test_given_splits_are_kept(kept, counts, seed):
    made = image_data(counts)
    codes = np.full(len(made), TRAIN, np.int8)
    for label in range(len(counts)):
        members = np.flatnonzero(made.labels == label)
        for code in kept:
            codes[members[3 * code : 3 * code + 3]] = code
    data = image_data(counts, codes)
    splits = split(data, seed=seed)
    for code, part in ((VAL, splits.val), (TEST, splits.test)):
        if code in kept:
            assert np.array_equal(part, np.flatnonzero(codes == code))
        else:
            assert (codes[part] == TRAIN).all()
            assert len(part) > 0
    assert (codes[splits.train] == TRAIN).all()


def test_how_a_split_was_made_is_said():
    codes = np.full(30, TRAIN, np.int8)
    codes[:15] = TEST
    assert split(image_data(), seed=4).how == (
        "15% for validation and 15% for test cut at random within each class (seed 4)."
    )
    assert split(image_data(given=codes), seed=4).how.startswith(
        "The source's test split is kept; 15% for validation"
    )
    codes[15:22] = VAL
    assert split(image_data(given=codes), seed=4).how == "All splits are those of the source."


@pytest.mark.parametrize("counts", [(10, 1), (10, 2)])
def test_a_class_too_small_for_three_splits(counts):
    with pytest.raises(InvalidData, match=rf"no image of 'class1' \({counts[1]} images\)"):
        split(image_data(counts), seed=0)


def test_a_class_of_three_has_one_in_each():
    data = image_data((100, 3))
    splits = split(data, seed=0, val=0.45, test=0.45)
    for part in (splits.train, splits.val, splits.test):
        assert (data.labels[part] == 1).sum() == 1


def test_a_class_absent_from_the_given_test():
    made = image_data()
    codes = np.where((made.labels == 0) & (np.arange(30) % 2 == 0), TEST, TRAIN).astype(np.int8)
    with pytest.raises(InvalidData, match="the test split has no image of 'class1'"):
        split(image_data(given=codes), seed=0)


@pytest.mark.parametrize("wrong", [{"val": 0}, {"test": 1.0}, {"val": 0.5, "test": 0.5}])
def test_shares_are_checked(wrong):
    with pytest.raises(InvalidSettings, match="shares"):
        split(image_data(), seed=0, **wrong)


def test_splits_are_kept_in_a_file(tmp_path):
    data = image_data()
    splits = split(data, seed=5)
    path = tmp_path / "study" / "splits.npz"
    save_splits(path, splits, data)
    save_splits(path, splits, data)
    assert [file.name for file in path.parent.iterdir()] == ["splits.npz"]
    loaded = load_splits(path, image_data())
    assert np.array_equal(loaded.val, splits.val)
    assert (loaded.seed, loaded.how) == (5, splits.how)
    changed = image_data((10, 10, 11))
    with pytest.raises(InvalidData, match="belongs to other data"):
        load_splits(path, changed)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InvalidData, match="cannot be read as splits"):
        load_splits(path, data)
    with pytest.raises(InvalidData, match="cannot be read as splits"):
        load_splits(tmp_path / "nowhere.npz", data)


def marked_data():
    """Every image is filled with bytes of its own, so that they can be found again."""
    made = image_data((40, 40))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (80, 6, 6, 3), np.uint8)
    return ImageData("m", "m", images, made.labels, made.classes, made.given)


def test_search_data_holds_no_test_image():
    data = marked_data()
    splits = split(data, seed=0)
    search = search_data(data, splits)
    written = pickle.dumps(search)
    assert data.images[splits.train[0]].tobytes() in written
    assert data.images[splits.val[0]].tobytes() in written
    for i in splits.test:
        assert data.images[i].tobytes() not in written
    for array in (search.train_images, search.val_images, search.train_labels, search.val_labels):
        assert array.base is None
        assert not np.shares_memory(array, data.images)
    assert np.array_equal(pickle.loads(written).val_images, search.val_images)


def test_search_and_test_data_take_the_right_images():
    data = marked_data()
    splits = split(data, seed=0)
    search, test = search_data(data, splits), test_data(data, splits)
    assert np.array_equal(search.train_images, data.images[splits.train])
    assert np.array_equal(search.val_labels, data.labels[splits.val])
    assert np.array_equal(test.images, data.images[splits.test])
    assert np.array_equal(test.labels, data.labels[splits.test])
    assert search.input_shape == (3, 6, 6)
    assert search.class_count == 2
    assert search.value_range == (0, 255)


def test_moments_are_those_of_the_training_images_alone():
    data = marked_data()
    splits = split(data, seed=0)
    search = search_data(data, splits)
    train = data.images[splits.train].astype(np.float64)
    assert search.mean == pytest.approx(train.mean(axis=(0, 1, 2)))
    assert search.std == pytest.approx(train.std(axis=(0, 1, 2)))


def test_constant_channels_and_float_ranges():
    made = image_data()
    images = np.full((30, 4, 4, 2), 0.1, np.float32)
    images[..., 1] = np.linspace(-1, 1, 30, dtype=np.float32)[:, None, None]
    data = ImageData("c", "c", images, made.labels, made.classes, made.given)
    splits = split(data, seed=0)
    search = search_data(data, splits)
    assert search.std[0] == 1.0
    assert search.std[1] == pytest.approx(images[splits.train, :, :, 1].std(), rel=1e-5)
    assert search.value_range == (images[splits.train].min(), images[splits.train].max())


def test_summary_is_json_and_describe_is_text():
    data = read_images("digits")
    splits = split(data, seed=0)
    known = json.loads(json.dumps(summary(data, splits)))
    assert known["images"] == 1797 == known["train"] + known["val"] + known["test"]
    assert sum(known["images_per_class"]) == 1797
    assert known["fingerprint"] == data.fingerprint
    rows = dict(describe(data, splits))
    assert rows["size"] == "8 × 8 pixels, grey, uint8"
    assert rows["balance"] == "from 174 images (8) to 183 (3)"
    noted = ImageData("n", "n/", data.images, data.labels, data.classes, data.given, ("A.", "B."))
    assert [value for what, value in describe(noted, splits) if what == "note"] == ["A.", "B."]
    assert (data.given == UNDECIDED).all()


def test_a_part_keeps_every_class_in_proportion_and_none_of_the_rest() -> None:
    data = image_data((300, 90, 30))
    seen = search_data(data, split(data, seed=0))
    part = part_of(seen, 70, 14, seed=1)
    whole = np.bincount(seen.train_labels) / len(seen.train_labels)
    assert len(part.train_labels) == len(part.train_images) == 70
    assert len(part.val_labels) == len(part.val_images) == 14
    assert np.abs(np.bincount(part.train_labels) - 70 * whole).max() <= 1
    assert set(part.val_labels) == {0, 1, 2}
    again = part_of(seen, 70, 14, seed=1)
    assert np.array_equal(part.train_images, again.train_images)
    assert len(part_of(seen, 10**6, 10**6, seed=1).train_labels) == len(seen.train_labels)
    with pytest.raises(InvalidSettings, match="at least one of each class"):
        part_of(seen, 2, 14, seed=1)
