"""Options and arguments that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AtLeast", "AtMost", "Json", "StoreUrl", "StudyName", "Workers"]

AtMost = Annotated[
    list[str] | None,
    typer.Option("--max", help="A limit: params=300k, latency_ms=5.", metavar="METRIC=VALUE"),
]
AtLeast = Annotated[
    list[str] | None,
    typer.Option("--min", help="A lower limit: val_accuracy=0.9.", metavar="METRIC=VALUE"),
]

StoreUrl = Annotated[
    str, typer.Option("--store", help="Where studies are kept, as a URL.", metavar="URL")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
StudyName = Annotated[str, typer.Argument(help="Name of the study.", metavar="STUDY")]
Workers = Annotated[int, typer.Option(min=1, help="Trials that are trained at the same time.")]
