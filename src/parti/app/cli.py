"""`parti`: the command line. Commands parse and show; the work is done in `parti.finding`."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from parti.app.running import (
    DEFAULT_STORE,
    INTERRUPTED,
    absolute,
    errors_explained,
    finished_study,
    limits,
    open_kept,
    print_json,
    run_search,
)
from parti.core.errors import InvalidSettings
from parti.spaces import SPACES
from parti.strategies import STRATEGIES

app = typer.Typer(
    name="parti",
    help="Neural architecture search on your data, for your device, within your limits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

NAMED = ", ".join(name for name in STRATEGIES if name != "list")  # a list needs its proposals

Store_ = Annotated[
    str, typer.Option("--store", help="Where studies are kept, as a URL.", metavar="URL")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
StudyName = Annotated[str, typer.Argument(help="Name of the study.", metavar="STUDY")]
Workers = Annotated[int, typer.Option(min=1, help="Trials that are trained at the same time.")]


@app.command()
def search(
    data: Annotated[
        str,
        typer.Argument(
            help="digits, a folder of images per class, .npz, .npy, .parquet, or hf:NAME.",
            metavar="DATA",
        ),
    ],
    budget: Annotated[
        str | None, typer.Option(help="Time for everything: 90s, 40m, 2h. Default 10m.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Number of networks to try.")] = None,
    max_: Annotated[
        list[str] | None,
        typer.Option(
            "--max", metavar="METRIC=VALUE", help="A limit: params=300k, latency_ms=5, macs=10M."
        ),
    ] = None,
    min_: Annotated[
        list[str] | None, typer.Option("--min", metavar="METRIC=VALUE", help="A lower limit.")
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="What to optimize; more than one for a front. Default val_accuracy."),
    ] = None,
    space: Annotated[
        str, typer.Option(help=f"auto, {', '.join(SPACES)}, or FILE.py:NAME.")
    ] = "auto",
    strategy: Annotated[str, typer.Option(help=f"{NAMED}, or package.module:Name.")] = "auto",
    recipe: Annotated[
        str | None,
        typer.Option(help="Train a supernet first, by a recipe: parti recipes lists them."),
    ] = None,
    supernet_epochs: Annotated[int | None, typer.Option(help="Epochs of the supernet.")] = None,
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
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    workers: Workers = 1,
    study: Annotated[str | None, typer.Option(help="Name to keep it under.")] = None,
    store: Store_ = DEFAULT_STORE,
    seed: Annotated[int, typer.Option(help="Seed of every random number.")] = 0,
    json_: Json = False,
) -> None:
    """Search a network for DATA, train it, test it once, export it and report.

    The same command goes on where it was stopped, and shows a finished result at once.
    """
    from parti.finding.settings import parse_duration, settings_of

    with errors_explained(json_):
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
            epochs=epochs,
            final_epochs=final_epochs,
            finalists=finalists,
            seeds=seeds,
            baselines=baselines,
            seed=seed,
            image_size=image_size,
            image_column=image_column,
            label_column=label_column,
            device=device,
        )
        run_search(settings, study, store, workers, json_)


@app.command()
def specialize(
    study: StudyName,
    max_: Annotated[
        list[str] | None,
        typer.Option("--max", metavar="METRIC=VALUE", help="A limit: latency_ms=3, params=300k."),
    ] = None,
    min_: Annotated[
        list[str] | None, typer.Option("--min", metavar="METRIC=VALUE", help="A lower limit.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Time for everything. Default 5m.")] = None,
    trials: Annotated[int | None, typer.Option(help="Number of networks to try.")] = None,
    strategy: Annotated[str, typer.Option(help="As in search. Default evolution.")] = "auto",
    tune_epochs: Annotated[
        int | None, typer.Option(help="Epochs for which the best networks are tuned.")
    ] = None,
    finalists: Annotated[int | None, typer.Option(help="Networks to tune.")] = None,
    workers: Workers = 1,
    name: Annotated[
        str | None, typer.Option("--study", help="Name to keep the new network under.")
    ] = None,
    store: Store_ = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Take another network, for other limits, from the supernet of a finished STUDY, in minutes."""
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


@app.command()
def recipes(json_: Json = False) -> None:
    """List the recipes for --recipe: ways to train a supernet."""
    from parti.app.show import recipes as known
    from parti.app.show import table_of_recipes

    with errors_explained(json_):
        if json_:
            print_json({"recipes": known()})
        else:
            table_of_recipes()


