"""The parts of the server, each alone: what is read, decoded, batched, allowed."""

import asyncio
import base64
import hashlib
import io
import json
import re
import shutil
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("prometheus_client")

from parti.core.errors import InvalidSettings
from parti.deploy.predict_template import Model
from parti.deploy.serving.batching import Batcher
from parti.deploy.serving.images import decode_image
from parti.deploy.serving.metrics import Metrics
from parti.deploy.serving.page import page
from parti.deploy.serving.refused import RequestRefused
from parti.deploy.serving.served import open_model
from parti.deploy.serving.server import ServeSettings, serve
from serving_makers import CLASSES, digits, exported


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("serving") / "model"
    exported(made)
    return made


@pytest.fixture(scope="module")
def model(folder):
    return open_model(folder, threads=1)


# Images


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("shape", [(8, 8), (20, 13), (20, 13, 3)])
def test_images_become_what_predict_py_makes_of_them(kind, shape, folder, model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    file = tmp_path / f"image.{kind.lower()}"
    file.write_bytes(png(pixels, kind))
    expected = Model(folder, threads=1).prepare(file)
    np.testing.assert_array_equal(decode_image(file.read_bytes(), model, 10**6), expected)


def test_a_turned_photograph_is_set_upright(model):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    Image.fromarray(pixels).save(stream, "PNG", exif=exif)
    found = decode_image(stream.getvalue(), model, 100)
    np.testing.assert_array_equal(found[0, 0], np.rot90(pixels, -1))


def test_a_bomb_is_not_decoded(model):
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")  # 50 kB become 400 MB
    assert len(stream.getvalue()) < 100_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RequestRefused) as refused:
            decode_image(stream.getvalue(), model, 50_000_000)
    assert refused.value.status == 413


def test_the_limit_of_pixels_is_exact(model):
    content = png(np.zeros((30, 20), np.uint8))
    assert decode_image(content, model, 600).shape == (1, 1, 8, 8)
    with pytest.raises(RequestRefused, match="20 × 30"):
        decode_image(content, model, 599)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"hello", 415),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415),
        (b"\x80\x04\x95cos\nsystem\n(S'true'\ntR.", 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
    ],
)
def test_what_is_no_image_is_refused(content, status, model):
    with pytest.raises(RequestRefused) as refused:
        decode_image(content, model, 10**6)
    assert refused.value.status == status


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_truncated_image_is_refused(kind, model):
    content = png(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8), kind)
    with pytest.raises(RequestRefused) as refused:
        decode_image(content[: len(content) // 2], model, 10**6)
    assert refused.value.status in (400, 415)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
)
def test_a_broken_image_is_decoded_or_refused(model, kind, changes, share):
    content = bytearray(png(digits(1)[0].repeat(3, 0).repeat(3, 1), kind))
    for place, value in changes:
        content[int(place * (len(content) - 1))] = value
    content = content[: int(share * len(content)) + 1]
    try:
        found = decode_image(bytes(content), model, 100_000)
    except RequestRefused as refused:
        assert refused.status in (400, 413, 415)  # noqa: PT017
    else:
        assert found.shape == (1, 1, 8, 8)


# Batches


def test_requests_that_wait_share_a_run_and_get_their_own_answers():
    sizes, free = [], threading.Event()

    def compute(images):
        free.wait(5)
        sizes.append(len(images))
        return images.sum(axis=1, keepdims=True)

    async def clients():
        async with Batcher(compute, largest=8) as batcher:
            parts = [np.full((1 + i % 3, 2), i, np.float32) for i in range(9)]
            tasks = [asyncio.create_task(batcher.submit(part)) for part in parts]
            await asyncio.sleep(0.05)
            free.set()
            return parts, await asyncio.gather(*tasks)

    parts, answers = asyncio.run(clients())
    for part, answer in zip(parts, answers, strict=True):
        np.testing.assert_array_equal(answer, part.sum(axis=1, keepdims=True))
    # 1 2 3 1 (and not 2, which would make 9) · 2 3 1 2 · 3
    assert sum(sizes) == 18
    assert max(sizes) <= 8
    assert len(sizes) <= 4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 11), min_size=1, max_size=12), st.integers(1, 6), st.booleans())
