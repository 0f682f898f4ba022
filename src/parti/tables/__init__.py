"""Tabular benchmarks: what others have measured, as problems to compare strategies on.

    problem = load_problem("nasbench201/cifar10", folder="../shared/data")
    study = problem.study(seed=0, trials=100)
    trials = search(study, RandomSearch(problem.space, study), problem.evaluator(seed=0))
    problem.regret(best(study, trials).architecture)

Files are looked for in the folder that is given, else in $PARTI_TABLES, else in parti's cache.
Problems named "synthetic/..." need no file.
"""

from __future__ import annotations

from pathlib import Path

from parti.core.errors import InvalidData, InvalidSettings
from parti.core.plugins import load
from parti.tables.problem import Problem

__all__ = ["FAMILIES", "PROBLEMS", "available", "load_problem"]

FAMILIES = {
    "nasbench101": "parti.tables.nasbench101:load_problem",
    "nasbench201": "parti.tables.nasbench201:load_problem",
    "nats": "parti.tables.nats:load_problem",
    "synthetic": "parti.tables.synthetic:load_problem",
}
"""Where the problems of a family are made; the part of a name before its first slash is it."""

_DATASETS = ("cifar10", "cifar100", "imagenet16_120")

_NAMES = (
    *(f"nasbench201/{dataset}" for dataset in _DATASETS),
    *(f"nasbench201/{dataset}-nats-12ep" for dataset in _DATASETS),
    "nasbench201/cifar10-gdas",
    "nasbench201/cifar10-pgd_linf_1.0",
    "nasbench201/cifar10-aa_square_linf_1.0",
    "nasbench201/cifar10+edgegpu",
    "nasbench201/cifar10+pixel3",
    "nasbench201/cifar10+titan_rtx_256",
    "nasbench201/cifar100+raspi4",
    "nasbench201/imagenet16_120+eyeriss",
    "nasbench201/cifar10+edgetpu",
    "nasbench201/cifar10-within-edgegpu",
    "nasbench201/cifar100-within-raspi4",
    "nasbench201/imagenet16_120-within-fpga",
    "nasbench101/cifar10-20001",
    "nasbench101/cifar10",
    *(f"nats/topology-{dataset}" for dataset in _DATASETS),
    *(f"nats/size-{dataset}" for dataset in _DATASETS),
    "synthetic/chain",
    "synthetic/conditional",
    "synthetic/mixed",
    "synthetic/recursive",
    "synthetic/rugged",
    "synthetic/wide",
    "synthetic/fronts",
    "synthetic/limited",
)

PROBLEMS = {name: FAMILIES[name.partition("/")[0]] for name in _NAMES}
"""The problems that comparisons choose from, and what makes them.

A family knows more than these: "nasbench201/DATASET+DEVICE" with any device, say.
"""


def load_problem(name: str, folder: Path | str | None = None) -> Problem:
    """Return a problem by name.

    Args:
        name: as in `PROBLEMS`, or any other that its family knows; or your own as
            "package.module:function", where the function takes name and folder.
        folder: where the files of tables are; by default $PARTI_TABLES and parti's cache.

    Raises:
        InvalidSettings: there is no such problem; the message lists those there are.
        InvalidData: a file is missing or broken, or pyarrow is missing.
    """
    family = name if ":" in name else name.partition("/")[0]
    made = load("problem", family, FAMILIES)(name, folder)
    if not isinstance(made, Problem):
        raise InvalidSettings(f"problem {name!r} is a {type(made).__name__}, not a Problem")
    return made


def available(folder: Path | str | None = None) -> list[str]:
    """Names of the problems whose files are in a folder.

    Args:
        folder: where the files of tables are; by default $PARTI_TABLES and parti's cache.
    """
    found = []
    for name in PROBLEMS:
        try:
            load_problem(name, folder)
        except InvalidData:
            continue
        found.append(name)
    return found
