"""`parti serve`: a study's model behind HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from parti.app.options import StoreUrl
from parti.app.running import (
    DEFAULT_STORE,
    errors_explained,
    finished_study,
    open_kept,
    print_json,
)
from parti.core.errors import InvalidSettings, StoreError

__all__ = ["register", "serve_folder"]

BODIES = 16
"""The largest bodies that fit into what all requests together may hold."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(serve)


def serve(
    model_of: Annotated[
        str,
        typer.Argument(help="A finished study, or an exported folder.", metavar="STUDY|FOLDER"),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="ONNX file, in the folder or a path. Default: model.onnx.", metavar="FILE"
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; all but this machine's own need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes one that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="PARTI_TOKEN",
            show_envvar=True,
            help="What clients must send. Better in the environment, where `ps` does not show it.",
        ),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Images computed in a run; 1 turns batching off.")
    ] = 32,
    max_delay_ms: Annotated[
        float, typer.Option(min=0, help="How long a request waits for others to share a run.")
    ] = 0.0,
    threads: Annotated[
        int, typer.Option(min=0, help="Of ONNX Runtime for a run; 0 lets it decide.")
    ] = 0,
    max_body: Annotated[int, typer.Option(min=1, help="MiB of a request's body.")] = 16,
    max_pixels: Annotated[int, typer.Option(min=1, help="Millions, of an image.")] = 50,
    max_images: Annotated[int, typer.Option(min=1, help="Images of a request.")] = 64,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Requests that wait for their answer.")
    ] = 128,
    timeout: Annotated[float, typer.Option(help="Seconds for a request.")] = 30.0,
    store: StoreUrl = DEFAULT_STORE,
    json_: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with the address.")
    ] = False,
) -> None:
    """Serve a model: Open Inference Protocol v2, POST /predict for images, and a page.

    SIGTERM or Ctrl-C finishes what is being answered, and stops.
    """
    from parti.deploy.serving.limits import MIB, Limits

    with errors_explained(json_):
        limits = Limits(
            body_bytes=max_body * MIB,
            pixels=max_pixels * 1_000_000,
            images=max_images,
            queue=max_queue,
            seconds=timeout,
            pending_bytes=BODIES * max_body * MIB,
        )
        asked: dict[str, Any] = {
            "file": model,
            "host": host,
            "port": port,
            "token": token or None,
            "largest_batch": max_batch,
            "delay_s": max_delay_ms / 1000,
            "threads": threads,
            "limits": limits,
        }
        serve_folder(_folder(model_of, store), json_=json_, **asked)


def serve_folder(folder: Path, *, json_: bool, **asked: Any) -> None:
    """Serve an exported model until SIGTERM or Ctrl-C, and say where.

    Args:
        folder: of the model.
        json_: whether to print one JSON object.
        asked: the rest of `parti.deploy.serving.server.ServeSettings`.

    Raises:
        InvalidSettings: something is not allowed, or the folder is no model.
    """
    from parti.deploy.serving.server import Address, ServeSettings
    from parti.deploy.serving.server import serve as run_server

    def ready(address: Address) -> None:
        if json_:
            print_json({"url": address.url, "model": address.model, "token": address.locked})
            return
        typer.echo(f"{address.model} is served at {address.url}")
        typer.echo(f"  images   curl -F image=@photo.png {address.url}/predict")
        typer.echo(f"  tensors  {address.url}/v2/models/{address.model}")
        typer.echo("Ctrl-C stops it.")

    run_server(ServeSettings(folder=folder, **asked), ready)


def _folder(named: str, store: str) -> Path:
    """The exported folder that is named, or that of the study."""
    folder = Path(named)
    if (folder / "model.json").is_file():
        return folder
    try:
        return finished_study(named, store).folder / "model"
    except StoreError as error:
        if not folder.is_dir() or _is_study(named, store):
            raise
        instead = "a folder that `parti export` has written"
        if (folder / "model" / "model.json").is_file():
            instead = f"{folder / 'model'}, or the study by its name, {folder.resolve().name}"
        raise InvalidSettings(
            f"folder {named} holds no model (no model.json with a model.onnx), and no study has "
            f"this name; name {instead}"
        ) from error


def _is_study(named: str, store: str) -> bool:
    try:
        open_kept(store, named)
    except StoreError:
        return False
    return True
