"""NAS-Bench-201 and what others have measured on its 15,625 cells.

Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search",
ICLR 2020 (accuracies, times). Li et al., "HW-NAS-Bench: Hardware-Aware Neural Architecture Search
Benchmark", ICLR 2021, and Lee et al., "Hardware-adaptive Efficient Latency Prediction for NAS via
Meta-Learning" (HELP), NeurIPS 2021 (latency and energy). Jung, Lukasik, Keuper, "Neural
Architecture Design and Robustness: A Dataset", ICLR 2023 (accuracy under attack). Krishnakumar et
al., "NAS-Bench-Suite-Zero", NeurIPS 2022 (training-free scores).

Names of problems, where DATASET is cifar10, cifar100 or imagenet16_120:

    nasbench201/DATASET                 validation accuracy of one run; fidelities 12 and 200 epochs
    nasbench201/DATASET-nats-12ep       the protocol of the papers: 12 epochs only
    nasbench201/DATASET+DEVICE          and small latency_ms: two objectives
    nasbench201/DATASET-within-DEVICE   latency_ms within the fastest quarter of all cells
    nasbench201/cifar10-ATTACK          robust_accuracy under an attack, such as pgd_linf_1.0
    nasbench201/cifar10-gdas            validation accuracy inherited from one supernet

What a search sees, and what is reported:

- Searching sees validation accuracy of one run. CIFAR-10 has the runs themselves. Of CIFAR-100 and
  ImageNet16-120 the table has each run on validation and test images together (half each), and the
  means over runs on either. There, run i is taken to be the validation mean plus the deviation of
  run i from the mean over runs. The deviations of an architecture's runs sum to zero, so they say
  nothing of its mean test accuracy, and no level comes from test images. The deviation on both
  halves together is somewhat smaller than on one half would be: the noise is understated, by at
  most a factor of the square root of 2.
- The truth is mean test accuracy over 2 or 3 runs of 200 epochs, in percent.
- Seconds are the benchmark's estimate for training alone, without validation. 12 and 200 epochs are
  separate trainings, each with its own schedule; so a promotion pays in full.
- Isomorphic cells have rows of their own, which differ by the luck of training, and for devices by
  operations that do nothing. Problems with latency take all of them for their canonical form, which
  is what one would deploy; else the true front would be of the luckiest of up to 275 trainings of
  one network, of which a search tries one. In the others, each cell has its own row; the best cells
  of the three data sets are isomorphic to no other.
- Accuracy under attack was measured once, on test images, of networks trained once: what is seen is
  what is reported. Likewise latency. The supernet problem sees the supernet's accuracy and reports
  the mean test accuracy of training alone; its seconds, one look, are unknown.
- Scores were measured on the 9,445 cells without dead operations, with initial weights and one
  batch. Other cells get the mean of those isomorphic to them, which 704 cells lack. There are
  none on CIFAR-100 images; its problems have those of CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from parti.core.errors import InvalidSettings
from parti.core.study import Constraint, Objective
from parti.evaluators.tabular import Level
from parti.spaces.nasbench201 import nasbench201
from parti.tables.facts import TableFacts
from parti.tables.nasbench201_columns import DATASETS, RUNS, load_table
from parti.tables.problem import Problem
from parti.tables.rows import OnePerForm
from parti.tables.table import Column, Lazy, Table

__all__ = ["DEVICES", "load_problem"]

DEVICES = ("edgegpu", "raspi4", "edgetpu", "pixel3", "eyeriss", "fpga")
"""The devices of HW-NAS-Bench, measured at the size of each data set; HELP has 27 settings more,
for CIFAR-10."""

SHORT, FULL = 12, 200
"""Epochs of the two schedules."""

FASTEST = 0.25
"""The share of all cells that a limit on latency lets pass."""

NATS, GDAS = "-nats-12ep", "-gdas"


def load_problem(name: str, folder: Path | str | None = None) -> Problem:
    """Return a problem on this table by name, as listed above.

    Raises:
        InvalidSettings: there is no such data set, device or attack.
        InvalidData: a file is missing or broken, or pyarrow is missing.
    """
    _, _, asked = name.partition("/")
    table = load_table(folder)
    if asked in DATASETS:
        return _plain(name, table, asked)
    if asked.removesuffix(NATS) in DATASETS:
        return _nats(name, table, asked.removesuffix(NATS))
    if asked == f"cifar10{GDAS}":
        return _gdas(name, table)
    for mark, make in _KINDS.items():
        dataset, found, detail = asked.partition(mark)
        if found and dataset in DATASETS:
            return make(name, table, dataset, detail)
    raise InvalidSettings(
        f"no problem {name!r}; nasbench201/ is followed by one of {', '.join(DATASETS)}, and then "
        "by nothing, -nats-12ep, +DEVICE, -within-DEVICE, -ATTACK or -gdas"
    )


# --- problems --------------------------------------------------------------------------------


def _plain(name: str, table: Table, dataset: str) -> Problem:
    return _problem(
        name,
        table,
        {SHORT: _short(table, dataset), FULL: _full(table, dataset)},
        {"val_accuracy": table.column(f"{dataset}_test")},
        dataset=dataset,
        measured="validation accuracy of one run (%)",
        reported="mean test accuracy after 200 epochs (%)",
    )


def _nats(name: str, table: Table, dataset: str) -> Problem:
    return _problem(
        name,
        table,
        {SHORT: _short(table, dataset)},
        {"val_accuracy": table.column(f"{dataset}_test")},
        dataset=dataset,
        measured="validation accuracy after 12 epochs (%)",
        reported="mean test accuracy after 200 epochs (%)",
    )


def _two(name: str, table: Table, dataset: str, device: str) -> Problem:
    plain, latency = _plain(name, table, dataset), _latency(table, dataset, device)
    return _with_latency(plain, latency, (Objective("latency_ms", "min"),), ())


def _within(name: str, table: Table, dataset: str, device: str) -> Problem:
    plain, latency = _plain(name, table, dataset), _latency(table, dataset, device)
    limit = float(f"{np.nanquantile(latency, FASTEST):.4g}")
    return _with_latency(plain, latency, (), (Constraint("latency_ms", at_most=limit),))


def _gdas(name: str, table: Table) -> Problem:
    last = max(
        (column for column in table.columns if column.startswith("gdas/")),
        key=lambda column: int(column.rpartition("_")[2]),
        default="gdas/gdas_epoch_250",
    )
    return _problem(
        name,
        table,
        {FULL: Level({"val_accuracy": (table.column(last),)})},
        {"val_accuracy": table.column("cifar10_test")},
        dataset="cifar10",
        measured="validation accuracy with weights of one GDAS supernet (%)",
        reported="mean test accuracy after 200 epochs alone (%)",
    )


def _attacked(name: str, table: Table, dataset: str, attack: str) -> Problem:
    robust = table.columns.get(f"robustness/{attack}")
    if dataset != "cifar10" or robust is None:
        known = [c.partition("/")[2] for c in table.columns if c.startswith("robustness/")]
        raise InvalidSettings(
            f"no problem {name!r}; attacks were measured on cifar10 and are {', '.join(known)}"
        )
    seconds = table.column("train_time_s_cifar10_val")
    return _problem(
        name,
        table,
        {FULL: Level({"robust_accuracy": (robust,)}, seconds)},
        {"robust_accuracy": robust},
        dataset=dataset,
        measured=f"accuracy under {attack} (%), measured once",
        reported="the same",
    )


_KINDS: dict[str, Callable[[str, Table, str, str], Problem]] = {
    "-within-": _within,
    "+": _two,
    "-": _attacked,
}
"""What a mark in a name asks for; the first that is found counts."""


def _problem(
    name: str,
    table: Table,
    levels: Mapping[int, Level],
    truth: Mapping[str, Column],
    *,
    dataset: str,
    measured: str,
    reported: str,
) -> Problem:
    several = len(levels) > 1
    return Problem(
        name,
        nasbench201,
        tuple(Objective(metric, "max") for metric in truth),
        TableFacts(table, levels, truth, max(levels), _scores(table, dataset)),
        fidelities=tuple(sorted(levels)) if several else (),
        default_fidelity=max(levels) if several else None,
        measured=measured,
        reported=reported,
    )


def _with_latency(
    plain: Problem,
    latency: Column,
    objectives: tuple[Objective, ...],
    constraints: tuple[Constraint, ...],
) -> Problem:
    facts = plain.facts
    assert isinstance(facts, TableFacts)
    levels = {
        fidelity: Level({**level.metrics, "latency_ms": (latency,)}, level.seconds)
        for fidelity, level in facts.levels.items()
    }
    rows = _one_per_form(facts.table)
    truth = {
        metric: np.where(rows.used, column, np.nan)
        for metric, column in {**facts.truth, "latency_ms": latency}.items()
    }
    table = replace(facts.table, rows=rows)
    return replace(
        plain,
        objectives=(*plain.objectives, *objectives),
        constraints=constraints,
        facts=replace(facts, table=table, levels=levels, truth=truth),
    )


@lru_cache(maxsize=4)
def _one_per_form(table: Table) -> OnePerForm:
    return OnePerForm(table.rows, table.space)


# --- columns ---------------------------------------------------------------------------------


def _short(table: Table, dataset: str) -> Level:
    seconds = table.column(_time(dataset)) * (SHORT / FULL)
    return Level({"val_accuracy": (table.column(f"{dataset}_val_12ep"),)}, seconds)


def _full(table: Table, dataset: str) -> Level:
    runs = tuple(table.column(f"runs/{dataset}/{run}") for run in RUNS)
    return Level({"val_accuracy": runs}, table.column(_time(dataset)))


def _time(dataset: str) -> str:
    return "train_time_s_cifar10_val" if dataset == "cifar10" else f"train_time_s_{dataset}"


def _latency(table: Table, dataset: str, device: str) -> Column:
    names = [f"hw/{DATASETS[dataset]}_{device}_latency"]
    if dataset == "cifar10":
        names.append(f"help/{device}")
    for name in names:
        if name in table.columns:
            return table.column(name)
    known = [*DEVICES, *(c.partition("/")[2] for c in table.columns if c.startswith("help/"))]
    raise InvalidSettings(
        f"no latency of {device!r} for {dataset}; devices are {', '.join(dict.fromkeys(known))} "
        f"(those beyond {DEVICES[-1]} for cifar10 only), as far as their files are there"
    )


def _scores(table: Table, dataset: str) -> Lazy:
    images = "imagenet16_120" if dataset == "imagenet16_120" else "cifar10"
    prefix = f"scores/{images}/"
    readers: dict[str, Callable[[], Column]] = {
        "params": partial(_millions, table, "params_m"),
        "macs": partial(_millions, table, f"flops_m_{images}"),
    }
    for name in table.columns:
        if name.startswith(prefix):
            readers[name.removeprefix(prefix)] = partial(table.column, name)
    return Lazy(readers)


def _millions(table: Table, name: str) -> Column:
    millions: Column = table.column(name) * 1e6
    return millions
