"""`parti`: the command line. Commands parse and show; the work is done in `parti.finding`."""

from __future__ import annotations

import signal
from typing import Annotated, NoReturn

import typer

from parti import __version__
from parti.app import (
    compare,
    comparing_studies,
    compressing,
    device,
    measuring,
    models,
    searching,
    serving,
    studies,
)

app = typer.Typer(
    name="parti",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


for commands in (
    searching,
    studies,
    models,
    measuring,
    compressing,
    serving,
    comparing_studies,
    device,
    compare,
):
    commands.register(app)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"parti {__version__}")
        raise typer.Exit


@app.callback()
def _parti(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Neural architecture search on your data, for your device, within your limits."""


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
