"""The commands that use a model: `export` takes it elsewhere, `predict` does as its predict.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parti.app.options import Json, StoreUrl, StudyName
from parti.app.running import DEFAULT_STORE, errors_explained, finished_study
from parti.core.errors import InvalidData

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
    """Copy the model of a study, perhaps in other formats.

    The study must be finished. With the model come its card and a standalone predict.py.
    """
    from parti.deploy.again import export_again

    with errors_explained(False):
        found = finished_study(study, store)
        for file in export_again(found.folder / "model", folder or Path(f"{study}-model"), to):
            typer.echo(file)


def predict(
    study: StudyName,
    images: Annotated[
        list[Path], typer.Argument(help="Images, folders of images, or .npy arrays.")
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes to show for each.")] = 1,
    store: StoreUrl = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Classify images with the model of a finished study."""
    from parti.deploy.predict_template import Model, PredictError, show

    with errors_explained(json_):
        found = finished_study(study, store)
        try:
            model = Model(found.folder / "model")
            changed = show(model, list(map(str, images)), top, json_)
        except PredictError as error:
            raise InvalidData(str(error)) from error
        if changed:
            typer.echo(f"parti: as in training, {'; '.join(changed)}", err=True)