def test_every_request_gets_its_own_answer_in_runs_of_allowed_size(counts, largest, delayed):
    sizes = []

    def compute(images):
        sizes.append(len(images))
        return images * 2

    async def clients():
        delay_s = 0.003 if delayed else 0.0
        async with Batcher(compute, largest=largest, delay_s=delay_s) as batcher:
            parts = [np.full((n, 1), i, np.float32) for i, n in enumerate(counts)]
            return parts, await asyncio.gather(*(batcher.submit(part) for part in parts))

    parts, answers = asyncio.run(clients())
    for part, answer in zip(parts, answers, strict=True):
        np.testing.assert_array_equal(answer, part * 2)
    assert max(sizes) <= largest
    assert sum(sizes) == sum(counts)


def test_a_full_batch_does_not_wait_for_the_delay():
    async def clients():
        async with Batcher(lambda images: images, largest=4, delay_s=10) as batcher:
            one = np.zeros((1, 1), np.float32)
            async with asyncio.timeout(8):
                await asyncio.gather(*(batcher.submit(one) for _ in range(8)))

    asyncio.run(clients())


def test_a_lone_request_waits_for_others():
    async def clients():
        loop = asyncio.get_running_loop()
        async with Batcher(lambda images: images, largest=4, delay_s=0.1) as batcher:
            began = loop.time()
            await batcher.submit(np.zeros((1, 1), np.float32))
            return loop.time() - began

    assert asyncio.run(clients()) >= 0.099


def test_who_left_is_not_computed():
    seen = []
    begun, free = threading.Event(), threading.Event()

    def compute(images):
        begun.set()
        free.wait(5)
        seen.extend(images[:, 0])
        return images

    async def clients():
        async with Batcher(compute, largest=4) as batcher:
            tasks = [
                asyncio.create_task(batcher.submit(np.full((1, 1), i, np.float32)))
                for i in range(4)
            ]
            await asyncio.sleep(0)
            await asyncio.to_thread(begun.wait, 5)
            late = [
                asyncio.create_task(batcher.submit(np.full((1, 1), i, np.float32)))
                for i in (10, 11)
            ]
            await asyncio.sleep(0)
            late[0].cancel()
            tasks[0].cancel()  # too late: its run has begun, and goes on for the others
            free.set()
            return await asyncio.gather(*tasks, *late, return_exceptions=True)

    answers = asyncio.run(clients())
    assert sorted(seen) == [0, 1, 2, 3, 11]
    assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [
        True, False, False, False, True, False,
    ]  # fmt: skip


def test_a_run_that_fails_is_its_requests_failure_alone():
    def compute(images):
        if images[0, 0] < 0:
            raise RuntimeError("out of memory")
        return images

    async def clients():
        async with Batcher(compute) as batcher:
            with pytest.raises(RuntimeError, match="out of memory"):
                await batcher.submit(np.full((1, 1), -1, np.float32))
            return await batcher.submit(np.ones((1, 1), np.float32))

    assert asyncio.run(clients())[0, 0] == 1


@pytest.mark.parametrize("wrong", [{"largest": 0}, {"delay_s": -1.0}, {"delay_s": float("nan")}])
def test_a_batch_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidSettings):
        Batcher(lambda images: images, **wrong)


# The model


def test_the_model_is_as_its_folder_says(model):
    assert model.name == "digits-of-8-8"
    assert (model.input, model.output, model.shape) == ("images", "logits", (1, 8, 8))
    assert model.classes == tuple(CLASSES)


def changed(folder, to, **changes):
    shutil.copytree(folder, to)
    info = json.loads((to / "model.json").read_text()) | changes
    (to / "model.json").write_text(json.dumps(info))
    return to


