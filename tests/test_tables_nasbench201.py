"""NAS-Bench-201: problems by name, on small files as well as on the real ones."""

import math
import pickle
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest

from parti.core.errors import InvalidData, InvalidSettings, TrialError
from parti.core.trial import Job, State
from parti.core.walks import architectures, canonical, sample
from parti.loop import search
from parti.spaces.nasbench201 import from_string, nasbench201, to_string
from parti.strategies.random_search import RandomSearch
from parti.tables import PROBLEMS, load_problem
from parti.tables.nasbench201_columns import load_table
from parti.testing import EvaluatorSuite

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SHARED = Path(__file__).parents[2] / "shared" / "data"
NAMES = [name for name in PROBLEMS if name.startswith("nasbench201/")]
ROWS = 60
DATASETS = ("cifar10", "cifar100", "imagenet16_120")


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def small_files(folder, rows=ROWS, order=None):
    """The first cells of the space in the columns of the real files, with other numbers."""
    random = np.random.default_rng(0)
    cells = [to_string(a) for a, _ in zip(architectures(nasbench201), range(rows), strict=False)]
    index = np.arange(rows) if order is None else order
    columns = {"index": index, "arch": cells, "unique_cell_id": index // 2}
    third = np.where(index % 2, np.nan, 1.0)
    for dataset in DATASETS:
        columns[f"{dataset}_val"] = random.uniform(10, 90, rows)
        columns[f"{dataset}_test"] = random.uniform(10, 90, rows)
        columns[f"{dataset}_val_12ep"] = random.uniform(10, 90, rows)
        kind = "val" if dataset == "cifar10" else "valtest"
        for run in range(3):
            values = random.uniform(10, 90, rows) * (third if run == 2 else 1)
            columns[f"{dataset}_{kind}_run{run}"] = values
        columns[f"train_time_s_{dataset}{'_val' if dataset == 'cifar10' else ''}"] = 200.0 + index
    columns["params_m"] = random.uniform(0.1, 1, rows)
    columns["flops_m_cifar10"] = columns["flops_m_imagenet16_120"] = columns["params_m"] * 100
    home = folder / "nasbench201"
    write(home / "nb201.parquet", **columns)
    write(
        home / "hw_nas_bench.parquet",
        index=index,
        c10_edgegpu_latency=random.uniform(1, 9, rows),
        c10_edgetpu_latency=np.where(index < 5, np.nan, 1.0),
    )
    write(home / "robustness_cifar10.parquet", index=index, fgsm_linf_1=random.uniform(0, 9, rows))
    write(
        home / "zero_cost_proxies.parquet",
        index=[0, 2, 3],
        dataset=["cifar10"] * 3,
        synflow=[10.0, 20.0, -1e8],
    )
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_files(tmp_path_factory.mktemp("tables"))


def cell(row, folder):
    return load_table(folder).architectures[row]


def test_the_runs_of_the_smaller_data_sets_average_to_validation(small):
    table = load_table(small)
    for dataset in DATASETS[1:]:
        runs = np.stack([table.column(f"runs/{dataset}/{run}") for run in range(3)])
        assert np.allclose(np.nanmean(runs, axis=0), table.column(f"{dataset}_val"))
        both = table.column(f"{dataset}_valtest_run1") - table.column(f"{dataset}_valtest_run0")
        assert np.allclose(runs[1] - runs[0], both)
        assert np.isnan(runs[2]).tolist() == [bool(row % 2) for row in range(ROWS)]


def test_twelve_epochs_take_twelve_two_hundredths_of_the_time(small):
    problem = load_problem("nasbench201/cifar10", small)
    assert problem.fidelities == (12, 200)
    assert problem.default_fidelity == 200
    (short,) = problem.evaluator()(Job(cell(7, small), 12))
    (full,) = problem.evaluator()(Job(cell(7, small)))
    assert (short.seconds, full.seconds) == pytest.approx((207 * 12 / 200, 207.0))
    assert short.metrics["val_accuracy"] == load_table(small).value(
        cell(7, small), "cifar10_val_12ep"
    )


def test_the_protocol_of_the_papers_sees_twelve_epochs_and_reports_test(small):
    problem = load_problem("nasbench201/cifar100-nats-12ep", small)
    assert problem.fidelities == ()
    assert problem.default_fidelity is None
    (found,) = problem.evaluator()(Job(cell(3, small)))
    assert found.step == 12
    table = load_table(small)
    assert found.metrics["val_accuracy"] == table.column("cifar100_val_12ep")[3]
    assert problem.truth(cell(3, small)) == table.column("cifar100_test")[3]


def test_latency_is_an_objective_or_a_constraint_of_canonical_cells(small):
    two = load_problem("nasbench201/cifar10+edgegpu", small)
    assert [o.metric for o in two.objectives] == ["val_accuracy", "latency_ms"]
    assert [o.goal for o in two.objectives] == ["max", "min"]
    within = load_problem("nasbench201/cifar10-within-edgegpu", small)
    (limit,) = within.constraints
    latency = load_table(small).column("hw/c10_edgegpu_latency")
    assert limit.at_most == pytest.approx(np.quantile(latency, 0.25), rel=1e-3)
    for problem in (two, within):
        for row in range(ROWS):
            form = canonical(nasbench201, cell(row, small))
            assert problem.truths(cell(row, small)) == problem.truths(form)


def test_a_cell_that_the_device_could_not_run_fails(small):
    problem = load_problem("nasbench201/cifar10+edgetpu", small)
    with pytest.raises(TrialError, match="no latency_ms of this architecture"):
        list(problem.evaluator()(Job(cell(0, small))))
    assert math.isinf(problem.regret(cell(0, small)))


def test_scores_are_a_cells_own_or_those_of_isomorphic_ones(small):
    problem = load_problem("nasbench201/cifar10", small)
    scores = [problem.scores(cell(row, small)) for row in range(6)]
    assert [s.get("synflow") for s in scores] == [10.0, 10.0, 20.0, 20.0, None, None]
    assert scores[4]["params"] == pytest.approx(scores[4]["macs"] / 100)


@pytest.mark.parametrize(
    "name",
    [
        "nasbench201/cifar11",
        "nasbench201/cifar10+toaster",
        "nasbench201/cifar10-within-toaster",
        "nasbench201/cifar10-tickling",
        "nasbench201/cifar100-fgsm_linf_1",
        "nasbench201/cifar100-gdas",
        "nasbench201/cifar10-nats-12ep+edgegpu",
        "nasbench201/imagenet16_120+edgegpu",
    ],
)
def test_names_that_stand_for_nothing(small, name):
    with pytest.raises(InvalidSettings, match=r"no (problem|latency)"):
        load_problem(name, small)


def test_files_are_found_where_they_are_said_to_be(small, tmp_path, monkeypatch):
    monkeypatch.setenv("PARTI_TABLES", str(small))
    assert len(load_table()) == ROWS
    assert len(load_table(small / "nasbench201")) == ROWS
    monkeypatch.setenv("PARTI_CACHE", str(tmp_path))
    monkeypatch.delenv("PARTI_TABLES")
    with pytest.raises(InvalidData, match=r"no nasbench201/nb201.parquet .* PARTI_TABLES"):
        load_table()


def test_broken_files_are_named(tmp_path):
    with pytest.raises(InvalidData, match="official index"):
        load_problem("nasbench201/cifar10", small_files(tmp_path, order=np.arange(ROWS)[::-1]))
    (tmp_path / "other" / "nasbench201").mkdir(parents=True)
    (tmp_path / "other" / "nasbench201" / "nb201.parquet").write_bytes(b"no table")
    with pytest.raises(InvalidData, match="no Parquet file"):
        load_table(tmp_path / "other")
    write(tmp_path / "third" / "nb201.parquet", index=[0], arch=["|none~0|"])
    with pytest.raises(Exception, match="no cell of NAS-Bench-201"):
        load_table(tmp_path / "third")


def test_pyarrow_may_be_missing(small, monkeypatch):
    load_table.__globals__["_table"].cache_clear()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InvalidData, match=r"pip install parti\[parquet\]"):
        load_table(small)


