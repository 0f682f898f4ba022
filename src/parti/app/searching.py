"""The commands that search: `search`, `specialize`, `resume`, and `recipes` to choose from."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parti.app.compressing import compress_and_show
from parti.app.device import Token, take_token, told_apart
from parti.app.options import AtLeast, AtMost, Json, StoreUrl, StudyName, Workers
from parti.app.running import (
    DEFAULT_STORE,
    absolute,
    errors_explained,
    limits,
    open_kept,
    print_json,
    run_search,
)
from parti.app.serving import serve_folder
from parti.core.errors import InvalidSettings
from parti.spaces import SPACES
from parti.strategies import STRATEGIES

if TYPE_CHECKING:
    from parti.finding.settings import Settings

NAMED = ", ".join(name for name in STRATEGIES if name != "list")  # a list needs its proposals

__all__ = ["register"]

TO_COMPRESS = 0.5
"""Compression after a search may take so much of the search's time, beyond it."""


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(search)
    app.command()(specialize)
    app.command()(resume)
    app.command()(recipes)


def search(
    data: Annotated[
        str,
        typer.Argument(
            help="digits, a folder of images per class, .npz, .npy, .parquet, or hf:NAME.",
            metavar="DATA",
        ),
    ],
    budget: Annotated[
        str | None, typer.Option(help="Time for everything: 90s, 40m, 1h30m. Default 10m.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Number of networks to try.")] = None,
    max_: AtMost = None,
    min_: AtLeast = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="What to optimize; more than one for a front. Default val_accuracy."),
    ] = None,
    space: Annotated[
        str, typer.Option(help=f"auto, {', '.join(SPACES)}, or FILE.py:NAME.")
    ] = "auto",
    strategy: Annotated[
        str, typer.Option(help=f"{NAMED}, FILE.py:NAME, or package.module:Name.")
    ] = "auto",
    recipe: Annotated[
        str | None,
        typer.Option(help="Train a supernet first, by a recipe: parti recipes lists them."),
    ] = None,
    supernet_epochs: Annotated[int | None, typer.Option(help="Epochs of the supernet.")] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Start from the architectures and weights of a finished study.", metavar="STUDY"
        ),
    ] = None,
    keep_architecture: Annotated[
        bool,
        typer.Option("--keep-architecture", help="Fine-tune the network of --init; no search."),
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each trial.")] = None,
    final_epochs: Annotated[int | None, typer.Option(help="Epochs of the final training.")] = None,
    finalists: Annotated[int | None, typer.Option(help="Networks to train in full.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Final trainings of the winner.")] = None,
    baselines: Annotated[
        bool, typer.Option(help="Compare with random search and a well-known network.")
    ] = True,
    image_size: Annotated[int | None, typer.Option(help="Resize images to this size.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of a table's images.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of a table's labels.")] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="Where to train: auto, cpu, cuda, cuda:1, ... And where to measure latency, as "
            "often as there are devices: http://host:port or NAME=http://host:port, each running "
            "parti device serve."
        ),
    ] = None,
    device_token: Token = None,
    predict_latency: Annotated[
        bool,
        typer.Option("--predict-latency", help="Learn to predict latency, where that works."),
    ] = False,
    compress: Annotated[
        bool,
        typer.Option(
            "--compress",
            help="Then make the winner smaller, as parti compress, in up to half of --budget more.",
        ),
    ] = False,
    serve: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Then answer over HTTP on this port, as parti serve; 0 takes a free one.",
            metavar="PORT",
        ),
    ] = None,
    runtime: Annotated[
        str,
        typer.Option(
            help="What latency is measured in here: onnxruntime, openvino, executorch, torch, "
            "torch_compiled."
        ),
    ] = "onnxruntime",
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16 where runtime and processor have it.")
    ] = "float32",
    workers: Workers = 1,
    study: Annotated[str | None, typer.Option(help="Name to keep it under.")] = None,
    store: StoreUrl = DEFAULT_STORE,
    seed: Annotated[int, typer.Option(help="Seed of every random number.")] = 0,
    json_: Json = False,
) -> None:
    """Search a network for DATA, train, test and export it.

    The same command goes on where it was stopped, and shows a finished result at once.
    """
    from parti.finding.settings import parse_duration, settings_of

    with errors_explained(json_):
        trains_on, measuring = told_apart(device)
        take_token(device_token)
        settings = settings_of(
            data=absolute(data),
            seconds=parse_duration(budget) if budget is not None else None,
            trials=trials,
            objectives=tuple(objective or ("val_accuracy",)),
            at_most=limits("--max", max_),
            at_least=limits("--min", min_),
            space=space,
            strategy=strategy,
            recipe=recipe,
            supernet_epochs=supernet_epochs,
            init=init,
            keep_architecture=keep_architecture,
            epochs=epochs,
            final_epochs=final_epochs,
            finalists=finalists,
            seeds=seeds,
            baselines=baselines,
            seed=seed,
            image_size=image_size,
            image_column=image_column,
            label_column=label_column,
            device=trains_on,
            devices=measuring,
            predict_latency=predict_latency,
            runtime=runtime,
            precision=precision,
        )
        _check_what_follows(settings, compress, serve)
        found = run_search(settings, study, store, workers, json_)
        folder = found.folder / "model"
        if compress:
            most = None if settings.seconds is None else TO_COMPRESS * settings.seconds
            done = compress_and_show(found.study, store=store, json_=json_, seconds=most)
            folder = Path(done["model"])
        if serve is not None:
            serve_folder(folder, port=serve, json_=json_)