def test_another_file_of_the_folder_can_be_served(folder, tmp_path):
    other = changed(folder, tmp_path / "m")
    (other / "model.onnx").rename(other / "model_int8.onnx")
    assert open_model(other, "model_int8.onnx").name == "digits-of-8-8"
    with pytest.raises(InvalidSettings, match=r"model_int8\.onnx"):
        open_model(other)


def test_a_file_that_is_not_what_was_exported_is_refused(folder, tmp_path):
    other = changed(folder, tmp_path / "m")
    with (other / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InvalidSettings, match="SHA-256"):
        open_model(other)


@pytest.mark.parametrize(
    "wrong",
    [{"classes": CLASSES[:9]}, {"input_shape": [3, 8, 8]}, {"input_shape": [8]}, {"classes": 3}],
)
def test_a_folder_whose_files_do_not_fit_is_refused(wrong, folder, tmp_path):
    with pytest.raises(InvalidSettings):
        open_model(changed(folder, tmp_path / "m", **wrong))


def test_a_file_that_is_no_model_is_refused(folder, tmp_path):
    (tmp_path / "other.onnx").write_bytes(b"hello")
    with pytest.raises(InvalidSettings, match="cannot open"):
        open_model(folder, str(tmp_path / "other.onnx"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_are_not_served_without_a_token(host, folder):
    with pytest.raises(InvalidSettings, match="token"):
        serve(ServeSettings(folder, host=host, port=0), lambda _: pytest.fail("served"))


@pytest.mark.parametrize("wrong", [{"host": "no.such.host.invalid"}, {"folder": None}])
def test_what_cannot_be_served_is_refused_at_the_start(wrong, folder, tmp_path):
    given = {"folder": folder, "port": 0, **wrong}
    given["folder"] = given["folder"] or tmp_path
    with pytest.raises(InvalidSettings):
        serve(ServeSettings(**given), lambda _: pytest.fail("served"))


# Metrics and page


def test_metrics_are_read_by_prometheus_own_parser():
    from prometheus_client.parser import text_string_to_metric_families

    metrics = Metrics("m", lambda: 3, lambda: 2)
    metrics.answered("/predict", 200, 0.004)
    metrics.answered("/predict", 413, 0.2)
    metrics.answered("/predict", 503, 0.2)
    metrics.ran(5, 0.01)
    metrics.unheard("slow head")
    families = text_string_to_metric_families(metrics.text().decode())
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }
    assert found["parti_requests_total", "/predict", "413"] == 1
    assert found["parti_request_errors_total", "/predict", "client"] == 1
    assert found["parti_request_errors_total", "/predict", "server"] == 1
    assert found["parti_request_seconds_bucket", "/predict", "0.005"] == 1
    assert found["parti_request_seconds_count", "/predict"] == 3
    assert found["parti_batch_images_bucket", "4.0"] == 0
    assert found["parti_batch_images_bucket", "8.0"] == 1
    assert found["parti_queue_requests",] == 3
    assert found["parti_connections",] == 2
    assert found["parti_refused_connections_total", "slow head"] == 1


def test_the_page_names_the_model_and_its_classes_as_text():
    made = page("<script>alert(1)</script>", ["a & b", "<b>bold</b>", *map(str, range(30))])
    assert "<script>alert" not in made.html
    assert "<h1>Classify an image with &lt;script&gt;alert(1)&lt;/script&gt;</h1>" in made.html
    assert "32 classes: a &amp; b, &lt;b&gt;bold&lt;/b&gt;, 0, " in made.html
    assert ", 17, …." in made.html
    assert made.policy == page().policy
    assert "<title>Classify an image</title>" in page().html
    assert "classes:" not in page().html


def test_the_page_needs_nothing_from_elsewhere_and_may_run_only_its_own_script():
    made = page()
    assert "http" not in made.html
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", made.html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in made.policy
    assert not re.search(r"<[^>]*\s(on\w+|style)=", made.html)
    assert "unsafe" not in made.policy
    assert "innerHTML" not in made.html
