"""The commands that show studies: `status` and `report`."""

from __future__ import annotations

from typing import Annotated

import typer

from parti.app.options import Json, StoreUrl, StudyName
from parti.app.running import (
    DEFAULT_STORE,
    errors_explained,
    names_of_studies,
    open_kept,
    print_json,
)

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(status)
    app.command()(report)


def status(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]")] = None,
    store: StoreUrl = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Show how far a study is, or list all studies."""
    from parti.app.show import status_of, table_of_studies

    with errors_explained(json_):
        opened = open_kept(store, study)
        names = [study] if study else names_of_studies(opened)
        rows = [status_of(opened, name, store) for name in names]
        if json_:
            print_json({"studies": rows} if study is None else rows[0])
        else:
            table_of_studies(rows)


def report(
    study: StudyName,
    store: StoreUrl = DEFAULT_STORE,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the report of a study, and print where it is.

    The study need not be finished.
    """
    from parti.app.show import partial_result
    from parti.finding import finished
    from parti.finding.compressing import with_compression
    from parti.finding.files import study_folder
    from parti.reports import write_report

    with errors_explained(False):
        opened = open_kept(store, study)
        folder = study_folder(store, study)
        found = finished(folder, opened, study)
        trials, _ = opened.trials(study)
        asked = opened.study(study)
        if found:
            result = with_compression(found.to_dict(), folder)
        else:
            result = partial_result(opened, asked, trials, folder)
        page = write_report(folder / "report.html", result, asked, trials).resolve()
        typer.echo(page)
        if open_:
            typer.launch(page.as_uri())
