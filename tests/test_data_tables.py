"""Parquet files and Hugging Face data sets with encoded images."""

import json
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_makers import encoded, labels, pixels
from parti.core.errors import InvalidData, InvalidSettings
from parti.tasks.images import read_images
from parti.tasks.splits import search_data, split
from parti.tasks.values import TEST, TRAIN, UNDECIDED, VAL

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10_jpeg" / "cifar10_jpeg.parquet"


def contents(n=12):
    return [encoded(image) for image in pixels(n)]


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def test_bytes_and_labels(tmp_path):
    data = read_images(write(tmp_path / "pets.parquet", image=contents(), label=labels()))
    assert data.name == "pets"
    assert np.array_equal(data.images, pixels())
    assert np.array_equal(data.labels, labels())
    assert (data.given == UNDECIDED).all()


def test_columns_are_told_by_type_and_name(tmp_path):
    columns = {"id": list(range(12)), "scan": contents(), "Category": ["b", "a"] * 6}
    data = read_images(write(tmp_path / "a.parquet", **columns))
    assert data.classes == ("a", "b")
    only = read_images(write(tmp_path / "b.parquet", scan=contents(), kind=["b", "a"] * 6))
    assert only.classes == ("a", "b")


def test_columns_that_cannot_be_told(tmp_path):
    path = write(tmp_path / "a.parquet", left=contents(), right=contents(), a=labels(), b=labels())
    with pytest.raises(InvalidData, match="Name it with image_column"):
        read_images(path)
    with pytest.raises(InvalidData, match=r"\['a', 'b'\] could be one. Name it with label_column"):
        read_images(path, image_column="left")
    assert len(read_images(path, image_column="left", label_column="b")) == 12
    with pytest.raises(InvalidData, match="no column 'c'; its columns are"):
        read_images(path, image_column="left", label_column="c")
    with pytest.raises(InvalidData, match="--image-column"):
        read_images(path)
    with pytest.raises(InvalidData, match="none fits"):
        read_images(write(tmp_path / "b.parquet", label=labels()))


@pytest.mark.parametrize("column", ["image_column", "label_column"])
def test_a_column_is_not_named_where_there_are_none(tmp_path, column):
    np.savez(tmp_path / "a.npz", images=pixels(), labels=labels())
    for i, content in enumerate(contents()):
        file = tmp_path / "photos" / f"class {i % 2}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "images.npy", pixels())
    np.save(tmp_path / "arrays" / "labels.npy", labels())
    table = write(tmp_path / "photos.parquet", image=contents(), label=labels())
    pair = (pixels(), labels())
    read = read_images(table)
    for source in ("digits", *(tmp_path / n for n in ("a.npz", "photos", "arrays")), pair, read):
        with pytest.raises(InvalidSettings, match=rf"{column}='x' \(--.*has no columns"):
            read_images(source, **{column: "x"})
    with pytest.raises(InvalidData, match="does not exist"):
        read_images(tmp_path / "nowhere", **{column: "x"})
    write(tmp_path / "tables" / "train.parquet", picture=contents(), kind=labels())
    columns = {"image_column": "picture", "label_column": "kind"}
    assert len(read_images(tmp_path / "tables", **columns)) == 12


def test_a_name_that_is_nearly_right(tmp_path):
    write(tmp_path / "photos.parquet", image=contents(), label=labels())
    with pytest.raises(InvalidData, match=r"did you mean 'photos.parquet'\?"):
        read_images(tmp_path / "photo.parquet")
    with pytest.raises(InvalidData, match=r"did you mean 'digits'\?"):
        read_images("digist")
    with pytest.raises(InvalidData, match="birds does not exist; allowed"):
        read_images(tmp_path / "birds")


def test_hugging_face_struct_and_class_names(tmp_path):
    info = {"info": {"features": {"label": {"names": ["cat", "dog", "fox"]}}}}
    images = [{"bytes": content, "path": None} for content in contents()]
    table = pa.table({"image": images, "label": labels()})
    table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, tmp_path / "a.parquet")
    data = read_images(tmp_path / "a.parquet")
    assert data.classes == ("cat", "dog", "fox")
    assert np.array_equal(data.images, pixels())


def test_split_column(tmp_path):
    parts = ["train", "validation", "test"] * 4
    path = write(
        tmp_path / "a.parquet", image=contents(), label=[0, 0, 0, 1, 1, 1] * 2, split=parts
    )
    data = read_images(path)
    assert data.given.tolist() == [TRAIN, VAL, TEST] * 4
    path = write(tmp_path / "b.parquet", image=contents(), label=labels(), split=["one"] * 12)
    with pytest.raises(InvalidData, match="row 0 belongs to a split 'one'"):
        read_images(path)


def test_shards(tmp_path):
    for i, part in enumerate(
        ["train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"]
    ):
        cut = slice(4 * i, 4 * i + 4)
        write(tmp_path / "data" / f"{part}.parquet", image=contents()[cut], label=labels()[cut])
    data = read_images(tmp_path)
    assert data.given.tolist() == [TEST] * 4 + [TRAIN] * 8
    assert np.array_equal(data.images, np.concatenate([pixels()[8:], pixels()[:8]]))
    write(tmp_path / "data" / "odd.parquet", picture=contents(), label=labels())
    with pytest.raises(InvalidData, match="the same columns"):
        read_images(tmp_path)


