"""Folders of image files, and what Pillow makes of odd ones."""

import numpy as np
import pytest
from PIL import Image

from data_makers import class_folders, encoded, pixels
from parti.core.errors import InvalidData, InvalidSettings
from parti.tasks import decoding
from parti.tasks.images import read_images
from parti.tasks.values import TEST, TRAIN, UNDECIDED, VAL


def notes(data):
    return " ".join(data.notes)


def test_class_folders(tmp_path):
    data = read_images(class_folders(tmp_path / "pets"))
    assert data.name == "pets"
    assert data.classes == ("cat", "dog", "fox")
    assert data.images.shape == (12, 10, 10, 3)
    assert data.images.dtype == np.uint8
    assert np.bincount(data.labels).tolist() == [4, 4, 4]
    assert (data.given == UNDECIDED).all()
    assert data.notes == ()
    made = pixels(12)
    expected = np.concatenate([made[0::3], made[1::3], made[2::3]])  # by class, then number
    assert np.array_equal(data.images, expected)


@pytest.mark.parametrize("val", ["val", "valid", "Validation", None])
def test_splits_in_folders(tmp_path, val):
    class_folders(tmp_path / "train", 5)
    class_folders(tmp_path / "test", 2)
    if val:
        class_folders(tmp_path / val, 3)
    (tmp_path / "junk").mkdir()
    data = read_images(str(tmp_path))
    assert (data.given == TRAIN).sum() == 15
    assert (data.given == VAL).sum() == (9 if val else 0)
    assert (data.given == TEST).sum() == 6
    assert "junk" in notes(data)


def test_train_alone_is_no_split(tmp_path):
    class_folders(tmp_path / "train", 5)
    assert (read_images(tmp_path).given == UNDECIDED).all()


def test_test_folder_without_classes_is_left_out(tmp_path):
    class_folders(tmp_path / "train", 5)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "a.png").write_bytes(encoded(pixels(1)[0]))
    data = read_images(tmp_path)
    assert len(data) == 15
    assert "no label" in notes(data)


def test_one_folder_around_all(tmp_path):
    class_folders(tmp_path / "download" / "photos")
    data = read_images(tmp_path / "download")
    assert data.classes == ("cat", "dog", "fox")
    assert "photos/" in notes(data)