# --- the real files ---

real = pytest.mark.shared_data


@real
class TestTwoObjectives(EvaluatorSuite):
    def make(self):
        return load_problem("nasbench201/cifar10+pixel3", SHARED).evaluator(seed=4)

    def job(self):
        return Job(cell(6111, SHARED))


@real
@pytest.mark.parametrize(
    ("dataset", "row", "best"),
    [("cifar10", 6111, 94.373), ("cifar100", 9930, 73.513), ("imagenet16_120", 857, 47.311)],
)
def test_the_published_best_cells(dataset, row, best):
    problem = load_problem(f"nasbench201/{dataset}", SHARED)
    assert problem.best == pytest.approx(best, abs=1e-3)
    assert problem.regret(cell(row, SHARED)) == 0.0
    assert problem.regret(cell(0, SHARED)) > 5.0


@real
def test_the_best_validation_accuracies():
    table = load_table(SHARED)
    found = [
        (int(table.column(f"{d}_val").argmax()), table.column(f"{d}_val").max()) for d in DATASETS
    ]
    assert [row for row, _ in found] == [6111, 9930, 10676]
    assert [best for _, best in found] == pytest.approx([91.607, 73.493, 46.733], abs=1e-3)
    assert table.value(cell(10676, SHARED), "imagenet16_120_test") == pytest.approx(46.20, abs=5e-3)