def specialize(
    study: StudyName,
    max_: AtMost = None,
    min_: AtLeast = None,
    budget: Annotated[str | None, typer.Option(help="Time for everything. Default 5m.")] = None,
    trials: Annotated[int | None, typer.Option(help="Number of networks to try.")] = None,
    strategy: Annotated[
        str, typer.Option(help="As in search; auto is that of the recipe's paper.")
    ] = "auto",
    tune_epochs: Annotated[
        int | None, typer.Option(help="Epochs for which the best networks are tuned.")
    ] = None,
    finalists: Annotated[int | None, typer.Option(help="Networks to tune.")] = None,
    workers: Workers = 1,
    name: Annotated[
        str | None, typer.Option("--study", help="Name to keep the new network under.")
    ] = None,
    store: StoreUrl = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Take another network from the supernet of a STUDY.

    For other limits, in minutes, as the supernet is trained. The study must be finished.
    """
    from parti.finding.settings import parse_duration
    from parti.finding.specialize import specialized_settings

    with errors_explained(json_):
        settings = specialized_settings(
            open_kept(store, study),
            study,
            at_most=limits("--max", max_),
            at_least=limits("--min", min_),
            seconds=parse_duration(budget) if budget is not None else None,
            trials=trials,
            strategy=strategy,
            final_epochs=tune_epochs,
            finalists=finalists,
        )
        run_search(settings, name, store, workers, json_)


def resume(
    study: StudyName, store: StoreUrl = DEFAULT_STORE, workers: Workers = 1, json_: Json = False
) -> None:
    """Go on with a search that was stopped."""
    from parti.finding.settings import settings_of

    with errors_explained(json_):
        settings = settings_of(**open_kept(store, study).study(study).settings)
        if settings.data.startswith("python:"):
            raise InvalidSettings(
                f"the data of study {study!r} was given from Python; call parti.find again there"
            )
        run_search(settings, study, store, workers, json_)


def recipes(json_: Json = False) -> None:
    """List the recipes for --recipe: ways to train a supernet."""
    from parti.app.show import recipes as known
    from parti.app.show import table_of_recipes

    with errors_explained(json_):
        if json_:
            print_json({"recipes": known()})
        else:
            table_of_recipes()


def _check_what_follows(settings: Settings, compress: bool, port: int | None) -> None:
    """See before a search of hours that what comes after it can be done here."""
    if port is not None:
        from parti.deploy.serving.server import ServeSettings, check_servable

        check_servable(ServeSettings(folder=Path(), port=port))
    if compress and find_spec("torch_pruning") is None:
        raise InvalidSettings(
            "--compress needs torch-pruning, not installed here: pip install 'parti[pruning]'"
        )
    if compress and settings.study_constraints:
        from parti.deploy.compression.plan import check_limits

        check_limits(settings.study_constraints)
