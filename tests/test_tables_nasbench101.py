"""NAS-Bench-101: the sample of cells, and official files in the official format."""

import base64
import json
import struct
from pathlib import Path
from random import Random

import numpy as np
import pytest

from parti.core.errors import InvalidData, InvalidSettings, TrialError
from parti.core.trial import Job
from parti.core.walks import canonical, graph_of, mutate, sample, validate
from parti.spaces.nasbench101 import cell_hash, nasbench101, to_matrix
from parti.tables import load_problem
from parti.tables.nasbench101 import load_sample, load_table
from parti.tables.nasbench101_records import fields, read_trainings
from parti.tables.nasbench101_rows import Cells, Nearest, Sample
from parti.tables.tfrecord import checksums, read_records
from parti.testing import EvaluatorSuite, SpaceSuite

SHARED = Path(__file__).parents[2] / "shared" / "data"
EPOCHS = (4, 12, 36, 108)


# --- an encoder of the official format ---


def varint(number):
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def metrics(parameters, seconds, validation, test):
    def evaluation(epoch, share):
        return (
            field(1, float(epoch))
            + field(2, seconds * share)
            + field(3, 0.99)
            + field(4, validation * share)
            + field(5, test * share)
            + field(6, b"/path/to/model.ckpt")
        )

    evaluations = [field(1, evaluation(number, number / 2)) for number in range(3)]
    return b"".join(evaluations) + field(2, parameters) + field(3, seconds + 100.0)


def record(cell, epochs, parameters, seconds, validation, test):
    matrix, operations = to_matrix(cell)
    digits = "".join(str(entry) for row in matrix for entry in row)
    packed = base64.b64encode(metrics(parameters, seconds, validation, test)).decode()
    return json.dumps([cell_hash(cell), epochs, digits, ",".join(operations), packed]).encode()


def framed(content):
    length = struct.pack("<Q", len(content))
    sums = [struct.pack("<I", int(s)) for s in checksums([length, content])]
    return length + sums[0] + content + sums[1]


def some_cells(count=8):
    random, cells = Random(1), {}
    while len(cells) < count:
        drawn = sample(nasbench101, random)
        cells.setdefault(cell_hash(drawn), drawn)
    return list(cells.values())


def official(folder, name="nasbench_full.tfrecord", epochs=EPOCHS):
    """Three runs of each cell at each fidelity; accuracy says which cell, epochs and run."""
    contents = [
        record(
            cell,
            e,
            1000 + number,
            10.0 * e + run,
            number / 100 + e / 1e4 + run / 1e6,
            0.5 + number / 100,
        )
        for number, cell in enumerate(some_cells())
        for e in epochs
        for run in range(3)
    ]
    file = folder / name
    file.write_bytes(b"".join(map(framed, contents)))
    return file


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PARTI_CACHE", str(tmp_path / "cache"))
    return tmp_path


# --- records ---


def test_checksums_are_those_of_crc_32c():
    (masked,) = (int(s) for s in checksums([b"123456789"]))
    rotated = (masked - 0xA282EAD8) % 2**32
    assert (rotated >> 17 | rotated << 15) % 2**32 == 0xE3069283  # the check value of CRC-32C


def test_checksums_do_not_depend_on_what_stands_beside():
    random = Random(0)
    contents = [random.randbytes(random.randrange(50)) for _ in range(40)] + [b""]
    together = checksums(contents)
    assert together.tolist() == [int(checksums([content])[0]) for content in contents]


def test_records_come_back_in_order(tmp_path):
    contents = [bytes([n]) * (n % 7) for n in range(10_000 % 256)]
    file = tmp_path / "file.tfrecord"
    file.write_bytes(b"".join(map(framed, contents)))
    assert list(read_records(file)) == contents


@pytest.mark.parametrize(
    ("place", "message"),
    [(3, "cut off|checksum"), (9, "checksum"), (20, "checksum"), (-1, "checksum")],
)
def test_damage_is_noticed(tmp_path, place, message):
    content = bytearray(framed(b"some content") + framed(b"more of it"))
    content[place] ^= 0x40
    file = tmp_path / "file.tfrecord"
    file.write_bytes(bytes(content))
    with pytest.raises(InvalidData, match=message):
        list(read_records(file))


@pytest.mark.parametrize("length", [1, 11, 15, 27])
def test_a_file_that_ends_too_early(tmp_path, length):
    file = tmp_path / "file.tfrecord"
    file.write_bytes(framed(b"some content")[:length])
    with pytest.raises(InvalidData, match="cut off"):
        list(read_records(file))
    with pytest.raises(InvalidData, match="cannot be read"):
        list(read_records(tmp_path / "nowhere"))


def test_fields_of_protocol_buffers():
    message = (
        field(1, 300)
        + field(2, 0.5)
        + field(16, b"abc")
        + varint(3 << 3 | 5)
        + struct.pack("<f", 2)
    )
    assert list(fields(message)) == [(1, 300), (2, 0.5), (16, b"abc"), (3, 2.0)]
    for broken in (
        message[:1],
        message[:8],
        varint(1 << 3 | 3),
        b"\xff" * 12,
        field(1, b"ab")[:-1],
    ):
        with pytest.raises(ValueError, match=r"cut off|wire type"):
            list(fields(broken))


