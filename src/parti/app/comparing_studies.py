"""`parti compare-studies`: finished studies side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from parti.app.options import Json, StoreUrl
from parti.app.running import DEFAULT_STORE, errors_explained, finished_study, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("compare-studies")(compare_studies)


def compare_studies(
    studies: Annotated[
        list[str], typer.Argument(help="Two or more finished studies.", metavar="STUDY...")
    ],
    store: StoreUrl = DEFAULT_STORE,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file.")] = None,
    json_: Json = False,
) -> None:
    """Set finished studies side by side.

    Settings, winners, whether these really differ, and how.
    """
    from parti.finding.side_by_side import side_by_side
    from parti.reports.side_by_side import write_side_by_side
    from parti.stores import open_store

    with errors_explained(json_):
        found = [finished_study(name, store) for name in studies]
        opened = open_store(store)
        compared = side_by_side([(one, opened.study(one.study)) for one in found])
        page = write_side_by_side(html, compared) if html is not None else None
        if json_:
            print_json(compared)
            return
        _show(compared)
        if page is not None:
            typer.echo(page.resolve())


def _show(compared: dict[str, object]) -> None:
    from parti.reports.side_by_side import compared_rows, sentences

    console = Console(highlight=False, markup=False)
    names = [str(study["study"]) for study in compared["studies"]]  # type: ignore[attr-defined]
    _print(console, "", names, compared_rows(compared))
    for name in ("settings", "decisions"):
        rows = compared[name]
        assert isinstance(rows, dict)
        if rows:
            title = f"{name.capitalize()} that differ"
            shown = [
                (str(k), ["–" if v is None else str(v) for v in row]) for k, row in rows.items()
            ]
            _print(console, title, names, shown)
    for text in sentences(compared):
        console.print(text, soft_wrap=True)


def _print(
    console: Console, title: str, names: list[str], rows: list[tuple[str, list[str]]]
) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), title=title or None, title_justify="left")
    table.add_column("", overflow="fold")
    for name in names:
        table.add_column(name, overflow="fold")
    for name, texts in rows:
        table.add_row(name, *texts)
    console.print(table)
    console.print()
