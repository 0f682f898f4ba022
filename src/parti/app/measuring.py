"""`parti measure`: a study's model on every runtime that is here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from parti.app.options import Json, StoreUrl, StudyName
from parti.app.running import DEFAULT_STORE, errors_explained, finished_study, print_json

__all__ = ["register"]

MIB, KIB = 2**20, 2**10


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(measure)


def measure(
    study: StudyName,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="onnxruntime, openvino, executorch, torch, torch_compiled; repeat for several. "
            "Default: all that are installed."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per call, for latency.")] = 1,
    throughput_batch: Annotated[
        int, typer.Option(min=1, help="Images per call, for images per second.")
    ] = 64,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each runtime.")] = 1,
    memory: Annotated[bool, typer.Option(help="Measure memory, some seconds each.")] = True,
    store: StoreUrl = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Measure a model's speed, memory and size.

    On each runtime and in each precision that is here: the model of a finished study, and what each
    step of parti compress made of it. All are timed in turn.
    """
    from parti.finding.measured import measure_study

    with errors_explained(json_):
        found = finished_study(study, store)
        measured = measure_study(
            found,
            runtimes=tuple(runtime or ()),
            batch=batch,
            throughput_batch=throughput_batch,
            threads=threads,
            memory=memory,
        )
        if json_:
            print_json(measured)
            return
        _show(measured)


def _show(measured: Mapping[str, Any]) -> None:
    console = Console(highlight=False, markup=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    exposed = any(row["joules_per_image"] is not None for row in measured["rows"])
    for name in ("version", "val %", "runtime", "precision"):
        table.add_column(name, no_wrap=True)
    for name in ("ms", "images/s", "KiB", "MiB", *(["mJ/image"] if exposed else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for row in measured["rows"]:
        accuracy, memory, joules = (
            row[name] for name in ("val_accuracy", "memory_bytes", "joules_per_image")
        )
        table.add_row(
            row["version"],
            "–" if accuracy is None else f"{100 * accuracy:.2f}",
            row["runtime"],
            row["precision"],
            f"{row['latency_ms']:.3f}",
            f"{row['images_per_second']:,.0f}",
            f"{row['file_bytes'] / KIB:,.0f}",
            "–" if memory is None else f"{memory / MIB:.0f}",
            *([f"{1e3 * joules:.2f}" if joules is not None else "–"] if exposed else []),
        )
    console.print(table)
    first = measured["rows"][0]
    for name, text in (
        ("ms", first["latency_conditions"]),
        ("images/s", first["throughput_conditions"]),
        ("KiB", "the file that the runtime opens; of a network in PyTorch, its weights"),
        ("MiB", measured["memory"]),
        ("energy", measured["energy"]),
    ):
        console.print(f"{name:>10}  {text}", soft_wrap=True)
    for entry in measured["left_out"]:
        console.print(
            f"  left out  {entry['runtime']}, {entry['precision']}: {entry['why']}", soft_wrap=True
        )
