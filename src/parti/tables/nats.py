"""NATS-Bench from its official archives: topology and size of networks.

Dong, Liu, Musial and Gabrys, "NATS-Bench: Benchmarking NAS Algorithms for Architecture Topology and
Size", IEEE TPAMI 2021. `NATS-tss-v1_0-3ffb9-simple` and `NATS-sss-v1_0-50262-simple` are folders
with `meta.pickle.pbz2` (the architectures in order) and one file per architecture, which holds, for
each schedule and data set, what every run measured in every epoch. They are read without executing
code, which takes some minutes the first time.

    nats/topology-DATASET, nats/size-DATASET                validation accuracy of one run
    nats/topology-DATASET-12ep, nats/size-DATASET-12ep      after 12 epochs only

where DATASET is cifar10, cifar100 or imagenet16_120. Fidelities are the schedules: 12 and 200
epochs for topology, 1, 12 and 90 for size; each is a training of its own. The truth is mean test
accuracy of the longest. As in the papers, CIFAR-10 is searched by training on half of the training
images, and reported by training on all of them. Seconds are those of training and one validation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from parti.core.architecture import Architecture
from parti.core.errors import InvalidData, InvalidSettings
from parti.core.program import Program
from parti.core.study import Objective
from parti.evaluators.tabular import Level
from parti.spaces import nasbench201, nats_size
from parti.tables.compact import Arrays, kept
from parti.tables.facts import TableFacts
from parti.tables.places import find_folder
from parti.tables.problem import Problem
from parti.tables.rows import Grid
from parti.tables.table import Column, Lazy, Table
from parti.tables.unpickling import read_pickle

__all__ = ["load_problem", "load_table", "read_archive"]

MOST_RUNS = 3


@dataclass(frozen=True, slots=True)
class Part:
    """One of the two parts of the benchmark.

    Args:
        archive: the name of its folder, which holds version and checksum.
        space: what was measured.
        read: reads an architecture as the benchmark writes it.
        schedules: how the benchmark calls them, and their epochs.
    """

    archive: str
    space: Program
    read: Callable[[str], Architecture]
    schedules: Mapping[str, int]


PARTS = {
    "topology": Part(
        "NATS-tss-v1_0-3ffb9-simple",
        nasbench201.nasbench201,
        nasbench201.from_string,
        {"12": 12, "200": 200},
    ),
    "size": Part(
        "NATS-sss-v1_0-50262-simple",
        nats_size.nats_size,
        nats_size.from_string,
        {"01": 1, "12": 12, "90": 90},
    ),
}

DATASETS = {
    "cifar10": (("cifar10-valid", "x-valid"), ("cifar10", "ori-test")),
    "cifar100": (("cifar100", "x-valid"), ("cifar100", "x-test")),
    "imagenet16_120": (("ImageNet16-120", "x-valid"), ("ImageNet16-120", "x-test")),
}
"""Which trainings and which images give validation and test accuracy."""


def load_table(part: str, folder: Path | str | None = None) -> Table:
    """Return the table of one part: "topology" or "size".

    Columns are `200/cifar10/val/0` (accuracy of run 0 in %), `200/cifar10/test/0`,
    `200/cifar10/seconds`, and `params`, `macs`, `latency_ms` (batch of 256) per data set.

    Args:
        part: which.
        folder: holds the archive's folder.

    Raises:
        InvalidSettings: there is no such part.
        InvalidData: the archive is missing, not complete, or damaged.
    """
    if part not in PARTS:
        raise InvalidSettings(f"NATS-Bench has no part {part!r}; it has {', '.join(PARTS)}")
    return _table(part, None if folder is None else Path(folder))


def load_problem(name: str, folder: Path | str | None = None) -> Problem:
    """Return a problem by name, as listed above.

    Raises:
        InvalidSettings: there is no such part or data set.
        InvalidData: the archive is missing, not complete, or damaged.
    """
    asked = name.removeprefix("nats/")
    part, _, dataset = asked.removesuffix("-12ep").partition("-")
    if part not in PARTS or dataset not in DATASETS:
        raise InvalidSettings(
            f"no problem {name!r}; it is nats/PART-DATASET or nats/PART-DATASET-12ep with a part "
            f"of {', '.join(PARTS)} and a data set of {', '.join(DATASETS)}"
        )
    table, schedules = load_table(part, folder), PARTS[part].schedules
    levels = {epochs: _level(table, key, dataset) for key, epochs in schedules.items()}
    last = max(schedules, key=lambda key: schedules[key])
    tests = np.stack([table.column(f"{last}/{dataset}/test/{run}") for run in range(MOST_RUNS)])
    if asked.endswith("-12ep"):
        levels = {12: levels[12]}
    several = len(levels) > 1
    return Problem(
        name,
        table.space,
        (Objective("val_accuracy", "max"),),
        TableFacts(
            table,
            levels,
            {"val_accuracy": _mean(tests)},
            max(levels),
            Lazy({key: partial(table.column, f"{key}/{dataset}") for key in ("params", "macs")}),
        ),
        fidelities=tuple(sorted(levels)) if several else (),
        default_fidelity=max(levels) if several else None,
        measured=f"validation accuracy of one run after {max(levels)} epochs (%)",
        reported=f"mean test accuracy after {schedules[last]} epochs (%)",
    )


def read_archive(folder: Path, schedules: Sequence[str]) -> Arrays:
    """Read all files of an archive.

    Args:
        folder: the archive, unpacked.
        schedules: as the benchmark calls them ("12", "200").

    Returns:
        Columns as in `load_table`, and "architectures", as the benchmark writes them.

    Raises:
        InvalidData: a file is missing or damaged, or is about another architecture.
    """
    meta = read_pickle(folder / "meta.pickle.pbz2")
    if not isinstance(meta, dict) or "meta_archs" not in meta:
        raise InvalidData(f"{folder}/meta.pickle.pbz2 is not that of NATS-Bench")
    names = [str(name) for name in meta["meta_archs"]]
    rows = []
    for number, name in enumerate(names):
        file = folder / f"{number:06d}.pickle.pbz2"
        held = read_pickle(file)
        try:
            rows.append(_row(held, name, schedules))
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise InvalidData(f"{file} lacks {error!r}; is it of this archive?") from error
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = {key: np.array([row.get(key, np.nan) for row in rows]) for key in keys}
    return {"architectures": np.array(names), **columns}


def _row(held: Any, name: str, schedules: Sequence[str]) -> dict[str, float]:
    """What one file says of one architecture."""
    row: dict[str, float] = {}
    for schedule in schedules:
        results = held[schedule]["all_results"]
        if held[schedule]["arch_str"] != name:
            raise KeyError(name)
        for dataset, (seen, reported) in DATASETS.items():
            for what, (trained, images) in (("val", seen), ("test", reported)):
                runs = [results[key] for key in sorted(results) if key[0] == trained]
                for number, run in enumerate(runs[:MOST_RUNS]):
                    accuracy = run["eval_acc1es"][f"{images}@{run['epochs'] - 1}"]
                    row[f"{schedule}/{dataset}/{what}/{number}"] = float(accuracy)
                if what == "val":
                    row[f"{schedule}/{dataset}/seconds"] = _seconds(runs[0], images)
                    row[f"params/{dataset}"] = float(runs[0]["params"]) * 1e6
                    row[f"macs/{dataset}"] = float(runs[0]["flop"]) * 1e6
                    latencies = [t for run in runs for t in run["latency"] or () if t > 0]
                    if latencies:
                        row[f"latency_ms/{dataset}"] = 1e3 * sum(latencies) / len(latencies)
    return row


def _seconds(run: Mapping[str, Any], images: str) -> float:
    """Time of all epochs of training and one validation; NaN where it was not recorded."""
    if not run["train_times"]:
        return float("nan")
    validating = (run["eval_times"] or {}).get(f"{images}@{run['epochs'] - 1}", 0.0)
    return float(sum(run["train_times"].values()) + validating)


@lru_cache(maxsize=4)
def _table(name: str, folder: Path | None) -> Table:
    part = PARTS[name]

    def read() -> Arrays:
        return read_archive(find_folder(part.archive, folder), tuple(part.schedules))

    arrays = dict(kept(part.archive, read))
    members = [tuple(part.read(str(text)).values()) for text in arrays.pop("architectures")]
    for schedule in part.schedules:
        for dataset in DATASETS:
            for what in ("val", "test"):
                for run in range(MOST_RUNS):
                    column = np.full(len(members), np.nan)
                    arrays.setdefault(f"{schedule}/{dataset}/{what}/{run}", column)
    tree = part.space.tree
    assert tree is not None
    return Table(
        name=f"NATS-Bench ({name})",
        space=part.space,
        rows=Grid(list(tree.choices.values()), members, f"NATS-Bench ({name})"),
        columns=arrays,
        source=part.archive,
        licence="MIT",
        citation="Dong et al., NATS-Bench, TPAMI 2021",
    )


def _level(table: Table, schedule: str, dataset: str) -> Level:
    runs = tuple(table.column(f"{schedule}/{dataset}/val/{run}") for run in range(MOST_RUNS))
    return Level({"val_accuracy": runs}, table.column(f"{schedule}/{dataset}/seconds"))


def _mean(runs: Column) -> Column:
    """Mean over those runs that exist."""
    there = ~np.isnan(runs)
    total: Column = np.where(there, runs, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    return np.where(there.any(axis=0), total, np.nan)
