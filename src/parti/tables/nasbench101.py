"""NAS-Bench-101: its official files, and a sample of 20,001 of its 423,624 cells.

Ying, Klein, Christiansen, Real, Murphy and Hutter, "NAS-Bench-101: Towards Reproducible Neural
Architecture Search", ICML 2019.

    nasbench101/cifar10         all cells, from nasbench_full.tfrecord or nasbench_only108.tfrecord
    nasbench101/cifar10-20001   a sample, from nasbench101_subset/nb101_20001.parquet

A search sees validation accuracy of one of three runs, in percent. Fidelities are 4, 12, 36 and 108
epochs, each a training of its own, so a promotion pays in full; seconds are those of training. The
truth is mean test accuracy after 108 epochs.

The sample has one run per fidelity and no test accuracy: there, the truth is the validation
accuracy of the run that the search sees. Of its times only that of 108 epochs is known; fewer
epochs take their share. Cells that are not in the sample stand for the nearest one that is, see
`parti.tables.nasbench101_rows.Nearest`: two thirds of cells drawn at random differ from it by at
most two edges. Neighbours within the sample have values of a rank correlation of 0.76, so the
landscape is the benchmark's, seen in steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidData, InvalidSettings
from parti.core.study import Objective
from parti.evaluators.tabular import Level
from parti.spaces.nasbench101 import nasbench101
from parti.tables.compact import Arrays, kept
from parti.tables.facts import TableFacts
from parti.tables.nasbench101_records import read_trainings
from parti.tables.nasbench101_rows import Cells, Nearest, Sample
from parti.tables.parquet import column_names, read_columns
from parti.tables.places import find_file
from parti.tables.problem import Problem
from parti.tables.table import Column, Table

__all__ = ["load_problem", "load_sample", "load_table", "read_official"]

FULL = 108
OFFICIAL = ("nasbench_full.tfrecord", "nasbench_only108.tfrecord")
SAMPLE = "nasbench101_subset/nb101_20001.parquet"
PERCENT = 100.0


def load_table(folder: Path | str | None = None) -> Table:
    """Return the table of all cells, from an official file.

    Columns are `108/val/0` (accuracy of run 0 in %), `108/test/0`, `108/seconds`, and `params`;
    with nasbench_full.tfrecord also for 4, 12 and 36 epochs. Reading the official file takes some
    minutes the first time.

    Args:
        folder: holds one of the official files; the full one is preferred.

    Raises:
        InvalidData: there is none, or it is damaged.
    """
    for name in OFFICIAL:
        try:
            file = find_file(name, folder)
        except InvalidData:
            continue
        arrays = dict(kept(file.stem, partial(read_official, file)))
        cells = Cells(*(arrays.pop(key).tolist() for key in ("hash", "upper", "operations")))
        return _as_table(cells, arrays, file.name)
    raise InvalidData(
        f"NAS-Bench-101 needs {' or '.join(OFFICIAL)}; fetch one with parti.tables.official.fetch, "
        "or give the folder that holds it"
    )


def load_sample(folder: Path | str | None = None) -> Table:
    """Return the table of 20,001 cells: `108/val/0` (in %), `108/seconds`, ..., and `params`.

    Args:
        folder: holds nasbench101_subset/nb101_20001.parquet.

    Raises:
        InvalidData: it is missing or broken, or pyarrow is missing.
    """
    return _sample(find_file(SAMPLE, folder))


def load_problem(name: str, folder: Path | str | None = None) -> Problem:
    """Return a problem by name: "nasbench101/cifar10", or "nasbench101/cifar10-20001".

    Raises:
        InvalidSettings: there is no such problem.
        InvalidData: its file is missing or damaged.
    """
    if name == "nasbench101/cifar10-20001":
        table = load_sample(folder)
        nearest = _nearest(table)
        table = replace(table, space=Sample(nearest), rows=nearest)
        return _problem(name, table, table.column(f"{FULL}/val/0"), "the same, after 108 epochs")
    if name == "nasbench101/cifar10":
        table = load_table(folder)
        tests = [column for key, column in table.columns.items() if key.startswith(f"{FULL}/test/")]
        truth: Column = np.mean(tests, axis=0)
        return _problem(name, table, truth, "mean test accuracy after 108 epochs (%)")
    raise InvalidSettings(
        f"no problem {name!r}; there are nasbench101/cifar10 and nasbench101/cifar10-20001"
    )


def read_official(file: Path) -> Arrays:
    """Read an official file: the columns of `load_table`, and hash, upper and operations.

    Raises:
        InvalidData: the file is missing or damaged, or is another one.
    """
    rows: dict[str, int] = {}
    cells: list[tuple[str, str, str, int]] = []
    runs: dict[int, list[tuple[int, float, float, float]]] = defaultdict(list)
    for training in read_trainings(file):
        row = rows.setdefault(training.cell, len(rows))
        if row == len(cells):
            upper = _above_diagonal(training.adjacency)
            cells.append((training.cell, upper, training.operations, training.parameters))
        measured = (row, training.validation, training.test, training.seconds)
        runs[training.epochs].append(measured)
    if not cells:
        raise InvalidData(f"{file} is empty; fetch it again")
    hashes, uppers, operations, parameters = zip(*cells, strict=True)
    arrays: dict[str, NDArray[Any]] = {
        "hash": np.array(hashes),
        "upper": np.array(uppers),
        "operations": np.array(operations),
        "params": np.array(parameters, dtype=np.float64),
    }
    for epochs, found in sorted(runs.items()):
        arrays.update(_runs(epochs, found, len(cells)))
    return arrays


def _runs(
    epochs: int, found: Sequence[tuple[int, float, float, float]], cells: int
) -> dict[str, Column]:
    """Columns of one fidelity: one per run, in the order of the file, and the mean time."""
    known = np.zeros(cells, dtype=int)
    seconds = np.zeros(cells)
    most = int(np.bincount([row for row, *_ in found]).max())
    columns = {
        f"{epochs}/{what}/{run}": np.full(cells, np.nan)
        for what in ("val", "test")
        for run in range(most)
    }
    for row, validation, test, time in found:
        columns[f"{epochs}/val/{known[row]}"][row] = PERCENT * validation
        columns[f"{epochs}/test/{known[row]}"][row] = PERCENT * test
        seconds[row] += time
        known[row] += 1
    return {**columns, f"{epochs}/seconds": seconds / np.maximum(known, 1)}


@lru_cache(maxsize=4)
def _sample(file: Path) -> Table:
    names = [name for name in column_names(file) if name.startswith("val_acc_")]
    time = f"train_time_s_{FULL}ep"
    read = read_columns(
        file, ["hash", "adjacency_upper", "ops", "trainable_parameters", time, *names]
    )
    inner = [f"input,{ops},output" if ops else "input,output" for ops in read["ops"]]
    columns: dict[str, Column] = {"params": read["trainable_parameters"]}
    for name in names:
        epochs = int(name.removeprefix("val_acc_").removesuffix("ep"))
        columns[f"{epochs}/val/0"] = PERCENT * read[name]
        columns[f"{epochs}/seconds"] = read[time] * (epochs / FULL)
    return _as_table(
        Cells(read["hash"].tolist(), read["adjacency_upper"].tolist(), inner), columns, file.name
    )


@lru_cache(maxsize=4)
def _nearest(table: Table) -> Nearest:
    assert isinstance(table.rows, Cells)
    return Nearest(table.rows)


def _as_table(cells: Cells, columns: Arrays, source: str) -> Table:
    return Table(
        name="NAS-Bench-101",
        space=nasbench101,
        rows=cells,
        columns=columns,
        source=source,
        licence="Apache-2.0",
        citation="Ying et al., NAS-Bench-101, ICML 2019",
    )


def _problem(name: str, table: Table, truth: Column, reported: str) -> Problem:
    epochs = sorted({int(key.partition("/")[0]) for key in table.columns if "/val/" in key})
    levels = {
        each: Level(
            {
                "val_accuracy": tuple(
                    column
                    for key, column in table.columns.items()
                    if key.startswith(f"{each}/val/")
                )
            },
            table.column(f"{each}/seconds"),
        )
        for each in epochs
    }
    several = len(epochs) > 1
    return Problem(
        name,
        table.space,
        (Objective("val_accuracy", "max"),),
        TableFacts(
            table, levels, {"val_accuracy": truth}, FULL, {"params": table.column("params")}
        ),
        fidelities=tuple(epochs) if several else (),
        default_fidelity=FULL if several else None,
        measured="validation accuracy of one run (%)",
        reported=reported,
    )


def _above_diagonal(digits: str) -> str:
    side = int(len(digits) ** 0.5)
    if side * side != len(digits):
        raise InvalidData(f"an adjacency matrix of {len(digits)} digits is not square")
    return "".join(digits[side * row + row + 1 : side * (row + 1)] for row in range(side))
