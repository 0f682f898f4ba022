"""`parti compress`: the winner of a finished study made smaller and faster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from parti.app.options import AtLeast, AtMost, Json, StoreUrl, StudyName
from parti.app.running import (
    DEFAULT_STORE,
    INTERRUPTED,
    errors_explained,
    finished_study,
    limits,
    print_json,
)
from parti.core.memory import keep_freed_memory

__all__ = ["compress_and_show", "register"]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(compress)


def compress(
    study: StudyName,
    steps: Annotated[
        str, typer.Option(help="Some of prune, distill, fold, int8, with commas, in this order.")
    ] = "prune,distill,fold,int8",
    drop: Annotated[
        float,
        typer.Option(min=0, max=1, help="Validation accuracy that may be lost: 0.01 is a point."),
    ] = 0.01,
    budget: Annotated[str | None, typer.Option(help="Time for everything: 90s, 10m, 2h.")] = None,
    max_: AtMost = None,
    min_: AtLeast = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the model. Default: in the study's folder.")
    ] = None,
    store: StoreUrl = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Make the winner of a STUDY smaller and faster.

    The study must be finished. A step that does not pay is undone. Opens the test split once more.
    The same command goes on where it was stopped.
    """
    from parti.finding.settings import parse_duration

    with errors_explained(json_):
        finished_study(study, store)
        asked: dict[str, Any] = {
            "steps": [step.strip() for step in steps.split(",")],
            "max_accuracy_drop": drop,
            "seconds": parse_duration(budget) if budget is not None else None,
            "at_most": limits("--max", max_),
            "at_least": limits("--min", min_),
            "out": out,
        }
        compress_and_show(study, store=store, json_=json_, **asked)


def compress_and_show(study: str, *, store: str, json_: bool, **asked: Any) -> dict[str, Any]:
    """Compress the winner of a study and print what came of it.

    Args:
        study: its name; it is finished.
        store: URL of the store.
        json_: whether to print one JSON object.
        asked: as for `parti.finding.compressing.compress_study`.

    Returns:
        What compression.json holds.

    Raises:
        PartiError: something is wrong with what is asked, or nothing keeps to the limits.
        Exit: it was stopped by the user.
    """
    from parti.finding.compressing import compress_study

    keep_freed_memory()
    try:
        found = compress_study(
            study, store=store, watch=lambda line: typer.echo(f"  {line}", err=True), **asked
        )
    except KeyboardInterrupt:
        typer.echo("Stopped. Nothing is lost; the same command goes on.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if json_:
        print_json(found)
    else:
        show(found)
    return found


def show(found: Mapping[str, Any]) -> None:
    """Print the versions and the steps as tables.

    Args:
        found: what compression.json holds.
    """
    table = Table(title=f"{found['study']}: compression")
    for column in ("version", "val accuracy", "params", "MACs", "KiB", "latency ms"):
        table.add_column(column, justify="left" if column == "version" else "right")
    for version in found["versions"]:
        table.add_row(
            version["name"],
            f"{version['val_accuracy']:.4f}",
            f"{version['params']:,.0f}",
            f"{version['macs']:,.0f}",
            f"{version['bytes'] / 1024:,.1f}",
            f"{version['latency_ms']:.3f}",
        )
    console = Console(highlight=False, markup=False)
    console.print(table)
    for step in found["steps"]:
        kept = "kept" if step["kept"] else "undone"
        said = f"{step['name']}: {kept} after {step['seconds']:.0f} s; {step['why']}"
        console.print(said, soft_wrap=True)
    before, after = (found[name]["test_accuracy"] for name in ("source", "final"))
    console.print(
        f"Test accuracy {before:.4f} -> {after:.4f} on {found['test_images']} images "
        f"(the test split has been opened {found['test_openings']} times)"
    )
    console.print(f"Model: {found['model']}", soft_wrap=True)
