"""`parti compare`: who finds the best architecture of a tabular benchmark soonest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from parti.comparing.comparison import Comparison
    from parti.comparing.comparison import Progress as Done
    from parti.comparing.run import Settings
    from parti.comparing.standings import Standings

__all__ = ["run_comparison"]


def run_comparison(
    strategies: list[str],
    problems: list[str] | None,
    seeds: int,
    settings: Settings,
    tables: Path | None,
    out: Path | None,
    workers: int,
    command: str,
    *,
    quiet: bool,
) -> dict[str, Any]:
    """Compare, print the tables unless quiet, and write the files.

    Args:
        strategies: as typed.
        problems: names; None for all whose tables are there.
        seeds: runs of each strategy on each problem.
        settings: limits and mode.
        tables: the folder of the tables.
        out: the folder to write to; None to print alone.
        workers: runs at the same time.
        command: what was typed.
        quiet: print no tables.

    Returns:
        What `--json` prints.
    """
    from parti.comparing.comparison import compare
    from parti.comparing.standings import standings
    from parti.comparing.writing import to_json, write_comparison
    from parti.tables import available

    with _progress() as watch:
        comparison = compare(
            strategies,
            problems or available(tables),
            seeds=seeds,
            settings=settings,
            tables=tables,
            out=out,
            workers=workers,
            watch=watch,
        )
    found = standings(comparison)
    console = Console(highlight=False)
    if not quiet:
        _show(console, comparison, found)
    for run in comparison.failures[:5]:
        where = f"{run.contender} on {run.problem}, seed {run.seed}"
        Console(stderr=True, highlight=False).print(f"parti: {where}: {run.error}", soft_wrap=True)
    files = write_comparison(out, comparison, found, command) if out is not None else []
    if not quiet:
        for file in files:
            console.print(str(file), soft_wrap=True)
    return to_json(comparison, found)


def _show(console: Console, comparison: Comparison, found: Standings) -> None:
    from parti.comparing.writing import BRIEF, cells, explanation, facts

    for problem in found.problems:
        table = Table(box=None, padding=(0, 2, 0, 0), title=problem.problem, title_justify="left")
        for place, column in enumerate(BRIEF):
            table.add_column(column, justify="right" if place else "left", overflow="fold")
        for row in problem.rows:
            said = cells(row, comparison, problem)
            table.add_row(*(said[head] for head in BRIEF))
        console.print(table)
        console.print(" ".join(facts(problem)), style="dim")
        for label, reason in problem.unfit:
            console.print(f"left out: {label} ({reason})", style="dim")
        console.print()
    if len(found.problems) > 1 and found.ranks:
        table = Table(box=None, padding=(0, 2, 0, 0), title="All problems", title_justify="left")
        for place, column in enumerate(("strategy", "mean rank", "95 %")):
            table.add_column(column, justify="right" if place else "left")
        for rank in found.ranks:
            table.add_row(rank.contender, f"{rank.mean:.2f}", f"{rank.low:.2f} – {rank.high:.2f}")
        console.print(table)
    console.print(explanation(comparison), style="dim")


@contextmanager
def _progress() -> Iterator[Any]:
    """Show a bar on the error stream, where that is a terminal."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("runs", total=None)

        def watch(done: Done) -> None:
            known = f" ({done.known} were known)" if done.known else ""
            bar.update(task, completed=done.done, total=done.total, description=f"runs{known}")

        yield watch