def test_a_folder_called_test_around_the_data_fixes_nothing(tmp_path):
    path = write(tmp_path / "test" / "a.parquet", image=contents(), label=labels())
    assert (read_images(path).given == UNDECIDED).all()
    assert (read_images(path.parent).given == UNDECIDED).all()


def test_a_column_twice(tmp_path):
    table = pa.Table.from_arrays(
        [pa.array(contents()), pa.array(labels()), pa.array(labels())],
        names=["image", "label", "label"],
    )
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InvalidData, match=r"two columns named \['label'\]"):
        read_images(tmp_path / "a.parquet")


def test_missing_labels_and_images(tmp_path):
    path = write(tmp_path / "a.parquet", image=contents(), label=[None, 1, 2] * 4)
    with pytest.raises(InvalidData, match="4 of 12 labels are missing"):
        read_images(path)
    path = write(tmp_path / "b.parquet", image=[None, *contents()[1:]], label=labels())
    with pytest.raises(InvalidData, match=r"1 of 12 images cannot be read: b\.parquet row 0"):
        read_images(path)


def test_a_broken_and_an_empty_file(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 junk PAR1")
    with pytest.raises(InvalidData, match="cannot be read as Parquet"):
        read_images(tmp_path / "a.parquet")
    schema = pa.schema([("image", pa.binary()), ("label", pa.int64())])
    pq.write_table(schema.empty_table(), tmp_path / "b.parquet")
    with pytest.raises(InvalidData, match="holds no images"):
        read_images(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("module", "extra", "name"), [("pyarrow", "parquet", "a.parquet"), ("datasets", "hf", "hf:x/y")]
)
def test_missing_extras_are_named(tmp_path, monkeypatch, module, extra, name):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.parquet", None)
    (tmp_path / "a.parquet").touch()
    source = name if name.startswith("hf:") else tmp_path / name
    with pytest.raises(InvalidData, match=rf"pip install parti\[{extra}\]"):
        read_images(source)


def made_dataset(datasets, n=12):
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "fox"])}
    )
    rows = {"image": [{"bytes": c, "path": None} for c in contents(n)], "label": labels(n).tolist()}
    return datasets.Dataset.from_dict(rows, features=features)


def test_hugging_face_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    made = made_dataset(datasets)
    data = read_images(made)
    assert np.array_equal(data.images, pixels())
    assert data.classes == ("cat", "dog", "fox")
    assert (data.given == UNDECIDED).all()
    whole = datasets.DatasetDict(train=made, test=made.select(range(6)), extra=made)
    whole.save_to_disk(str(tmp_path / "saved"))
    data = read_images(tmp_path / "saved")
    assert data.name == "saved"
    assert data.given.tolist() == [TRAIN] * 12 + [TEST] * 6
    assert np.array_equal(data.images, np.concatenate([pixels(), pixels()[:6]]))
    assert any("extra" in note for note in data.notes)
    made.save_to_disk(str(tmp_path / "one"))
    assert len(read_images(tmp_path / "one")) == 12
    with pytest.raises(InvalidData, match="no column 'kind'"):
        read_images(made, label_column="kind")
    with pytest.raises(InvalidData, match="none is train, val or test"):
        read_images(datasets.DatasetDict(extra=made))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "state.json").write_text("{}")
    with pytest.raises(InvalidData, match="cannot be loaded"):
        read_images(tmp_path / "broken")


@pytest.mark.shared_data
@pytest.mark.skipif(not CIFAR.exists(), reason="shared/data is not here")
def test_a_tenth_of_cifar10(tmp_path):
    table = pq.read_table(CIFAR)
    path = tmp_path / "tenth.parquet"
    pq.write_table(table.take(list(range(0, len(table), 10))), path)
    data = read_images(path)
    assert data.images.shape == (6000, 32, 32, 3)
    row = table.slice(50, 1).to_pylist()[0]
    assert np.array_equal(data.images[5], np.asarray(Image.open(BytesIO(row["jpeg"]))))
    assert data.labels[5] == row["label"]


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.skipif(not CIFAR.exists(), reason="shared/data is not here")
def test_cifar10():
    data = read_images(CIFAR)
    assert len(data) == 60_000
    splits = split(data, seed=0)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [
        42_500,
        7_500,
        10_000,
    ]
    assert np.bincount(data.labels[splits.test]).tolist() == [1000] * 10
    assert np.bincount(data.labels[splits.val]).tolist() == [750] * 10
    given_train = data.images[data.given == TRAIN] / np.float32(255)
    assert given_train.mean(axis=(0, 1, 2), dtype=np.float64) == pytest.approx(
        [0.4913, 0.4821, 0.4465], abs=0.001
    )
    search = search_data(data, splits)
    assert np.divide(search.mean, 255) == pytest.approx([0.4913, 0.4821, 0.4465], abs=0.001)
    assert np.divide(search.std, 255) == pytest.approx([0.2452, 0.2428, 0.2606], abs=0.001)
