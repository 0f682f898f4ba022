"""`parti device`: measure models for searches elsewhere, or see what a device says of itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from parti.app.options import Json
from parti.app.running import errors_explained, print_json
from parti.core.errors import InvalidSettings

__all__ = ["TOKEN_OPTION", "Token", "hidden_token", "register", "take_token", "told_apart"]

TOKEN_OPTION = "--device-token"  # noqa: S105 - the name of an option
VARIABLE = "PARTI_DEVICE_TOKEN"

Token = Annotated[
    str | None,
    typer.Option(
        TOKEN_OPTION,
        help=f"What the devices ask for. Safer: set {VARIABLE}. It is kept nowhere.",
        metavar="TOKEN",
    ),
]

commands = typer.Typer(
    help="Measure latency on this device for searches elsewhere.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(commands, name="device")


@commands.command()
def serve(
    write: Annotated[
        Path | None,
        typer.Option(help="Write the program to this file, to copy to a device, and end."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address; others than this machine's need a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8900,
    name: Annotated[str, typer.Option(help="What to call this device.")] = "",
    max_mb: Annotated[float, typer.Option(help="Largest model.")] = 100.0,
    memory_mb: Annotated[float, typer.Option(help="Most memory of a model.")] = 2048.0,
    timeout: Annotated[float, typer.Option(help="Seconds for one measurement.")] = 60.0,
    queue: Annotated[int, typer.Option(min=0, help="Models that may wait.")] = 4,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print each request.")] = False,
    token: Token = None,
) -> None:
    """Measure ONNX models that searches on other machines send, one at a time."""
    from parti.deploy import device_server

    if write is not None:
        with errors_explained(False):
            _copy(device_server.__file__, write)
        typer.echo(f"{write}: copy it to the device; it needs numpy and onnxruntime, not parti")
        return
    take_token(token)
    arguments = [
        *("--host", host, "--port", str(port), "--name", name, "--max-mb", str(max_mb)),
        *("--memory-mb", str(memory_mb), "--timeout", str(timeout), "--queue", str(queue)),
    ]
    raise typer.Exit(device_server.serve([*arguments, *(["--verbose"] if verbose else [])]))


@commands.command()
def check(
    url: Annotated[str, typer.Argument(help="http://host:port", metavar="URL")],
    token: Token = None,
    json_: Json = False,
) -> None:
    """See that a device answers, and print what it says of itself."""
    from parti.evaluators.devices import Link, parse_device

    with errors_explained(json_):
        take_token(token)
        device = parse_device(url)
        found = Link([device]).info(device)
        if json_:
            print_json(found)
            return
        for key, value in found.items():
            inner = value.items() if isinstance(value, dict) else [("", value)]
            for part, shown in inner:
                listed = ", ".join(map(str, shown)) if isinstance(shown, list) else shown
                typer.echo(f"{f'{key} {part}'.strip():20}  {listed}")


def _copy(program: str, place: Path) -> None:
    try:
        shutil.copyfile(program, place)
    except OSError as error:
        raise InvalidSettings(
            f"--write {place} cannot be written ({error.strerror}); name a file in a folder that "
            "is there and yours"
        ) from error


def take_token(token: str | None) -> None:
    """Hand a token given as an option to all that ask for it, in this process and its workers."""
    if token is not None:
        os.environ[VARIABLE] = token


def told_apart(devices: Sequence[str] | None) -> tuple[str, tuple[str, ...]]:
    """Tell where to train (auto, cpu, cuda) from where to measure (URLs).

    Raises:
        InvalidSettings: there are two places to train.
    """
    measuring = tuple(device for device in devices or () if "://" in device)
    training = [device for device in devices or () if "://" not in device]
    if len(training) > 1:
        raise InvalidSettings(
            f"--device {' and '.join(training)}: networks are trained on one; devices that only "
            "measure are given as http://host:port"
        )
    return (training[0] if training else "auto"), measuring


def hidden_token(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command without its token, to be kept with a study."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument != TOKEN_OPTION and not argument.startswith(f"{TOKEN_OPTION}="):
            kept.append(argument)
        skip = not skip and argument == TOKEN_OPTION
    return kept