@real
def test_rows_are_in_the_official_order():
    table = load_table(SHARED)
    assert len(table) == len(set(table.architectures)) == 15_625
    last = "|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert table.row(from_string(f"|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+{last}")) == 0
    random = Random(0)
    for row in random.sample(range(15_625), 50):
        assert table.row(table.architectures[row]) == row
    # HW-NAS-Bench's own example of cell 0.
    assert table.column("hw/c10_edgegpu_latency")[0] == pytest.approx(5.8074, abs=1e-4)
    assert table.column("hw/c10_edgegpu_energy")[0] == pytest.approx(24.2266, abs=1e-4)


@real
@pytest.mark.parametrize("name", NAMES)
def test_every_problem_is_searched(name):
    problem = load_problem(name, SHARED)
    study = problem.study(seed=1, trials=12)
    trials = search(study, RandomSearch(problem.space, study), problem.evaluator(seed=1))
    done = [trial for trial in trials if trial.state is State.DONE]
    assert len(trials) == 12
    assert done
    for trial in done:
        assert problem.regret(trial.architecture) >= 0
        assert {o.metric for o in problem.objectives} <= set(trial.metrics)
    oracle = problem.evaluator(oracle=True)
    (found,) = oracle(Job(done[0].architecture))
    assert found.metrics["val_accuracy" if "linf" not in name else "robust_accuracy"] == (
        problem.truth(done[0].architecture)
    )
    assert problem.front[0][0] == problem.best


@real
def test_scores_cover_what_isomorphism_allows():
    problem = load_problem("nasbench201/cifar10", SHARED)
    table = load_table(SHARED)
    known = np.isfinite(table.column("scores/cifar10/synflow"))
    assert known.sum() == 15_625 - 704
    classes = table.column("unique_cell_id")
    for unique in np.unique(classes[~known]):
        assert not known[classes == unique].any()
    assert set(problem.scores(cell(6111, SHARED))) >= {"synflow", "nwot", "params", "macs"}


@real
def test_evaluators_cross_to_workers_cheaply():
    evaluator = load_problem("nasbench201/cifar10+pixel3", SHARED).evaluator(seed=2)
    sent = pickle.dumps(evaluator)
    assert len(sent) < 3_000_000
    drawn = sample(nasbench201, Random(0))
    assert list(pickle.loads(sent)(Job(drawn))) == list(evaluator(Job(drawn)))
