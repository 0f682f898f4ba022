"""Official files: pickles that run nothing, NATS-Bench, HW-NAS-Bench, downloads."""

import bz2
import hashlib
import os
import pickle
from collections import OrderedDict, defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from parti.core.errors import InvalidData, InvalidSettings
from parti.core.trial import Job
from parti.spaces import nasbench201, nats_size
from parti.tables import load_problem, nats
from parti.tables.nasbench201_columns import read_hw_nas_bench
from parti.tables.nats import load_table
from parti.tables.official import OFFICIAL, download, fetch
from parti.tables.unpickling import read_pickle


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PARTI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PARTI_TABLES", raising=False)
    nats._table.cache_clear()
    return tmp_path


def pickled(folder, held, name="held.pickle", protocol=4):
    file = folder / name
    content = held if isinstance(held, bytes) else pickle.dumps(held, protocol=protocol)
    file.write_bytes(bz2.compress(content) if name.endswith(".pbz2") else content)
    return file


# --- pickles ---


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_containers_and_numbers_are_read(tmp_path, protocol):
    held = {
        "plain": [1, 2.5, "text", None, True, b"bytes", (1, 2), {3, 4}, frozenset({5})],
        "ordered": OrderedDict([("b", 1), ("a", 2)]),
        "default": defaultdict(list, {"x": [1]}),
        "scalar": np.float32(0.5),
        "integer": np.int64(7),
        "array": np.arange(6, dtype=np.float64).reshape(2, 3),
        "column": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "flags": np.array([True, False]),
        "big": np.array([1, 2], dtype=">i4"),
        "empty": np.array([]),
    }
    for name in ("held.pickle", "held.pickle.pbz2"):
        found = read_pickle(pickled(tmp_path, held, name, protocol))
        expected = {
            key: value.tolist() if isinstance(value, np.generic | np.ndarray) else value
            for key, value in held.items()
        }
        assert found == expected
        assert list(found["ordered"]) == ["b", "a"]
        assert type(found["scalar"]) is float


class Malicious:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__, print])
def test_nothing_is_run(tmp_path, capfd, function, protocol):
    mark = tmp_path / "run"
    arguments = (f"open({str(mark)!r}, 'w')",) if function in (eval, exec) else (f"touch {mark}",)
    held = {"numbers": [1, Malicious(function, *arguments)]}
    with pytest.raises(InvalidData, match="only containers and numbers are read"):
        read_pickle(pickled(tmp_path, held, protocol=protocol))
    assert not mark.exists()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "held",
    [
        np.array([{"an": "object"}], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["text"]),
        np.datetime64("2020-01-01"),
        Path("/etc/passwd"),
        nats_size.to_string,
    ],
    ids=["objects", "structured", "text", "times", "path", "function"],
)
def test_what_is_no_number_is_refused(tmp_path, held):
    with pytest.raises(InvalidData, match=r"it (holds|asks)"):
        read_pickle(pickled(tmp_path, {"held": held}))


def test_attributes_of_what_is_allowed_cannot_be_reached(tmp_path):
    dotted = b"\x80\x04\x8c\x0bcollections\x8c\x1dOrderedDict.fromkeys.__call__\x93."
    with pytest.raises(InvalidData, match=r"OrderedDict\.fromkeys"):
        read_pickle(pickled(tmp_path, dotted))


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", b"\x80\x04\x95", b"\x80\x04)\x81.", b"\x80\x04(lb."]
)
def test_broken_pickles_are_named(tmp_path, content):
    for name in ("held.pickle", "held.pickle.pbz2"):
        with pytest.raises(InvalidData, match=r"held\.pickle"):
            read_pickle(pickled(tmp_path, content, name))
    (tmp_path / "cut.pbz2").write_bytes(bz2.compress(pickle.dumps(list(range(999))))[:-9])
    for name in ("cut.pbz2", "nowhere"):
        with pytest.raises(InvalidData, match=name):
            read_pickle(tmp_path / name)