@app.command()
def resume(
    study: StudyName, store: Store_ = DEFAULT_STORE, workers: Workers = 1, json_: Json = False
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


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]")] = None,
    store: Store_ = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Show how far a study is; without a name, list all studies."""
    from parti.app.show import status_of, table_of_studies

    with errors_explained(json_):
        opened = open_kept(store, study)
        names = [study] if study else [n for n in opened.studies() if "/" not in n]
        rows = [status_of(opened, name, store) for name in names]
        if json_:
            print_json({"studies": rows} if study is None else rows[0])
        else:
            table_of_studies(rows)


@app.command()
def report(
    study: StudyName,
    store: Store_ = DEFAULT_STORE,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the report page of a study, finished or not, and print where it is."""
    from parti.app.show import partial_result
    from parti.finding import finished
    from parti.finding.files import study_folder
    from parti.reports import write_report

    with errors_explained(False):
        opened = open_kept(store, study)
        folder = study_folder(store, study)
        found = finished(folder, opened, study)
        trials, _ = opened.trials(study)
        asked = opened.study(study)
        result = found.to_dict() if found else partial_result(asked, trials, folder)
        page = write_report(folder / "report.html", result, asked, trials).resolve()
        typer.echo(page)
        if open_:
            typer.launch(page.as_uri())


@app.command()
def export(
    study: StudyName,
    to: Annotated[
        list[str] | None, typer.Option(help="onnx, safetensors, torch_export. Default: all.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder to make. Default: STUDY-model.")
    ] = None,
    store: Store_ = DEFAULT_STORE,
) -> None:
    """Copy the trained model of a finished study, with its card and a standalone predict.py."""
    from parti.app.models import copy_model

    with errors_explained(False):
        found = finished_study(study, store)
        for file in copy_model(found.folder / "model", folder or Path(f"{study}-model"), to):
            typer.echo(file)


@app.command()
def predict(
    study: StudyName,
    images: Annotated[list[Path], typer.Argument(help="Images, or .npy arrays.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to show for each.")] = 1,
    store: Store_ = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Classify images with the exported model of a finished study."""
    from parti.app.models import run_predict

    with errors_explained(json_):
        found = finished_study(study, store)
        raise typer.Exit(run_predict(found.folder / "model", images, top, json_))


@app.command()
def compare(
    strategies: Annotated[
        list[str],
        typer.Argument(
            help="Names, NAME:key=value,..., FILE.py:NAME, or all.", metavar="STRATEGY..."
        ),
    ],
    on: Annotated[
        list[str] | None,
        typer.Option(help="A problem, as nasbench201/cifar10. Default: all whose tables are here."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each strategy on each problem.")] = 100,
    evaluations: Annotated[
        int | None,
        typer.Option(
            help="Most distinct architectures a run evaluates. Default 300, or no limit with "
            "--seconds."
        ),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Most virtual seconds of a run.")] = None,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Search the mean test accuracy itself, without noise.")
    ] = False,
    scores: Annotated[
        bool, typer.Option(help="Let strategies that want training-free scores have them.")
    ] = True,
    workers: Annotated[int, typer.Option(min=1, help="Runs that are made at the same time.")] = 1,
    tables: Annotated[
        Path | None, typer.Option(help="Folder of the tables. Default $PARTI_TABLES.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the leaderboard, charts, and finished runs.")
    ] = None,
    json_: Json = False,
) -> None:
    """Compare strategies on tabular benchmarks: who finds the best architecture soonest.

    With --out, the same command goes on where it was stopped, and a new strategy adds its runs.
    """
    from parti.app.compare import run_comparison
    from parti.comparing.run import Settings as Conditions

    with errors_explained(json_):
        if evaluations is None and seconds is None:
            evaluations = 300
        conditions = Conditions(evaluations, seconds, oracle, scores)
        command = shlex.join(["parti", *sys.argv[1:]])
        try:
            result = run_comparison(
                strategies, on, seeds, conditions, tables, out, workers, command, quiet=json_
            )
        except KeyboardInterrupt:
            kept = "the same command goes on" if out is not None else "nothing was kept; use --out"
            typer.echo(f"Stopped: {kept}.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        if json_:
            print_json(result)


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
