"""After the stages: the test split is opened once, the winner exported, everything written down."""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from parti import __version__
from parti.core.trial import State, Trial
from parti.core.walks import size, tree_of
from parti.deploy.check import onnx_logits
from parti.deploy.export import export
from parti.deploy.model import DeployedModel
from parti.evaluators.complexity import complexity
from parti.evaluators.trained import load_trained, predict
from parti.finding.clock import planning_seconds
from parti.finding.described import described_supernet, written
from parti.finding.desk import Desk
from parti.finding.devices import latency_of
from parti.finding.examined import examined
from parti.finding.explained import explained
from parti.finding.openings import count_openings
from parti.finding.predictions import keep_predictions
from parti.finding.stages import Contender, Searched
from parti.finding.strategy import strategy_arguments, strategy_name
from parti.finding.transfer import described_start
from parti.reports.formats import opened
from parti.tasks.classification import accuracy, report
from parti.tasks.summary import summary
from parti.tasks.values import TestData

__all__ = ["conclude"]

SAMPLES = 64
"""Validation images on which every exported file is compared with the trained network."""

COUNTED = 1_000
"""Dynamic spaces are counted so far: every walk runs their program, which may build a network."""


def conclude(desk: Desk, searched: Searched, command: str, started: str) -> dict[str, Any]:
    """Test, export, and describe what was found.

    Args:
        desk: what the search worked with.
        searched: what its stages left.
        command: how the search was called.
        started: when it began, ISO 8601.

    Returns:
        The result, as JSON values; `docs/result.md` lists what is in it.
    """
    began = time.monotonic()
    desk.watcher.stage("testing once, exporting, reporting")
    if desk.source is not None and desk.continues_data:
        searched.openings += count_openings(desk.store, desk.source.study.name, desk.folder.parent)
    test = desk.sealed()
    winner = _described(desk, searched.winner, test)
    winner["trial"] = searched.finalists[0][0].number
    baselines = [_described(desk, contender, test) for contender in searched.baselines]
    desk.watcher.say("  exporting the winner, and checking each file against it ...")
    files = _export(desk, searched, winner, test)
    desk.watcher.say("  looking at the winner further ...")
    winner.update(examined(desk, searched, winner, test))
    result = {
        "study": desk.name,
        "command": command,
        "status": "done",
        "started": started,
        "data": _data(desk),
        "space": {**described_space(desk), "arguments": {**desk.shape, **desk.sizes}},
        "strategy": {"name": strategy_name(desk), "arguments": _plain(strategy_arguments(desk))},
        "recipe": _recipe(desk, searched),
        "supernet": described_supernet(desk, searched),
        "init": described_start(desk, searched.winner.architecture),
        "test_openings": searched.openings,
        "objectives": [{"metric": o.metric, "goal": o.goal} for o in searched.study.objectives],
        "constraints": [str(constraint) for constraint in searched.study.constraints],
        "budget": {"trials": desk.settings.trials, "seconds": desk.settings.seconds},
        "seed": desk.settings.seed,
        "best": winner,
        "finalists": [_finalist(found, trained) for found, trained in searched.finalists],
        "baselines": baselines,
        "search_latency": None if desk.latency is None else desk.latency.conditions,
        "files": files,
        "versions": {
            "parti": __version__,
            "torch": _torch_version(),
            "python": platform.python_version(),
        },
    }
    result["explanation"] = explained(desk, searched, result)
    result["cost"] = _cost(desk, searched, time.monotonic() - began)
    result["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    return result


def _described(desk: Desk, contender: Contender, test: TestData) -> dict[str, Any]:
    """Everything about one contender, its test metrics included."""
    import torch

    labels = torch.from_numpy(np.asarray(test.labels))
    trial, folder = contender.shipped
    accuracies, metrics = [], dict[str, Any]()
    for one, place in contender.trained:
        network = load_trained(contender.space, contender.architecture, place)
        logits = predict(network, test.images, mean=desk.seen.mean, std=desk.seen.std)
        accuracies.append(accuracy(logits, labels))
        if one is trial:
            known = predict(network, desk.seen.val_images, mean=desk.seen.mean, std=desk.seen.std)
            validation = known, torch.from_numpy(np.asarray(desk.seen.val_labels))
            described = report(logits, labels, test.classes, validation=validation)
            metrics = {**described, "n": len(labels)}
    network = load_trained(contender.space, contender.architecture, folder)
    cost = complexity(network, desk.seen.input_shape)
    return {
        "name": contender.name,
        "kind": contender.kind,
        "trials": contender.trials,
        "architecture": dict(contender.architecture),
        "fingerprint": contender.architecture.fingerprint,
        "genotype": written(contender.space, contender.architecture),
        "val_accuracy": trial.metrics["val_accuracy"],
        "test_accuracy": metrics["accuracy"],
        "test_accuracies": accuracies,
        "test_mean": statistics.fmean(accuracies),
        "test_std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "params": cost.params,
        "macs": cost.macs,
        "activation_bytes": cost.activation_bytes,
        "weight_bytes": cost.weight_bytes,
        **latency_of(desk, network),
        "metrics": metrics,
        "modules": [
            {
                "name": row.name,
                "type": row.type,
                "output": list(row.output_shape or ())[1:],
                "params": row.params,
                "macs": row.macs,
                "inputs": list(row.inputs),
                "depth": row.name.count(".") + bool(row.name),
            }
            for row in cost.modules
        ],
        "macs_by_operation": dict(cost.macs_by_operation),
        "curves": [_curve(f"seed {seed}", one) for seed, (one, _) in enumerate(contender.trained)],
        "seeds": len(contender.trained),
        "epochs": trial.measurements[-1].step,
        "seconds": sum(one.seconds for one, _ in contender.trained),
    }


def _deployed(desk: Desk, network: Any) -> DeployedModel:
    return DeployedModel(network, desk.seen.mean, desk.seen.std).eval()


def _export(
    desk: Desk, searched: Searched, winner: dict[str, Any], test: TestData
) -> dict[str, str]:
    """Write the model's folder; the accuracy reported is measured again on its ONNX file."""
    import torch

    contender = searched.winner
    _, place = contender.shipped
    model = _deployed(desk, load_trained(contender.space, contender.architecture, place))
    folder = desk.folder / "model"
    conditions = f"test split, n = {len(test.labels)}, {opened(searched.openings)}"
    export(
        model,
        folder,
        info={
            "name": desk.name,
            "description": f"Classifies images of {desk.data.name} into {len(test.classes)}.",
            "classes": list(test.classes),
            "architecture": winner["architecture"],
            "data": summary(desk.data, desk.splits),
            "training": f"{winner['epochs']} epochs, seed of the best of {winner['seeds']}",
            "value_range": list(desk.seen.value_range),
            "temperature": winner["metrics"]["temperature"]["value"],
            "metrics": {
                "test_accuracy": winner["test_accuracy"],
                "val_accuracy": winner["val_accuracy"],
                "latency_ms": winner["latency_ms"],
                "params": winner["params"],
                "macs": winner["macs"],
            },
            "conditions": {
                "test_accuracy": conditions,
                "val_accuracy": f"validation split, n = {len(desk.seen.val_labels)}",
                "latency_ms": winner["latency_conditions"],
            },
            "mean": list(desk.seen.mean),
            "std": list(desk.seen.std),
        },
        samples=_channels_first(desk.seen.val_images[:SAMPLES]),
        keep=desk.folder / "samples.npz",
    )
    onnx = folder / "model.onnx"
    compute = onnx_logits(onnx)
    logits = np.concatenate(
        [
            compute(_channels_first(test.images[start : start + 256]))
            for start in range(0, len(test.labels), 256)
        ]
    )
    winner["test_accuracy"] = accuracy(
        torch.from_numpy(logits), torch.from_numpy(np.asarray(test.labels))
    )
    keep_predictions(desk.folder, desk.data, desk.splits, test.labels, logits)
    winner["onnx_bytes"] = onnx.stat().st_size
    names = {
        "onnx": onnx,
        "weights": folder / "weights.safetensors",
        "program": folder / "model.pt2",
        "predict": folder / "predict.py",
        "card": folder / "README.md",
    }
    files = {"report": str((desk.folder / "report.html").resolve())}
    return {**files, **{name: str(path.resolve()) for name, path in names.items()}}


def _channels_first(images: Any) -> Any:
    return np.ascontiguousarray(np.asarray(images).transpose(0, 3, 1, 2), dtype=np.float32)


def _data(desk: Desk) -> dict[str, Any]:
    splits = desk.splits
    count = len(desk.data.classes)

    def counts(indices: Any) -> list[int]:
        return list(map(int, np.bincount(desk.data.labels[indices], minlength=count)))

    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    return {
        **summary(desk.data, splits),
        "class_counts": {name: counts(indices) for name, indices in parts.items()},
        "splits": {**{name: len(part) for name, part in parts.items()}, "how": splits.how},
    }


def described_space(desk: Desk) -> dict[str, Any]:
    """Name, arguments and size of the space, a large dynamic one's only from below."""
    tree = tree_of(desk.space)
    exact = size(desk.space, most=COUNTED)
    return {
        "name": desk.space_name,
        "arguments": desk.shape,
        "size": f"more than {COUNTED:,}" if exact is None else rounded(exact),
        "choices": len(tree.choices) if tree is not None else None,
        "sampled": "each option of a choice equally likely where it comes up",
    }


def rounded(number: int) -> str:
    """A large whole number in a few signs: 1.2e18."""
    if number < 10**6:
        return f"{number:,}"
    power = math.floor(math.log10(number))
    return f"{number // 10 ** (power - 1) / 10}e{power}"


def _recipe(desk: Desk, searched: Searched) -> dict[str, Any]:
    recipe = searched.recipe
    shown = {name: getattr(recipe, name) for name in recipe.__dataclass_fields__}
    return {
        **shown,
        "epochs_of_a_trial": desk.plan.epochs,
        "images_of_an_epoch": searched.finals.images or len(desk.seen.train_labels),
        "images_of_a_trial": desk.plan.images,
    }


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as JSON values: of a function its name."""
    return {name: getattr(value, "__name__", value) for name, value in arguments.items()}


def _finalist(found: Trial, trained: Trial) -> dict[str, Any]:
    return {
        "trial": found.number,
        "fingerprint": found.architecture.fingerprint,
        "search_val_accuracy": found.metrics["val_accuracy"],
        "val_accuracy": trained.metrics["val_accuracy"],
        "params": found.metrics["params"],
        "macs": found.metrics["macs"],
        "curves": [_curve(f"trial {found.number}", trained)],
    }


def _curve(label: str, trial: Trial) -> dict[str, Any]:
    steps = [m for m in trial.measurements if "val_accuracy" in m.metrics]
    names = ("train_loss", "val_loss", "val_accuracy")
    return {
        "label": label,
        "epochs": [m.step for m in steps],
        **{name: [m.metrics.get(name) for m in steps] for name in names},
    }


def _cost(desk: Desk, searched: Searched, concluding: float) -> dict[str, Any]:
    """What it took, all that `--budget` counts: stages over all restarts, the end the last time."""
    trials = searched.trials
    finals = desk.spent(*desk.parts("final-"))
    search_seconds, random_seconds = desk.spent(""), desk.spent("random")
    supernet_seconds = desk.spent("supernet", "agreement")
    planning = planning_seconds(desk)
    states = [trial.state for trial in trials]
    return {
        "trials": len(trials) - states.count(State.REJECTED),
        "failed": states.count(State.FAILED),
        "rejected": states.count(State.REJECTED),
        **({"planning_seconds": planning} if planning else {}),
        **({"supernet_seconds": supernet_seconds} if supernet_seconds else {}),
        "search_seconds": search_seconds,
        "baseline_seconds": random_seconds,
        "final_seconds": finals,
        "concluding_seconds": concluding,
        "total_seconds": sum(
            (planning, supernet_seconds, search_seconds, random_seconds, finals, concluding)
        ),
        "hardware": hardware(desk.workers),
    }


def hardware(workers: int) -> str:
    """The machine in a line."""
    import torch

    gpus = torch.cuda.device_count()
    gpu = torch.cuda.get_device_name(0) if gpus else "no GPU"
    return f"{_processor()}, {os.cpu_count()} cores, {gpu}, {workers} worker(s)"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _torch_version() -> str:
    import torch

    return str(torch.__version__)