def test_every_pickle_cut_short_or_changed_is_refused_or_read(tmp_path):
    content = pickle.dumps({"a": [1, 2.0, np.float64(3), np.arange(3)], "b": OrderedDict(x=1)}, 4)
    for place in range(len(content)):
        for broken in (content[:place], content[:place] + b"\xff" + content[place + 1 :]):
            try:
                read_pickle(pickled(tmp_path, broken))
            except InvalidData:
                continue


# --- NATS-Bench ---


def run(seed, epochs, accuracies, number):
    """What one training measured, as the benchmark keeps it."""
    return {
        "name": "infer",
        "net_state_dict": None,
        "train_acc1es": dict.fromkeys(range(epochs), 50.0),
        "train_acc5es": None,
        "train_losses": dict.fromkeys(range(epochs), 1.0),
        "train_times": OrderedDict((epoch, 10.0 + number) for epoch in range(epochs)),
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": "x", "class_num": 10},
        "params": 0.5 + number,
        "flop": np.float64(100.0 + number),
        "seed": seed,
        "epochs": epochs,
        "latency": [0.02, 0.04],
        "eval_names": list(accuracies),
        "eval_acc1es": {f"{name}@{epochs - 1}": value for name, value in accuracies.items()},
        "eval_times": {f"{name}@{epochs - 1}": 3.0 for name in accuracies},
        "eval_losses": {f"{name}@{epochs - 1}": 1.0 for name in accuracies},
    }


def archive(home, part, texts):
    """A few architectures in the official format; accuracies say which, how long, and which run."""
    schedules = {"topology": {"12": 12, "200": 200}, "size": {"01": 1, "12": 12, "90": 90}}[part]
    folder = home / nats.PARTS[part].archive
    folder.mkdir(parents=True)
    meta = {
        "meta_archs": texts,
        "total_archs": len(texts),
        "evaluated_indexes": set(range(len(texts))),
    }
    pickled(folder, meta, "meta.pickle.pbz2")
    for number, text in enumerate(texts):
        held = OrderedDict()
        for schedule, epochs in schedules.items():
            seeds = (
                [777, 888, 999][: 1 + number % 3] if epochs == max(schedules.values()) else [777]
            )
            results = {}
            for place, seed in enumerate(reversed(seeds)):
                base = 10.0 * number + epochs / 1000 + (len(seeds) - 1 - place) / 10
                val, test = {"x-valid": base}, {"ori-test": base + 40}
                results["cifar10-valid", seed] = run(seed, epochs, {**val, **test}, number)
                results["cifar10", seed] = run(seed, epochs, {"ori-test": base + 50}, number)
                for dataset in ("cifar100", "ImageNet16-120"):
                    images = {**val, "x-test": base + 30, "ori-test": base + 15}
                    results[dataset, seed] = run(seed, epochs, images, number)
            datasets = ("cifar10-valid", "cifar10", "cifar100", "ImageNet16-120")
            held[schedule] = {
                "arch_index": number,
                "arch_str": text,
                "all_results": results,
                "dataset_seed": {dataset: list(seeds) for dataset in datasets},
                "clear_net_done": True,
            }
        pickled(folder, held, f"{number:06d}.pickle.pbz2")
    return folder


CELLS = [
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|",
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|",
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
]


EDGE = "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
POOL = "|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|"


def test_the_topology_archive_becomes_problems(home):
    archive(home, "topology", CELLS)
    problem = load_problem("nats/topology-cifar100", home)
    assert problem.fidelities == (12, 200)
    cell = nasbench201.from_string(CELLS[2])
    (short,) = problem.evaluator()(Job(cell, 12))
    assert short.metrics["val_accuracy"] == pytest.approx(20.012)
    assert short.seconds == pytest.approx(12 * 12.0 + 3.0)
    seen = set()
    for seed in range(30):
        (full,) = problem.evaluator(seed=seed)(Job(cell))
        seen.add(round(full.metrics["val_accuracy"], 6))
        assert full.seconds == pytest.approx(200 * 12.0 + 3.0)
    assert seen == {20.2, 20.3, 20.4}
    assert problem.truth(cell) == pytest.approx(50.3)  # the mean of its three runs
    assert problem.scores(cell) == {"params": 2.5e6, "macs": 102e6}
    assert problem.best == problem.truth(nasbench201.from_string(CELLS[3])) == pytest.approx(60.2)
    table = load_table("topology", home)
    assert table.column("latency_ms/cifar100").tolist() == pytest.approx([30.0] * 4)
    assert len(table.architectures) == 4


