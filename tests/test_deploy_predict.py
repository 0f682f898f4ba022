import json
import subprocess
import sys
import types
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from measured_networks import plain, warmed
from parti.app import models
from parti.deploy import predict_template
from parti.deploy.check import torch_logits
from parti.deploy.export import export
from parti.deploy.formats import onnx as onnx_format
from parti.deploy.model import DeployedModel
from parti.deploy.predict_template import Model, PredictError, Preparation

CLASSES = [f"digit {i}" for i in range(10)]

WITHOUT = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError("blocked: " + name, name=name)
sys.meta_path.insert(0, Blocker())
sys.path.insert(0, {folder!r})
sys.argv = ["predict.py", *{arguments!r}]
"""


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    images = load_digits().images[:40]
    return np.round(images * (255 / 16)).astype(np.uint8)


def exported(folder: Path, channels: int, images: np.ndarray) -> DeployedModel:
    torch.manual_seed(0)
    network = warmed(plain(channels, 10), (channels, 8, 8))
    model = DeployedModel(network, [80.0] * channels, [90.0] * channels).eval()
    with pytest.MonkeyPatch.context() as patch:  # the quick exporter: the file matters here
        patch.setattr(onnx_format, "to_onnx", partial(onnx_format.to_onnx, quick=True))
        export(model, folder, info={"classes": CLASSES}, samples=images, formats=("onnx",))
    return model


@pytest.fixture(scope="module")
def grey(tmp_path_factory, digits):
    """The folder of a model of grey digits, and the model."""
    folder = tmp_path_factory.mktemp("grey") / "out"
    return folder, exported(folder, 1, digits[:, None].astype(np.float32))


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """A model of colour images of 8×8 pixels, from its folder."""
    folder = tmp_path_factory.mktemp("colour") / "out"
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8)).astype(np.float32)
    exported(folder, 3, images)
    return Model(folder)


def run(
    folder: Path, *arguments: str, blocked: tuple[str, ...] = (), end: str = ""
) -> subprocess.CompletedProcess:
    """Run predict.py where neither parti nor torch (nor what is blocked) can be imported."""
    blocked = ("parti", "torch", "onnx", "safetensors", "sklearn", *blocked)
    program = WITHOUT.format(blocked=blocked, folder=str(folder), arguments=arguments)
    program += end or "import runpy; runpy.run_path(sys.path[0] + '/predict.py', None, '__main__')"
    return subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60
    )


def test_the_program_runs_without_parti_and_torch(grey, digits, tmp_path):
    folder, model = grey
    np.save(tmp_path / "digits.npy", digits)
    Image.fromarray(digits[0]).save(tmp_path / "one.png")
    done = run(
        folder, str(tmp_path / "digits.npy"), str(tmp_path / "one.png"), "--top", "3", "--json"
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["predictions"]
    logits = torch_logits(model)(digits[:, None].astype(np.float32))
    order = np.argsort(-logits, axis=1)[:, :3]
    expected = [[CLASSES[k] for k in row] for row in order]
    assert [[best["class"] for best in one["top"]] for one in found] == [*expected, expected[0]]
    shares = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    for i in range(40):
        assert found[i]["index"] == i
        got = [best["probability"] for best in found[i]["top"]]
        np.testing.assert_allclose(got, shares[i, order[i]], rtol=1e-3)
    assert found[40]["file"].endswith("one.png")


def test_the_program_prints_one_line_per_image(grey, digits, tmp_path):
    folder, _ = grey
    np.save(tmp_path / "two.npy", digits[:2])
    done = run(folder, str(tmp_path / "two.npy"), blocked=("PIL",))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"{tmp_path / 'two.npy'}[1]: digit ")


def test_the_class_can_be_imported_without_parti_and_torch(grey, digits, tmp_path):
    folder, _ = grey
    np.save(tmp_path / "one.npy", digits[0])
    done = run(
        folder,
        str(tmp_path / "one.npy"),
        end="from predict import Model; print(Model().predict(sys.argv[1], top=10))",
    )
    assert done.returncode == 0, done.stderr
    assert sorted(name for name, _ in eval(done.stdout)[0]) == CLASSES


def test_what_is_missing_is_said_in_one_line(grey, digits, tmp_path):
    folder, _ = grey
    Image.fromarray(digits[0]).save(tmp_path / "one.png")
    np.save(tmp_path / "large.npy", np.zeros((20, 20), np.uint8))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    (tmp_path / "text.png").write_text("not an image")
    no_pillow, no_runtime = ("PIL",), ("onnxruntime",)
    for name, blocked, message in (
        ("one.png", no_pillow, "Pillow is needed to read"),
        ("large.npy", no_pillow, "Pillow is needed to resize images of 20 × 20 pixels to 8 × 8"),
        ("one.png", no_runtime, "onnxruntime is missing; install what it needs: pip install"),
        ("none.png", (), "is not a file"),
        ("text.png", (), "is not an image that Pillow can read"),
        ("text.npy", (), "holds no images"),
    ):
        done = run(folder, str(tmp_path / name), blocked=blocked)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""


def test_arrays_of_every_layout_are_understood(grey, digits):
    model = Model(grey[0])
    right = model.logits(digits[:5])
    assert right.shape == (5, 10)
    for array in (
        digits[:5, None],
        digits[:5, ..., None],
        digits[:5].astype(np.float32),
        digits[:5].astype(np.int64),
        np.repeat(digits[:5, ..., None], 3, axis=3),
        np.repeat(digits[:5, None], 4, axis=1),
    ):
        np.testing.assert_allclose(model.logits(array), right, rtol=1e-5, atol=1e-5)
    for array in (digits[0], digits[0][None], digits[0][..., None], Image.fromarray(digits[0])):
        np.testing.assert_allclose(model.logits(array), right[:1], rtol=1e-5, atol=1e-5)
    three = digits[:3]
    np.testing.assert_allclose(model.logits(three), right[:3], rtol=1e-5, atol=1e-5)
    assert model.logits(three, layout="CHW").shape == (1, 10)
    assert len(model.predict(three, top=2)[0]) == 2


def test_probabilities_are_those_of_the_temperature_and_classes_stay(grey, digits, tmp_path):
    for name in ("model.onnx", "model.json", "predict.py"):
        (tmp_path / name).write_bytes((grey[0] / name).read_bytes())
    told = json.loads((tmp_path / "model.json").read_text())
    plain_model = Model(tmp_path)
    logits = torch.from_numpy(plain_model.logits(digits)).double()
    for temperature in (0.02, 0.5, 20.0):
        told["temperature"] = temperature
        (tmp_path / "model.json").write_text(json.dumps(told))
        model = Model(tmp_path)
        right = (logits / temperature).softmax(1).numpy()
        np.testing.assert_allclose(model.probabilities(digits), right, atol=1e-9)
        np.testing.assert_array_equal(model.logits(digits), plain_model.logits(digits))
        for now, before in zip(
            model.predict(digits, 10), plain_model.predict(digits, 10), strict=True
        ):
            assert [name for name, _ in now] == [name for name, _ in before]
    np.save(tmp_path / "one.npy", digits[0])
    done = run(tmp_path, str(tmp_path / "one.npy"), "--json")
    shown = json.loads(done.stdout)["predictions"][0]["top"][0]["probability"]
    assert shown == pytest.approx(right[0].max())
    for wrong in (0, -1, "hot", float("nan")):
        (tmp_path / "model.json").write_text(json.dumps({**told, "temperature": wrong}))
        with pytest.raises(PredictError, match=r"model\.json"):
            Model(tmp_path)


def test_a_folder_is_all_its_images_and_what_is_changed_is_said_once(grey, digits, tmp_path):
    (tmp_path / "images" / "more").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(digits[i]).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    done = run(grey[0], str(tmp_path / "images"))
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert names == [str(tmp_path / "images" / f"{i}.png") for i in range(3)]
    for i in range(2):
        photo = np.zeros((60, 80 + i, 3), np.uint8)
        Image.fromarray(photo).save(tmp_path / "images" / "more" / f"{i}.JPG")
    done = run(grey[0], str(tmp_path / "images"), "--json")
    assert len(json.loads(done.stdout)["predictions"]) == 5
    assert done.stderr == (
        "predict.py: as in training, 80 × 60 pixels became 8 × 8; colour became grey\n"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is a folder without images" in run(grey[0], str(empty)).stderr


@pytest.mark.parametrize(
    ("shape", "to_grey", "to_colour"),
    [
        ((8, 8), {}, {"colour": "grey became colour"}),
        ((8, 8, 3), {"colour": "colour became grey"}, {}),
        ((8, 8, 4), {"colour": "colour became grey"}, {}),
    ],
)
@pytest.mark.parametrize("picture", [True, False])
def test_what_is_changed_is_known(shape, to_grey, to_colour, picture, grey, colour):
    image = np.zeros(shape, np.uint8)
    for folder, expected in ((grey[0], to_grey), (colour.folder, to_colour)):
        preparation = Preparation(folder)
        preparation.prepare(Image.fromarray(image) if picture else image)
        assert preparation.changed == expected


def test_many_images_are_computed_in_parts(grey, digits):
    model = Model(grey[0])
    many = np.concatenate([digits] * 13)  # 520 images, three parts
    np.testing.assert_allclose(model.logits(many)[480:], model.logits(digits), atol=1e-5)


def test_grey_becomes_colour_and_colour_grey_as_in_training(grey, colour, digits, tmp_path):
    rgb = np.random.default_rng(1).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    picture = Image.fromarray(rgb)
    as_grey = np.asarray(picture.convert("L"))
    model = Model(grey[0])
    np.testing.assert_array_equal(model.prepare(rgb)[0, 0], as_grey)
    np.testing.assert_array_equal(model.prepare(picture)[0, 0], as_grey)
    np.testing.assert_array_equal(colour.prepare(digits[0])[0, 1], digits[0])
    np.testing.assert_array_equal(colour.prepare(Image.fromarray(digits[0]))[0, 2], digits[0])
    np.testing.assert_array_equal(colour.prepare(rgb)[0], rgb.transpose(2, 0, 1))
    np.testing.assert_array_equal(colour.prepare(rgb.transpose(2, 0, 1))[0], rgb.transpose(2, 0, 1))


def test_files_are_read_as_in_training(colour, tmp_path):
    from parti.tasks.images import read_images

    rng = np.random.default_rng(2)
    pictures = {
        "rgb.png": Image.fromarray(rng.integers(0, 256, (20, 31, 3)).astype(np.uint8)),
        "grey.png": Image.fromarray(rng.integers(0, 256, (9, 9)).astype(np.uint8)),
        "alpha.png": Image.fromarray(rng.integers(0, 256, (12, 8, 4)).astype(np.uint8)),
        "deep.png": Image.fromarray(rng.integers(0, 65536, (10, 10)).astype(np.uint16)),
        "palette.png": Image.fromarray(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)).quantize(
            16
        ),
        "turned.jpg": Image.fromarray(rng.integers(0, 256, (24, 12, 3)).astype(np.uint8)),
    }
    turn = Image.Exif()
    turn[0x0112] = 6
    for i, (name, picture) in enumerate(pictures.items()):
        folder = tmp_path / f"{i % 2}"
        folder.mkdir(exist_ok=True)
        picture.save(folder / name, **({"exif": turn} if name == "turned.jpg" else {}))
    data = read_images(tmp_path, image_size=8)
    got = [colour.prepare(path)[0] for path in sorted(tmp_path.glob("*/*"))]
    expected = data.images.transpose(0, 3, 1, 2)
    assert {image.tobytes() for image in np.float32(expected)} == {i.tobytes() for i in got}


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 2, 2, 2)), "give 2 to 4 dimensions"),
        (np.zeros(4), "give 2 to 4 dimensions"),
        (np.zeros((0, 8, 8)), "holds no images"),
        (np.full((8, 8), np.nan), "NaN or infinite"),
        (np.full((8, 8), 300.0), "300, but the model takes 0 to 255"),
        (np.full((8, 8), -3.0), "not normalised"),
        (np.full((8, 8), 0.5), "multiply by 255"),
        (np.zeros((1, 8, 8, 5), np.uint8), "channels; the model takes 1"),
        (np.array([["a"]]), "give numbers"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(grey, array, message):
    with pytest.raises(PredictError, match=message):
        Model(grey[0]).predict(array)


def test_a_layout_must_fit(grey, digits):
    with pytest.raises(PredictError, match="layouts are HW, HWC"):
        Model(grey[0]).predict(digits, layout="NCHW")


def test_files_that_were_torn_apart_are_said(grey, tmp_path):
    with pytest.raises(PredictError, match=r"keep predict\.py, model\.json and the model"):
        Model(tmp_path)
    (tmp_path / "model.json").write_text((grey[0] / "model.json").read_text())
    with pytest.raises(PredictError, match=r"no model\.onnx in .*ONNX files there: none"):
        Model(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"torn")
    with pytest.raises(PredictError, match=r"model\.onnx cannot be opened"):
        Model(tmp_path)


@pytest.mark.parametrize("wrong", [{"classes": 3}, {"input_shape": [8]}, {"value_range": [0]}])
def test_a_description_of_something_else_is_said(grey, wrong, tmp_path):
    told = json.loads((grey[0] / "model.json").read_text()) | wrong
    (tmp_path / "model.json").write_text(json.dumps(told))
    with pytest.raises(PredictError, match=r"model\.json cannot be read"):
        Preparation(tmp_path)


def test_another_file_can_be_chosen_by_its_name_or_path(grey, digits, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.json", "predict.py"):
        (folder / name).write_bytes((grey[0] / name).read_bytes())
    reversed_ = onnx.load(grey[0] / "model.onnx")
    reversed_.graph.output[0].name = "negated"
    reversed_.graph.node.append(onnx.helper.make_node("Neg", ["logits"], ["negated"]))
    onnx.save(reversed_, folder / "negated.onnx")
    (tmp_path / "elsewhere.onnx").write_bytes((grey[0] / "model.onnx").read_bytes())
    right = Model(grey[0]).logits(digits)
    np.testing.assert_allclose(Model(folder, file="negated.onnx").logits(digits), -right)
    np.testing.assert_array_equal(
        Model(folder, file=tmp_path / "elsewhere.onnx").logits(digits), right
    )
    with pytest.raises(PredictError, match=r"no other\.onnx in .*there: negated\.onnx"):
        Model(folder, file="other.onnx")
    np.save(tmp_path / "one.npy", digits[0])
    done = run(folder, str(tmp_path / "one.npy"), "--model", "negated.onnx", "--json")
    assert done.returncode == 0, done.stderr
    best = json.loads(done.stdout)["predictions"][0]["top"][0]["class"]
    assert best == CLASSES[right[0].argmin()]
    missing = run(folder, str(tmp_path / "one.npy"), "--model", "other.onnx")
    assert missing.returncode == 1
    assert len(missing.stderr.splitlines()) == 1


def test_a_model_of_floats_takes_them_as_they_are(grey, tmp_path):
    for name in ("model.onnx", "model.json"):
        (tmp_path / name).write_bytes((grey[0] / name).read_bytes())
    told = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**told, "value_range": [-1.5, 2.5]}))
    model = Model(tmp_path)
    image = np.random.default_rng(0).uniform(-1.5, 2.5, (11, 13)).astype(np.float32)
    picture = Image.fromarray(image).resize((8, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(model.prepare(image)[0, 0], np.asarray(picture))
    np.testing.assert_array_equal(model.prepare(Image.fromarray(image))[0, 0], np.asarray(picture))
    with pytest.raises(PredictError, match=r"takes -1\.5 to 2\.5"):
        model.predict(np.full((8, 8), 200, np.uint8))


def test_parti_predict_says_who_it_is_and_exits_with_2_for_wrong_input(
    grey, digits, tmp_path, monkeypatch
):
    found = types.SimpleNamespace(folder=tmp_path)
    (tmp_path / "model").symlink_to(grey[0])
    monkeypatch.setattr(models, "finished_study", lambda study, store: found)
    app = typer.Typer()
    models.register(app)
    asked = ["predict", "study", str(tmp_path / "none.png")]
    done = CliRunner().invoke(app, asked)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"parti: {tmp_path / 'none.png'} is not a file\n"
    error = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)["error"]
    assert error["kind"] == "InvalidData"
    (tmp_path / "photos").mkdir()
    for i in range(2):
        Image.fromarray(digits[i]).resize((9, 9)).save(tmp_path / "photos" / f"{i}.png")
    done = CliRunner().invoke(app, ["predict", "study", str(tmp_path / "photos"), "--top", "2"])
    assert done.exit_code == 0
    assert [line.count("digit") for line in done.stdout.splitlines()] == [2, 2]
    assert done.stderr == "parti: as in training, 9 × 9 pixels became 8 × 8\n"


def test_the_template_imports_nothing_of_parti():
    source = Path(predict_template.__file__).read_text()
    modules = {v for v in vars(predict_template).values() if isinstance(v, types.ModuleType)}
    assert {m.__name__.partition(".")[0] for m in modules} == {
        "argparse",
        "json",
        "numpy",
        "onnxruntime",
        "sys",
    }
    assert "parti." not in source
    compile(source, "predict.py", "exec")