def test_numbered_class_folders_keep_numeric_order(tmp_path):
    for name in ("10", "9", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(encoded(pixels(1)[0]))
    assert read_images(tmp_path).classes == ("2", "9", "10")


def test_other_files_are_ignored_with_a_note(tmp_path):
    class_folders(tmp_path)
    for name in ("Thumbs.db", ".DS_Store", "readme.txt", "._1.png"):
        (tmp_path / "cat" / name).write_bytes(b"junk")
    (tmp_path / "empty").mkdir()
    data = read_images(tmp_path)
    assert len(data) == 12
    assert data.classes == ("cat", "dog", "fox")
    assert "4 files that are not images" in notes(data)
    assert "empty/" in notes(data)


def test_sub_folders_of_a_class_belong_to_it(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "cat" / "2024").mkdir()
    (tmp_path / "cat" / "2024" / "UPPER.PNG").write_bytes(encoded(pixels(1)[0]))
    assert np.bincount(read_images(tmp_path).labels).tolist() == [5, 4, 4]


def test_mixed_sizes_take_the_median_side(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "cat" / "big.png").write_bytes(encoded(pixels(1, 40, 80)[0]))
    data = read_images(tmp_path)
    assert data.images.shape == (13, 10, 10, 3)
    assert "10 × 10 and 80 × 40 pixels were resized to 10 × 10" in notes(data)


def test_sides_are_capped(tmp_path):
    for name, size in (("a", (300, 400)), ("b", (500, 300))):
        (tmp_path / name).mkdir()
        Image.new("L", size).save(tmp_path / name / "0.png")
    assert read_images(tmp_path).images.shape == (2, 224, 224, 1)
    assert read_images(tmp_path, image_size=32).images.shape == (2, 32, 32, 1)


def test_large_images_of_one_size_shrink_and_keep_their_shape(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("RGB", (640, 480)).save(tmp_path / name / "0.png")
    data = read_images(tmp_path)
    assert (data.height, data.width) == (168, 224)
    assert "640 × 480 pixels were resized to 224 × 168" in notes(data)


def test_resizing_is_pillows(tmp_path):
    class_folders(tmp_path)
    image = Image.open(tmp_path / "cat" / "0.png")
    expected = np.asarray(image.resize((6, 6), Image.Resampling.BILINEAR))
    assert np.array_equal(read_images(tmp_path, image_size=6).images[0], expected)


@pytest.mark.parametrize("size", [0, 3, 5000, 8.5, "8"])
def test_image_size_is_checked(tmp_path, size):
    with pytest.raises(InvalidSettings, match="image_size"):
        read_images(class_folders(tmp_path), image_size=size)


def test_grey_and_colour_become_colour(tmp_path):
    class_folders(tmp_path)
    grey = pixels(1, channels=1)[0]
    (tmp_path / "cat" / "0.png").write_bytes(encoded(grey))
    data = read_images(tmp_path)
    assert data.channels == 3
    assert np.array_equal(data.images[0], np.repeat(grey, 3, axis=2))
    assert "1 of 12 images are grey" in notes(data)


def test_all_grey_keeps_one_channel(tmp_path):
    assert read_images(class_folders(tmp_path, channels=1)).channels == 1


def test_alpha_is_dropped(tmp_path):
    data = read_images(class_folders(tmp_path, channels=4))
    assert data.channels == 3
    assert np.array_equal(data.images[0], pixels(12, channels=4)[0, :, :, :3])
    assert "alpha" in notes(data)


def test_palette_images(tmp_path):
    class_folders(tmp_path)
    made = Image.fromarray(pixels(1)[0]).quantize(16)
    made.save(tmp_path / "cat" / "0.png", transparency=bytes(range(16)))
    data = read_images(tmp_path)
    assert np.array_equal(data.images[0], np.asarray(made.convert("RGB")))


def test_sixteen_bits_are_kept(tmp_path):
    deep = np.arange(100, dtype=np.uint16).reshape(10, 10) * 600
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(deep).save(tmp_path / name / "0.png")
    data = read_images(tmp_path)
    assert data.images.dtype == np.float32
    assert np.array_equal(data.images[0, :, :, 0], deep)


def test_sixteen_bits_among_eight_are_scaled(tmp_path):
    class_folders(tmp_path, channels=1)
    deep = np.full((10, 10), 65535, np.uint16)
    Image.fromarray(deep).save(tmp_path / "cat" / "0.png")
    data = read_images(tmp_path)
    assert data.images.dtype == np.uint8
    assert (data.images[0] == 255).all()
    assert "16 bits" in notes(data)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, :8] = 255
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(wide).save(tmp_path / name / "0.jpg", exif=exif)
    data = read_images(tmp_path)
    assert (data.height, data.width) == (16, 8)
    assert data.images[0, :6].mean() > 240
    assert data.images[0, 10:].mean() < 15
    assert "EXIF" in notes(data)


def test_few_broken_images_are_left_out(tmp_path):
    class_folders(tmp_path, per_class=20)
    whole = (tmp_path / "dog" / "3.png").read_bytes()
    (tmp_path / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cat" / "0.png").write_bytes(b"")
    data = read_images(tmp_path)
    assert len(data) == 58
    assert np.bincount(data.labels).tolist() == [19, 19, 20]
    assert "2 of 60" in notes(data)
    assert "dog/3.png" in notes(data)
    assert "cat/0.png" in notes(data)


def test_notes_on_broken_images_name_no_folder_of_this_machine(tmp_path):
    class_folders(tmp_path, per_class=20)
    (tmp_path / "cat" / "0.png").write_bytes(b"not an image")
    (tmp_path / "cat" / "1.png").unlink()
    (tmp_path / "cat" / "1.png").symlink_to(tmp_path / "dog")
    said = notes(read_images(tmp_path))
    assert "cat/0.png (not an image that Pillow knows)" in said
    assert str(tmp_path) not in said


def test_many_broken_images_are_refused(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "cat" / "1.png").write_bytes(b"not an image")
    with pytest.raises(InvalidData, match=r"1 of 12 images cannot be read: cat/1\.png"):
        read_images(tmp_path)


def test_all_broken(tmp_path):
    for path in class_folders(tmp_path).rglob("*.png"):
        path.write_bytes(b"junk")
    with pytest.raises(InvalidData, match="12 of 12"):
        read_images(tmp_path)


def test_empty_folder(tmp_path):
    with pytest.raises(InvalidData, match="nothing at all"):
        read_images(tmp_path)


def test_images_without_class_folders(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(pixels(1)[0]))
    with pytest.raises(InvalidData, match=r"a\.png; allowed are a folder of images for each class"):
        read_images(tmp_path)


def test_one_class(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(encoded(pixels(1)[0]))
    with pytest.raises(InvalidData, match="one class only, 'cat'"):
        read_images(tmp_path)


def test_missing_path_unknown_suffix_single_image(tmp_path):
    with pytest.raises(InvalidData, match="does not exist"):
        read_images(tmp_path / "nowhere")
    (tmp_path / "a.xyz").touch()
    with pytest.raises(InvalidData, match=r"unknown suffix '\.xyz'"):
        read_images(tmp_path / "a.xyz")
    (tmp_path / "a.zip").touch()
    with pytest.raises(InvalidData, match="unpack it"):
        read_images(tmp_path / "a.zip")
    (tmp_path / "a.jpg").touch()
    with pytest.raises(InvalidData, match="single image"):
        read_images(tmp_path / "a.jpg")


def test_threads_do_not_change_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK", 2)
    class_folders(tmp_path, per_class=20)
    one, many = read_images(tmp_path, workers=1), read_images(tmp_path, workers=5)
    assert np.array_equal(one.images, many.images)
    assert one.fingerprint == many.fingerprint