def test_cifar_10_is_searched_on_half_and_reported_on_all_training_images(home):
    archive(home, "topology", CELLS)
    problem = load_problem("nats/topology-cifar10-12ep", home)
    cell = nasbench201.from_string(CELLS[1])
    (found,) = problem.evaluator()(Job(cell))
    assert problem.fidelities == ()
    assert found.step == 12
    assert found.metrics["val_accuracy"] == pytest.approx(10.012)
    assert problem.truth(cell) == pytest.approx(60.25)


def test_the_size_archive_becomes_problems(home):
    archive(home, "size", ["8:16:24:32:40", "64:64:64:64:64"])
    problem = load_problem("nats/size-imagenet16_120", home)
    assert problem.fidelities == (1, 12, 90)
    widest = nats_size.from_string("64:64:64:64:64")
    assert problem.regret(widest) == 0.0
    assert problem.regret(nats_size.from_string("8:16:24:32:40")) == pytest.approx(10.05)


def test_an_archive_is_read_once(home):
    folder = archive(home, "topology", CELLS)
    load_table("topology", folder)  # the archive's folder itself will do
    for file in folder.iterdir():
        file.unlink()
    nats._table.cache_clear()
    assert len(load_table("topology", home)) == 4


def test_archives_that_are_not_complete(home):
    folder = archive(home, "topology", CELLS)
    missing = folder / "000003.pickle.pbz2"
    content = missing.read_bytes()
    missing.unlink()
    with pytest.raises(InvalidData, match=r"000003.pickle.pbz2"):
        load_table("topology", home)
    missing.write_bytes((folder / "000001.pickle.pbz2").read_bytes())
    with pytest.raises(InvalidData, match="is it of this archive"):
        load_table("topology", home)
    missing.write_bytes(content)
    pickled(folder, [1, 2], "meta.pickle.pbz2")
    with pytest.raises(InvalidData, match="not that of NATS-Bench"):
        load_table("topology", home)


def test_archives_that_are_not_there(home):
    with pytest.raises(InvalidData, match=r"no folder NATS-sss-v1_0-50262-simple .*PARTI_TABLES"):
        load_table("size", home)
    with pytest.raises(InvalidSettings, match="topology, size"):
        load_table("depth")
    with pytest.raises(InvalidSettings, match="nats/PART-DATASET"):
        load_problem("nats/topology-cifar11")


# --- HW-NAS-Bench ---


def hardware():
    metrics = ("edgegpu_latency", "edgegpu_energy", "edgetpu_latency")
    each = {metric: [1.0 * place, 2.0, 3.0] for place, metric in enumerate(metrics)}
    each["edgetpu_latency"] = np.array([1.0, np.nan, 3.0])
    each["config"] = [{"name": "infer.tiny", "arch_str": cell} for cell in CELLS[:3]]
    datasets = ("cifar10", "cifar100", "ImageNet16-120")
    return {"nasbench201": dict.fromkeys(datasets, each), "fbnet": {"edgegpu_latency": {"op": 1.0}}}


def test_hw_nas_bench_is_read(tmp_path):
    columns = read_hw_nas_bench(pickled(tmp_path, hardware()))
    assert sorted({name.partition("_")[0] for name in columns}) == ["c10", "c100", "in16"]
    assert columns["c100_edgegpu_energy"].tolist() == [1.0, 2.0, 3.0]
    assert np.isnan(columns["in16_edgetpu_latency"]).tolist() == [False, True, False]
    for other in ({"nasbench201": {}}, [1], {"nasbench201": {"cifar10": 3}}):
        with pytest.raises(InvalidData, match="is not HW-NAS-Bench"):
            read_hw_nas_bench(pickled(tmp_path, other))


