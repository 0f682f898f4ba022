"""The commands that use a model: `export` takes it elsewhere, `predict` does as its owner will."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from parti.app.options import Json, StoreUrl, StudyName
from parti.app.running import DEFAULT_STORE, errors_explained, finished_study

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(export)
    app.command()(predict)


def export(
    study: StudyName,
    to: Annotated[
        list[str] | None,
        typer.Option(
            help="onnx, safetensors, torch_export, pytorch, onnx_static, openvino, executorch, "
            "triton; several with commas. Default: those that the search wrote."
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder to make. Default: STUDY-model.")
    ] = None,
    store: StoreUrl = DEFAULT_STORE,
) -> None:
    """Copy the trained model of a finished study, with its card and a standalone predict.py."""
    from parti.deploy.again import export_again

    with errors_explained(False):
        found = finished_study(study, store)
        for file in export_again(found.folder / "model", folder or Path(f"{study}-model"), to):
            typer.echo(file)


def predict(
    study: StudyName,
    images: Annotated[list[Path], typer.Argument(help="Images, or .npy arrays.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to show for each.")] = 1,
    store: StoreUrl = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Classify images with the exported model of a finished study."""
    with errors_explained(json_):
        found = finished_study(study, store)
        raise typer.Exit(_predict(found.folder / "model", images, top, json_))


def _predict(model: Path, images: Sequence[Path], top: int, json_: bool) -> int:
    """Run the model's own predict.py and return its exit code."""
    command = [sys.executable, str(model / "predict.py"), *map(str, images), "--top", str(top)]
    return subprocess.run([*command, *(["--json"] if json_ else [])], check=False).returncode  # noqa: S603
