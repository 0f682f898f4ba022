"""The columns of NAS-Bench-201: from Parquet files, and HW-NAS-Bench from its official pickle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from parti.core.errors import InvalidData
from parti.spaces.nasbench201 import from_string, nasbench201
from parti.tables.parquet import column_names, read_columns
from parti.tables.places import find_file
from parti.tables.rows import Grid
from parti.tables.table import Column, Lazy, Table
from parti.tables.unpickling import read_pickle

__all__ = ["DATASETS", "RUNS", "load_table", "read_hw_nas_bench"]

DATASETS = {"cifar10": "c10", "cifar100": "c100", "imagenet16_120": "in16"}
"""The data sets, and how columns of HW-NAS-Bench call them."""

RUNS = range(3)
FAILED = -1e8
"""What stands for a training-free score that could not be computed."""

FOLDER = "nasbench201"
HARDWARE = "HW-NAS-Bench-v1_0.pickle"
OTHER_FILES = {
    "hw": "hw_nas_bench",
    "help": "help_latency_ms",
    "robustness": "robustness_cifar10",
    "gdas": "gdas_supernet_val_acc",
}


def load_table(folder: Path | str | None = None) -> Table:
    """Return the table; columns are read when they are first asked for.

    Those of nb201.parquet keep their names; to others, the table they come from is prefixed:
    hw/c10_edgegpu_latency, help/pixel2, robustness/pgd_linf_1.0, gdas/gdas_epoch_250,
    scores/cifar10/synflow, runs/cifar100/0.

    Args:
        folder: holds nasbench201/nb201.parquet, and its neighbours as far as they are wanted;
            HW-NAS-Bench also as its official HW-NAS-Bench-v1_0.pickle.

    Raises:
        InvalidData: nb201.parquet is missing or broken, or pyarrow is missing.
    """
    return _table(find_file(f"{FOLDER}/nb201.parquet", folder))


@lru_cache(maxsize=4)
def _table(file: Path) -> Table:
    readers: dict[str, Callable[[], Column]] = {
        name: partial(_column, file, name)
        for name in column_names(file)
        if name not in ("index", "arch")
    }
    for dataset in DATASETS:
        for run in RUNS:
            readers[f"runs/{dataset}/{run}"] = partial(_run, file, dataset, run)
    for prefix, stem in OTHER_FILES.items():
        other = file.with_name(f"{stem}.parquet")
        if other.is_file():
            for name in column_names(other):
                if name != "index":
                    readers[f"{prefix}/{name}"] = partial(_column, other, name)
    hardware = file.with_name(HARDWARE)
    if hardware.is_file() and not any(name.startswith("hw/") for name in readers):
        for name, column in read_hw_nas_bench(hardware).items():
            readers[f"hw/{name}"] = partial(np.asarray, column)
    proxies = file.with_name("zero_cost_proxies.parquet")
    if proxies.is_file():
        for name in column_names(proxies):
            if name not in ("index", "dataset"):
                for dataset in ("cifar10", "imagenet16_120"):
                    reader = partial(_score, proxies, file, dataset, name)
                    readers[f"scores/{dataset}/{name}"] = reader
    return Table(
        name="NAS-Bench-201",
        space=nasbench201,
        rows=_rows(file),
        columns=Lazy(readers),
        source="dumps of NATS-Bench, HW-NAS-Bench, HELP and others as Parquet files",
        licence="MIT (NATS-Bench, HW-NAS-Bench, HELP); Apache-2.0 (single runs, times)",
        citation="Dong and Yang, NAS-Bench-201, ICLR 2020",
    )


def read_hw_nas_bench(file: Path) -> dict[str, Column]:
    """Read the official pickle of HW-NAS-Bench, without executing code.

    Returns:
        Columns such as c10_edgegpu_latency (ms) and c10_edgegpu_energy (mJ), in the benchmark's
        order of cells; NaN where a device could not run a cell.

    Raises:
        InvalidData: the file is missing or damaged, or is another one.
    """
    held = read_pickle(file)
    columns: dict[str, Column] = {}
    try:
        for dataset, prefix in DATASETS.items():
            measured: Mapping[str, Any] = held["nasbench201"][_official(dataset)]
            for metric, values in measured.items():
                if metric != "config":  # the cells, which are in the order of the benchmark
                    columns[f"{prefix}_{metric}"] = np.array(values, dtype=np.float64)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidData(f"{file} is not HW-NAS-Bench: it lacks {error!r}") from error
    return columns


def _official(dataset: str) -> str:
    """How the benchmarks themselves call a data set."""
    return "ImageNet16-120" if dataset == "imagenet16_120" else dataset


def _rows(file: Path) -> Grid:
    cells = read_columns(file, ["arch"])["arch"]
    members = [tuple(from_string(cell).values()) for cell in cells]
    tree = nasbench201.tree
    assert tree is not None
    return Grid(list(tree.choices.values()), members, "NAS-Bench-201")


@lru_cache(maxsize=8)
def _order(file: Path) -> Column:
    """Row numbers as a file gives them; every file of the table has all rows in order."""
    order = read_columns(file, ["index"])["index"]
    if not np.array_equal(order, np.arange(len(order))):
        raise InvalidData(f"{file}: its rows are not in the order of the official index")
    return order


def _column(file: Path, name: str) -> Column:
    _order(file)
    return read_columns(file, [name])[name]


def _run(file: Path, dataset: str, run: int) -> Column:
    """Validation accuracy of one run; derived for the smaller tables, as said above."""
    if dataset == "cifar10":
        return _column(file, f"cifar10_val_run{run}")
    both = read_columns(file, [f"{dataset}_valtest_run{r}" for r in RUNS])
    mean = np.nanmean(np.stack(list(both.values())), axis=0)
    derived: Column = _column(file, f"{dataset}_val") + both[f"{dataset}_valtest_run{run}"] - mean
    return derived


def _score(proxies: Path, cells: Path, dataset: str, name: str) -> Column:
    """A training-free score of every cell: its own, or the mean of those isomorphic to it."""
    found = read_columns(proxies, ["index", "dataset", name])
    mine = (found["dataset"] == _official(dataset)) & (found[name] > FAILED)
    place, value = found["index"][mine].astype(np.int64), found[name][mine]
    classes = read_columns(cells, ["unique_cell_id"])["unique_cell_id"].astype(np.int64)
    total = np.bincount(classes[place], weights=value, minlength=classes.max() + 1)
    count = np.bincount(classes[place], minlength=classes.max() + 1)
    means = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    scores: Column = means[classes]
    scores[place] = value
    return scores
