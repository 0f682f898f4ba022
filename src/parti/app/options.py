"""Options and arguments that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Json", "StoreUrl", "StudyName", "Workers"]

StoreUrl = Annotated[
    str, typer.Option("--store", help="Where studies are kept, as a URL.", metavar="URL")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
StudyName = Annotated[str, typer.Argument(help="Name of the study.", metavar="STUDY")]
Workers = Annotated[int, typer.Option(min=1, help="Trials that are trained at the same time.")]
