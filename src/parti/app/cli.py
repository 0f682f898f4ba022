"""`parti`: the command line. Commands parse and show; the work is done in `parti.finding`."""

from __future__ import annotations

import signal
from typing import NoReturn

import typer

from parti.app import (
    compare,
    comparing_studies,
    compressing,
    device,
    models,
    searching,
    serving,
    studies,
)

app = typer.Typer(
    name="parti",
    help="Neural architecture search on your data, for your device, within your limits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


for commands in (
    searching,
    studies,
    models,
    compressing,
    serving,
    comparing_studies,
    device,
    compare,
):
    commands.register(app)


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
