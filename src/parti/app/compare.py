"""`parti compare`: who finds the best architecture of a tabular benchmark soonest."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from parti.app.options import Json
from parti.app.running import INTERRUPTED, errors_explained, print_json

if TYPE_CHECKING:
    from parti.comparing.comparison import Comparison
    from parti.comparing.comparison import Progress as Done
    from parti.comparing.run import Settings
    from parti.comparing.standings import Standings

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(compare)


def compare(
    strategies: Annotated[
        list[str],
        typer.Argument(
            help="Names, NAME:key=value,..., FILE.py:NAME, or all.", metavar="STRATEGY..."
        ),
    ],
    on: Annotated[
        list[str] | None,
        typer.Option(help="A problem, as nasbench201/cifar10. Default: all whose tables are here."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each strategy on each problem.")] = 100,
    evaluations: Annotated[
        int | None,
        typer.Option(
            help="Most distinct architectures a run evaluates. Default 300, or no limit with "
            "--seconds."
        ),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Most virtual seconds of a run.")] = None,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Search the mean test accuracy itself, without noise.")
    ] = False,
    scores: Annotated[
        bool, typer.Option(help="Let strategies that want training-free scores have them.")
    ] = True,
    workers: Annotated[int, typer.Option(min=1, help="Runs that are made at the same time.")] = 1,
    tables: Annotated[
        Path | None, typer.Option(help="Folder of the tables. Default $PARTI_TABLES.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the leaderboard, charts, and finished runs.")
    ] = None,
    json_: Json = False,
) -> None:
    """Compare strategies on tabular benchmarks.

    Who finds the best architecture soonest? With --out, the same command goes on where it was
    stopped, and a new strategy adds its runs.
    """
    from parti.comparing.run import Settings as Conditions

    with errors_explained(json_):
        if evaluations is None and seconds is None:
            evaluations = 300
        conditions = Conditions(evaluations, seconds, oracle, scores)
        command = shlex.join(["parti", *sys.argv[1:]])
        try:
            result = _run(
                strategies, on, seeds, conditions, tables, out, workers, command, quiet=json_
            )
        except KeyboardInterrupt:
            kept = "the same command goes on" if out is not None else "nothing was kept; use --out"
            typer.echo(f"Stopped: {kept}.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        if json_:
            print_json(result)


def _run(
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
    console = Console(highlight=False, markup=False)
    if not quiet:
        _show(console, comparison, found)
    for run in comparison.failures[:5]:
        where = f"{run.contender} on {run.problem}, seed {run.seed}"
        errors = Console(stderr=True, highlight=False, markup=False)
        errors.print(f"parti: {where}: {run.error}", soft_wrap=True)
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
