"""The leaderboard: every strategy on the tables at hand, and on landscapes that need none.

    python -m benchmarks.bench_strategies              # in under 20 minutes: as many seeds as fit
    python -m benchmarks.bench_strategies --committed  # writes docs/leaderboard.md; an hour

Two comparisons: oracle mode, in which searches see the mean test accuracy itself, as in published
studies, and searching as it is, by one noisy run. Finished runs are kept, so that either can be
stopped and goes on. Tables are in $PARTI_TABLES, by default ../shared/data.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.tables import print_table
from parti.comparing import Comparison, Settings, compare, standings
from parti.comparing.comparison import Progress
from parti.comparing.standings import Standings
from parti.comparing.writing import BRIEF, cells, explanation, facts, to_markdown, to_svg
from parti.core.errors import InvalidData, PartiError
from parti.tables import load_problem

TABLES = Path(os.environ.get("PARTI_TABLES", "../shared/data"))
KEPT = Path("build/leaderboard")
DOCS = Path("docs")

MINUTES = 14.0
"""How long both comparisons may take together, unless seeds are given."""

FIRST_SEEDS = 1
"""So many seeds are run to see how long one takes."""

MARGIN = 0.85
"""Share of the time left that more seeds are planned for."""


@dataclass(frozen=True)
class Part:
    """One of the comparisons.

    Args:
        name: of its files.
        title: its heading.
        problems: in every leaderboard.
        more: in the committed one alone.
        settings: limits and mode.
        share: of the time left when it begins.
        seeds: in the committed leaderboard.
    """

    name: str
    title: str
    problems: tuple[str, ...]
    more: tuple[str, ...]
    settings: Settings
    share: float
    seeds: int


PARTS = (
    Part(
        "oracle",
        "Oracle mode",
        ("nasbench201/cifar10", "nasbench201/cifar100", "nasbench201/imagenet16_120"),
        (),
        Settings(evaluations=150, oracle=True),
        0.6,
        12,
    ),
    Part(
        "noisy",
        "Searching by one run",
        ("nasbench201/cifar10", "synthetic/conditional"),
        (
            "nasbench201/cifar10-pgd_linf_1.0",
            "nasbench201/cifar10-within-edgegpu",
            "nasbench201/cifar10+edgegpu",
            "synthetic/mixed",
        ),
        Settings(evaluations=150),
        1.0,
        3,
    ),
)


def here(names: tuple[str, ...]) -> list[str]:
    """The problems whose tables are at hand; the others are named and left out."""
    found = []
    for name in names:
        try:
            load_problem(name, TABLES)
        except InvalidData as error:
            print(f"left out: {name} ({error})")
            continue
        found.append(name)
    return found


def contenders(options: argparse.Namespace) -> list[str]:
    specs, missing = peers.contenders(slow=options.slow_peers)
    if missing:
        print(f"not installed, and left out: {', '.join(missing)}")
    return ["all", *(specs if options.peers or options.slow_peers else [])]


def run(part: Part, names: list[str], options: argparse.Namespace, minutes: float) -> Comparison:
    """As many seeds as are asked for, or as fit into the time."""
    began = time.monotonic()
    problems = here(part.problems + part.more if options.committed else part.problems)

    def upto(seeds: int) -> Comparison:
        return compare(
            names,
            problems,
            seeds=seeds,
            settings=part.settings,
            tables=TABLES,
            out=KEPT / part.name,
            workers=options.workers,
            watch=watch,
        )

    def watch(progress: Progress) -> None:
        if progress.done % 200 == 0 and progress.latest is not None:
            minutes_spent = (time.monotonic() - began) / 60
            print(f"  {part.name}: {progress.done} of {progress.total}, {minutes_spent:.1f} min")

    seeds = options.seeds or (part.seeds if options.committed else None)
    if seeds is not None:
        return upto(seeds)
    first = upto(FIRST_SEEDS)
    spent = (time.monotonic() - began) / 60
    more = int(MARGIN * (minutes - spent) / (spent / FIRST_SEEDS))
    return upto(FIRST_SEEDS + more) if more > 0 else first


def show(part: Part, comparison: Comparison, found: Standings) -> None:
    print(f"\n{part.title}\n")
    for problem in found.problems:
        print(f"{problem.problem}. {' '.join(facts(problem))}")
        rows = [cells(row, comparison, problem) for row in problem.rows]
        print_table(BRIEF, [[row[head] for head in BRIEF] for row in rows])
        for label, reason in problem.unfit:
            print(f"left out: {label} ({reason})")
        print()
    ranks = [(r.contender, f"{r.mean:.2f}", f"{r.low:.2f} - {r.high:.2f}") for r in found.ranks]
    print_table(("all problems", "mean rank", "95 %"), ranks)
    print(f"\n{explanation(comparison)}")


def write(told: list[tuple[Part, Comparison, Standings]], command: str) -> None:
    """Write docs/leaderboard.md and its charts."""
    pages = [
        "# Leaderboard",
        "",
        (
            "Every strategy with its authors' hyper-parameters. Machines and other programs change "
            "the times per ask, nothing else."
        ),
        "",
    ]
    (DOCS / "images").mkdir(parents=True, exist_ok=True)
    for part, comparison, found in told:
        image = f"images/leaderboard-{part.name}.svg"
        chart = to_svg(found, "evaluations")
        if chart is not None:
            (DOCS / image).write_text(chart)
        address = None if chart is None else image
        pages.append(to_markdown(comparison, found, command, address, title=part.title, level=2))
    (DOCS / "leaderboard.md").write_text("\n".join(pages))
    print(f"written: {DOCS / 'leaderboard.md'}")


def main(argv: list[str]) -> list[tuple[str, float]]:
    parser = argparse.ArgumentParser(description="Compare every strategy.")
    parser.add_argument("--quick", action="store_true", help="random and evolution, 3 seeds")
    parser.add_argument(
        "--committed", action="store_true", help="more seeds and problems; write the docs"
    )
    parser.add_argument("--seeds", type=int, help="instead of as many as fit into the time")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--peers", action="store_true", help="with those that are installed")
    parser.add_argument("--slow-peers", action="store_true", help="with the slow ones too")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(argv)
    names = contenders(options)
    if options.quick:
        names, options.seeds = ["random", "evolution"], 3
    began = time.monotonic()
    told = []
    for part in PARTS:
        minutes = part.share * (options.minutes - (time.monotonic() - began) / 60)
        try:
            comparison = run(part, names, options, minutes)
        except PartiError as error:
            print(f"left out: {part.title} ({error})")
            continue
        found = standings(comparison)
        show(part, comparison, found)
        told.append((part, comparison, found))
    if options.committed:
        write(told, "make leaderboard")
    return [(f"{p.name}: {r.contender}", r.mean) for p, _, found in told for r in found.ranks]


if __name__ == "__main__":
    main(sys.argv[1:])