def test_its_official_file_stands_in_for_the_table(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    columns = {name: [80.0, 90.0, 70.0] for name in ("cifar10_test", "cifar10_val_12ep")}
    columns.update({f"cifar10_val_run{place}": [80.0, 90.0, 70.0] for place in range(3)})
    columns.update(
        index=[0, 1, 2], arch=[CELLS[3], EDGE, POOL], train_time_s_cifar10_val=[1.0, 2.0, 3.0]
    )
    pq.write_table(pa.table(columns), tmp_path / "nb201.parquet")
    pickled(tmp_path, hardware(), "HW-NAS-Bench-v1_0.pickle")
    problem = load_problem("nasbench201/cifar10+edgegpu", tmp_path)
    assert problem.truths(nasbench201.from_string(POOL))["latency_ms"] == 3.0
    assert problem.truths(nasbench201.from_string(POOL))["val_accuracy"] == 70.0


# --- downloads ---

CONTENT = bytes(range(256)) * 40


@contextmanager
def server(*, ranges=True, cut=None):
    """A web server with one file; it may ignore ranges, or break off after some bytes."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/file":
                self.send_error(404)
                return
            wanted = self.headers.get("Range")
            asked.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges else 0
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start : cut if not start else None])

        def log_message(self, *_):
            pass

    service = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=service.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{service.server_port}/file", asked
    finally:
        service.shutdown()
        thread.join()
        service.server_close()


DIGEST = hashlib.sha256(CONTENT).hexdigest()


def test_a_file_is_fetched_and_checked(tmp_path):
    target = tmp_path / "deep" / "file"
    with server() as (address, _):
        assert download(address, target, sha256=DIGEST) == target
    assert target.read_bytes() == CONTENT
    assert [file.name for file in target.parent.iterdir()] == ["file"]


def test_a_download_that_broke_off_goes_on(tmp_path):
    target = tmp_path / "file"
    with server(cut=1000) as (address, asked):
        with pytest.raises(InvalidData, match="go on from 1,000 bytes"):
            download(address, target, sha256=DIGEST)
        assert not target.exists()
        download(address, target, sha256=DIGEST)
    assert asked == [None, "bytes=1000-"]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(("there", "ranges"), [(CONTENT, True), (CONTENT[:500], False)])
def test_what_is_there_is_used_if_the_server_can(tmp_path, there, ranges):
    target = tmp_path / "file"
    (tmp_path / "file.part").write_bytes(there)
    with server(ranges=ranges) as (address, _):
        download(address, target, sha256=DIGEST)
    assert target.read_bytes() == CONTENT


def test_another_file_than_expected_is_deleted(tmp_path):
    with (
        server() as (address, _),
        pytest.raises(InvalidData, match=f"SHA-256 {DIGEST}, not 0000"),
    ):
        download(address, tmp_path / "file", sha256="0" * 64)
    assert not list(tmp_path.iterdir())


def test_addresses_that_lead_nowhere(tmp_path):
    with server() as (address, _), pytest.raises(InvalidData, match="404"):
        download(f"{address}s", tmp_path / "file")
    with pytest.raises(InvalidData, match="cannot be reached"):
        download(address, tmp_path / "file")  # the server is gone
    with pytest.raises(InvalidSettings, match="begins with https"):
        download("file:///etc/passwd", tmp_path / "file")


def test_official_files(home):
    for name, official in OFFICIAL.items():
        assert official.address.startswith("https://")
        if not official.direct:
            with pytest.raises(InvalidData, match=f"{official.file} has to be fetched by hand"):
                fetch(name)
    there = home / "cache" / "tables" / "nasbench_full.tfrecord"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"it is there")
    assert fetch("nasbench101") == there
    with pytest.raises(InvalidSettings, match="nats-topology"):
        fetch("nasbench301")