def test_records_that_are_no_trainings(tmp_path):
    file = tmp_path / "file.tfrecord"
    for content in (b"[1]", b"{", b'["h", 4, "01", "input,output", "??"]', b'["h",4,"0","i,o",""]'):
        file.write_bytes(framed(content))
        with pytest.raises(InvalidData, match="record 0 is no training of NAS-Bench-101"):
            list(read_trainings(file))


# --- the official table ---


def test_an_official_file_becomes_a_problem(home):
    official(home)
    problem = load_problem("nasbench101/cifar10", home)
    assert problem.fidelities == EPOCHS
    cells = some_cells()
    for number, cell in enumerate(cells):
        assert problem.truth(cell) == pytest.approx(50.0 + number)
        assert problem.scores(cell) == {"params": 1000.0 + number}
        for epochs in EPOCHS:
            (found,) = problem.evaluator(seed=number)(Job(cell, epochs))
            base = number + epochs / 100
            runs = [base, base + 1e-4, base + 2e-4]
            assert min(abs(found.metrics["val_accuracy"] - run) for run in runs) < 1e-9
            assert found.seconds == pytest.approx(10 * epochs + 1)
            assert found.step == epochs
    assert problem.best == pytest.approx(57.0)
    seen = {
        next(iter(problem.evaluator(seed=s)(Job(cells[0])))).metrics["val_accuracy"]
        for s in range(20)
    }
    assert len(seen) == 3


def test_isomorphic_cells_share_a_row_and_others_are_refused(home):
    official(home, "nasbench_only108.tfrecord", epochs=(108,))
    table = load_table(home)
    assert [table.row(cell) for cell in table.architectures] == list(range(8))
    for row, cell in enumerate(some_cells()):
        assert table.row(canonical(nasbench101, cell)) == row
    other = some_cells(9)[8]
    with pytest.raises(TrialError, match="8 of its 423,624"):
        table.row(other)
    assert load_problem("nasbench101/cifar10", home).fidelities == ()


def test_what_was_read_is_kept(home):
    file = official(home)
    load_table(home)
    file.write_bytes(b"")  # it is there, but is not read again
    assert len(load_table(home)) == 8
    (kept,) = (home / "cache" / "compact").iterdir()
    kept.write_bytes(b"damaged")
    with pytest.raises(InvalidData, match="delete it"):
        load_table(home)
    kept.unlink()
    with pytest.raises(InvalidData, match="is empty"):
        load_table(home)


def test_a_missing_file_is_named(home):
    with pytest.raises(InvalidData, match=r"nasbench_full\.tfrecord or nasbench_only108"):
        load_table(home)
    with pytest.raises(InvalidData, match=r"nb101_20001\.parquet"):
        load_sample(home)
    with pytest.raises(InvalidSettings, match="nasbench101/cifar10-20001"):
        load_problem("nasbench101/cifar100", home)


# --- cells that a table lacks ---


def near():
    rows = [to_matrix(cell) for cell in some_cells(40)]
    upper = [
        "".join(str(row[j]) for i, row in enumerate(matrix) for j in range(i + 1, len(matrix)))
        for matrix, _ in rows
    ]
    hashes = [cell_hash(cell) for cell in some_cells(40)]
    return Nearest(Cells(hashes, upper, [",".join(operations) for _, operations in rows]))


class TestSampleSpace(SpaceSuite):
    def make(self):
        return Sample(near())


def test_cells_of_the_table_stand_for_themselves():
    nearest = near()
    assert [nearest.find(cell) for cell in nearest.architectures()] == list(range(40))
    assert [nearest.find(canonical(nasbench101, c)) for c in some_cells(40)] == list(range(40))


def test_other_cells_stand_for_the_nearest_of_the_same_operations():
    nearest, random = near(), Random(3)
    space = Sample(nearest)
    known = [canonical(nasbench101, cell) for cell in nearest.architectures()]

    def form(cell):
        matrix, operations = to_matrix(cell)
        return operations, np.array(matrix)

    checked = 0
    for _ in range(200):
        cell = mutate(nasbench101, known[random.randrange(40)], random)
        operations, matrix = form(canonical(nasbench101, cell))
        apart = [
            int(np.abs(form(other)[1] - matrix).sum()) if form(other)[0] == operations else 99
            for other in known
        ]
        if min(apart) < 99:
            checked += 1
            found = canonical(nasbench101, canonical(space, cell))
            assert apart[known.index(found)] == min(apart)
    assert checked > 50


def test_what_is_drawn_is_the_cell_of_the_table():
    space = Sample(near())
    drawn = sample(space, Random(7))
    assert validate(nasbench101, drawn) == drawn
    assert graph_of(space, drawn) == graph_of(nasbench101, canonical(space, drawn))


# --- the real sample ---

real = pytest.mark.shared_data


@real
class TestRealSample(EvaluatorSuite):
    def make(self):
        return load_problem("nasbench101/cifar10-20001", SHARED).evaluator()

    def job(self):
        return Job(some_cells()[0], 36)


@real
def test_the_real_sample():
    table = load_sample(SHARED)
    problem = load_problem("nasbench101/cifar10-20001", SHARED)
    assert len(table) == 20_001
    assert problem.best == pytest.approx(94.91, abs=5e-3)
    assert table.column("108/val/0").mean() == pytest.approx(91.0, abs=0.05)
    for row in Random(0).sample(range(20_001), 30):
        cell = table.rows.architecture(row)
        assert cell_hash(cell) == list(table.rows._rows)[row]
        assert table.row(cell) == problem.facts.table.row(cell) == row
        assert problem.truth(cell) == table.column("108/val/0")[row]
