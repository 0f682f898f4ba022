"""Predicted latency: right where it can be, honest about its error, the same after a resume."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parti import Constraint, sample
from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, TrialError
from parti.core.trial import Job, Measurement
from parti.evaluators import latency_features
from parti.evaluators.devices import DeviceAway
from parti.evaluators.latency_features import LatencyFeatures
from parti.evaluators.latency_predictor import LatencyPredictor, cross_validated, design
from parti.evaluators.predicted_latency import PredictedLatency
from parti.spaces.catalogue import load_space
from parti.spaces.nasbench201 import CHOICES, nasbench201
from parti.tables.nasbench201_columns import load_table

COST = {
    "none": 0.0, "skip_connect": 0.1, "avg_pool_3x3": 0.7, "nor_conv_1x1": 1.0,
    "nor_conv_3x3": 2.5,
}  # fmt: skip
CELLS = LatencyFeatures(nasbench201)


def cells(count: int, seed: int = 0) -> list[Architecture]:
    random = Random(seed)
    return [sample(nasbench201, random) for _ in range(count)]


def truth(cell: Architecture) -> float:
    return 3.0 + sum(COST[str(cell[edge])] for edge in CHOICES)


class Device:
    """Measures a cell as the sum of its operations, with noise; counts how often."""

    conditions = "a toy device"
    provides = frozenset({"latency_ms", "latency_p95_ms"})

    def __init__(self, noise: float = 0.0, offset: float = 0.0) -> None:
        self.noise, self.offset = noise, offset
        self.measured: list[Architecture] = []

    def __call__(self, job: Job) -> Iterator[Measurement]:
        self.measured.append(job.architecture)
        random = Random(job.architecture.fingerprint)
        value = self.offset + truth(job.architecture) * (1 + self.noise * random.gauss(0, 1))
        yield Measurement({"latency_ms": value, "latency_p95_ms": 1.1 * value}, seconds=0.5)


def predicting(folder: Path, device: Device, **settings) -> PredictedLatency:
    made = PredictedLatency(device, nasbench201, folder / "latency.jsonl", **settings)
    made.prepare()
    return made


def measured(evaluator: PredictedLatency, cell: Architecture) -> dict[str, float]:
    (found,) = evaluator(Job(cell))
    return dict(found.metrics)


def test_sums_over_operations_are_learned_from_a_dozen() -> None:
    seen = design(CELLS, cells(500), 12)
    model = LatencyPredictor(CELLS, seen, [truth(cell) for cell in seen])
    others = cells(200, seed=1)
    mean, deviation = model.predict(others)
    exact = np.array([truth(cell) for cell in others])
    assert np.abs(mean / exact - 1).max() < 0.1
    assert np.corrcoef(mean, exact)[0, 1] > 0.995
    assert (deviation > 0).all()


def test_the_unit_does_not_matter() -> None:
    seen, others = cells(20), cells(20, seed=1)
    values = np.array([truth(cell) for cell in seen])
    ms, ms_off = LatencyPredictor(CELLS, seen, values).predict(others)
    us, us_off = LatencyPredictor(CELLS, seen, 1000 * values).predict(others)
    assert us == pytest.approx(1000 * ms)
    assert us_off == pytest.approx(1000 * ms_off)


def test_products_are_learned_as_well_as_sums() -> None:
    """Latencies over three orders of magnitude, as of networks of many widths."""

    def product(cell: Architecture) -> float:
        return float(np.exp(truth(cell)))

    seen, others = design(CELLS, cells(400), 20), cells(200, seed=1)
    model = LatencyPredictor(CELLS, seen, [product(cell) for cell in seen])
    mean, deviation = model.predict(others)
    exact = np.array([product(cell) for cell in others])
    assert exact.max() / exact.min() > 1000
    assert (np.abs(mean / exact - 1)).max() < 0.5
    assert (deviation > 0).all()
    assert cross_validated(CELLS, seen, [product(cell) for cell in seen]).rank_low > 0.95


def test_what_is_seen_is_more_certain_than_what_is_not() -> None:
    seen = cells(15)
    model = LatencyPredictor(CELLS, seen, [truth(cell) for cell in seen])
    known, unknown = model.predict(seen)[1], model.predict(cells(100, seed=2))[1]
    assert known.mean() < unknown.mean()


@settings(max_examples=10, deadline=None)
@given(st.floats(0.0, 0.3), st.integers(0, 100))
def test_deviations_and_bounds_hold_about_as_often_as_they_should(noise: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    seen, others = cells(30, seed), cells(300, seed + 1000)
    values, hidden = (
        np.array([truth(cell) for cell in some]) * (1 + noise * random.standard_normal(len(some)))
        for some in (seen, others)
    )
    mean, deviation = LatencyPredictor(CELLS, seen, values).predict(others)
    assert (np.abs(mean - hidden) < 3 * deviation).mean() > 0.85
    quality = cross_validated(CELLS, seen, values)
    error = np.abs(mean - hidden).mean() / hidden.mean()
    assert quality.rank_low <= quality.rank
    assert quality.error <= quality.error_high
    assert 0.4 * error <= quality.error_high + 0.01
    assert quality.error <= 2.5 * error + 0.03


def test_noise_alone_is_not_taken_for_knowledge() -> None:
    random = np.random.default_rng(0)
    seen = design(CELLS, cells(300), 20)
    quality = cross_validated(CELLS, seen, random.uniform(1, 2, 20))
    assert quality.rank_low < 0.7
    assert "rank correlation" in str(quality)


def test_a_design_is_better_than_chance_and_begins_a_longer_one() -> None:
    pool = cells(500)
    chosen = design(CELLS, pool, 12)
    assert len(set(chosen)) == 12
    assert design(CELLS, pool, 20)[:12] == chosen
    assert len(design(CELLS, pool[:5], 12)) == 5

    def spread(some: list[Architecture]) -> float:
        counts = CELLS.rows(some)[0]
        return float(np.linalg.slogdet(counts.T @ counts + 1e-6 * np.eye(counts.shape[1]))[1])

    assert spread(chosen) > max(spread(cells(12, seed=seed)) for seed in range(1, 20))


def test_too_little_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="at least 4"):
        LatencyPredictor(CELLS, cells(3), [1.0, 2.0, 3.0])
    with pytest.raises(InvalidSettings, match="finite"):
        LatencyPredictor(CELLS, cells(6), [1.0, 2.0, 3.0, 4.0, 5.0, np.nan])
    with pytest.raises(InvalidSettings, match="there must be 8"):
        cross_validated(CELLS, cells(7), [1.0] * 7)


def test_equal_latencies_are_predicted_as_such() -> None:
    mean, _ = LatencyPredictor(CELLS, cells(8), [2.0] * 8).predict(cells(5, seed=1))
    assert mean == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["chain", "mobile", "darts", "residual"])
def test_every_kind_of_space_has_features(name: str, monkeypatch) -> None:
    monkeypatch.setattr(latency_features, "REFERENCE", 40)
    space = load_space(name, in_channels=3, classes=10, resolution=32)
    features = LatencyFeatures(space)
    assert {"counts", "choices"} <= set(features.groups)
    for block in features.rows(features.reference[:20]):
        assert np.isfinite(block).all()


def test_networks_are_counted_by_layer_and_resolution(monkeypatch) -> None:
    monkeypatch.setattr(latency_features, "REFERENCE", 20)
    space = load_space("chain", in_channels=1, classes=10, resolution=8)
    features = LatencyFeatures(space, (1, 8, 8))
    assert features.groups[-1] == "network"
    columns = features._groups["network"].names
    assert any(name.startswith("Conv2d 8x8") and name.endswith("macs") for name in columns)
    assert "params" in columns
    with pytest.raises(TrialError, match="cannot count"):
        LatencyFeatures(space, (2, 8, 8))


def test_a_good_predictor_replaces_measurements(tmp_path: Path) -> None:
    device = Device(noise=0.01)
    evaluator = predicting(tmp_path, device)
    assert len(device.measured) == 20
    assert "predicted where certain" in evaluator.summary
    assert "a toy device; predicted where certain" in evaluator.conditions
    for cell in cells(20, seed=5):
        found = measured(evaluator, cell)
        assert found.keys() == evaluator.provides
        assert found["latency_predicted"] == 1.0
        assert found["latency_ms"] == pytest.approx(truth(cell), rel=0.1)
        assert found["latency_p95_ms"] == pytest.approx(1.1 * truth(cell), rel=0.1)
    assert len(device.measured) == 20


def test_a_bad_predictor_is_not_used(tmp_path: Path) -> None:
    device = Device(noise=0.5, offset=10.0)
    evaluator = predicting(tmp_path, device, first=8, most=16)
    assert len(device.measured) == 16  # it was given a second chance
    assert "always measured" in evaluator.summary
    cell = cells(1, seed=5)[0]
    (exact,) = Device(noise=0.5, offset=10.0)(Job(cell))
    assert measured(evaluator, cell) == {**exact.metrics, "latency_predicted": 0.0}


def test_near_a_limit_it_is_measured(tmp_path: Path) -> None:
    random = cells(60, seed=5)
    limit = sorted(truth(cell) for cell in random)[30]
    device = Device(noise=0.01)
    evaluator = predicting(tmp_path, device, constraints=[Constraint("latency_ms", at_most=limit)])
    far = [cell for cell in random if abs(truth(cell) / limit - 1) > 0.3]
    near = [cell for cell in random if abs(truth(cell) - limit) < 1e-9]
    assert far
    assert near
    assert all(measured(evaluator, cell)["latency_predicted"] == 1.0 for cell in far)
    assert all(measured(evaluator, cell)["latency_predicted"] == 0.0 for cell in near)


def test_resumed_anywhere_it_gives_the_same(tmp_path: Path) -> None:
    whole = predicting(tmp_path / "whole", Device(noise=0.02))
    lines = (tmp_path / "whole/latency.jsonl").read_text().splitlines(keepends=True)
    trials = cells(10, seed=7)
    for kept in (0, 1, 7, 21):
        folder = tmp_path / f"cut-{kept}"
        folder.mkdir()
        if kept:
            text = "".join(lines[:kept]) + '{"architecture": {"edge'  # killed while writing
            (folder / "latency.jsonl").write_text(text)
        device = Device(noise=0.02)
        again = predicting(folder, device)
        assert len(device.measured) == 20 - max(0, kept - 1)
        assert (folder / "latency.jsonl").read_text() == "".join(lines)
        for cell in reversed(trials):
            assert measured(again, cell) == measured(whole, cell)


def test_a_file_that_was_cut_in_its_first_line_begins_again(tmp_path: Path) -> None:
    whole = predicting(tmp_path / "whole", Device(), first=8, most=8)
    (tmp_path / "latency.jsonl").write_text('{"condi')
    again = predicting(tmp_path, Device(), first=8, most=8)
    assert again.file.read_text() == whole.file.read_text()
    assert again.summary == whole.summary


def test_it_crosses_to_workers(tmp_path: Path) -> None:
    evaluator = predicting(tmp_path, Device())
    again = pickle.loads(pickle.dumps(evaluator))
    cell = cells(1, seed=3)[0]
    assert measured(again, cell) == measured(evaluator, cell)


def test_another_device_is_noticed(tmp_path: Path) -> None:
    predicting(tmp_path, Device())
    other = Device()
    other.conditions = "another device"
    with pytest.raises(InvalidSettings, match="a toy device, and now: another device"):
        predicting(tmp_path, other)


def test_what_cannot_be_measured_is_left_out(tmp_path: Path) -> None:
    class Fragile(Device):
        def __call__(self, job: Job) -> Iterator[Measurement]:
            if job.architecture["edge0-1"] == "none":
                self.measured.append(job.architecture)
                raise TrialError("no")
            yield from super().__call__(job)

    evaluator = predicting(tmp_path, Fragile(), first=20, most=20)
    rows = [json.loads(line) for line in evaluator.file.read_text().splitlines()[1:]]
    failed = [row for row in rows if not row["metrics"]]
    assert 0 < len(failed) < 20
    assert all(row["architecture"]["edge0-1"] == "none" for row in failed)
    assert f"{20 - len(failed)} measurements" in evaluator.summary


def test_a_device_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """No architecture is to blame; what was measured before is kept."""

    class Leaving(Device):
        def __call__(self, job: Job) -> Iterator[Measurement]:
            if len(self.measured) == 7:
                raise DeviceAway("no device measured the model within 120 s")
            yield from super().__call__(job)

    with pytest.raises(DeviceAway, match="no device"):
        predicting(tmp_path, Leaving())
    back = Device()
    evaluator = predicting(tmp_path, back, first=20, most=20)
    assert len(back.measured) == 13
    assert "20 measurements" in evaluator.summary


def test_settings_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "x"
    for wrong in ({"first": 3}, {"first": 30, "most": 20}, {"rank": 0.0}, {"error": -1.0}):
        with pytest.raises(InvalidSettings, match="at least 8 measurements"):
            PredictedLatency(Device(), nasbench201, file, **wrong)
    with pytest.raises(InvalidSettings, match="latency_ms"):
        PredictedLatency(Device(), nasbench201, file, judged=["accuracy"])


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "column", ["help/titan_rtx_32", "help/samsung_a50", "hw/in16_fpga_latency"]
)
def test_twenty_measurements_rank_real_devices(column: str) -> None:
    from scipy.stats import spearmanr

    table = load_table("../shared/data")
    latencies = np.asarray(table.columns[column])
    seen = design(CELLS, cells(1000), 20)
    model = LatencyPredictor(CELLS, seen, [latencies[table.rows.find(cell)] for cell in seen])
    others = [cell for cell in cells(1000, seed=1) if cell not in seen]
    exact = [latencies[table.rows.find(cell)] for cell in others]
    assert spearmanr(model.predict(others)[0], exact)[0] > 0.95
