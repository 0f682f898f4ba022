"""A made-up search on the handwritten digits, as complete as a real one."""

from __future__ import annotations

import math
import random
from typing import Any

from parti.core.architecture import Architecture
from parti.core.study import Budget, Constraint, Objective, Study
from parti.core.trial import Measurement, Proposal, State, Trial

CLASSES = [str(digit) for digit in range(10)]
WINNER = 17


def make_study(**changes: Any) -> Study:
    fields: dict[str, Any] = {
        "name": "digits-3f2a",
        "objectives": (Objective("val_accuracy", "max"), Objective("params", "min")),
        "constraints": (Constraint("params", at_most=80_000),),
        "budget": Budget(trials=24),
    }
    return Study(**{**fields, **changes})


def make_trials(n: int = 28, seed: int = 0) -> list[Trial]:
    rng = random.Random(seed)
    return [_trial(number, rng) for number in range(n)]


def _trial(number: int, rng: random.Random) -> Trial:
    width = rng.choice([16, 24, 32, 48])
    depths = [rng.choice([1, 2, 3]) for _ in range(3)]
    architecture = Architecture(
        {
            "width": width,
            **{f"stage{i}/depth": depth for i, depth in enumerate(depths)},
            **{f"stage{i}/kernel": rng.choice([3, 5]) for i in range(3)},
            "number": number,
        }
    )
    params = width * width * (9 + 4 * sum(depths)) * rng.uniform(0.8, 1.3) + 6_000
    costs = {"params": round(params), "macs": round(params * 31), "latency_ms": 0.1 + params / 9e4}
    proposal = Proposal(architecture, fidelity=12)
    if params > 82_000 and number != WINNER:
        error = f"params {params:.0f} is more than 80000"
        return Trial(number, proposal, State.REJECTED, (Measurement(costs),), error)
    if number in (9, 21):
        error = "Diverged: the loss became NaN in epoch 3\n  learning rate 0.4\n  batch 7"
        return Trial(number, proposal, State.FAILED, (Measurement(costs, 3, 4.0),), error)
    accuracy = 0.985 - 0.35 * math.exp(-params / 18_000) - rng.uniform(0, 0.03)
    if number == WINNER:
        accuracy = 0.989
        costs = {"params": 61_234, "macs": 2_410_880, "latency_ms": 0.71}
    ended = Measurement({"val_accuracy": accuracy, **costs}, 12, rng.uniform(8, 26))
    return Trial(number, proposal, State.DONE, (Measurement(costs), ended))


def _curve(label: str, rng: random.Random, top: float, epochs: int = 60) -> dict[str, Any]:
    steps = range(1, epochs + 1)
    return {
        "label": label,
        "epochs": list(steps),
        "train_loss": [2.2 * math.exp(-e / 9) + 0.02 + rng.uniform(0, 0.02) for e in steps],
        "val_loss": [2.1 * math.exp(-e / 8) + 0.06 + rng.uniform(0, 0.03) for e in steps],
        "val_accuracy": [top * (1 - 0.8 * math.exp(-e / 6)) - rng.uniform(0, 0.012) for e in steps],
    }


def make_modules(depths: tuple[int, ...] = (2, 3, 2)) -> list[dict[str, Any]]:
    """Rows of a small residual network, its containers among them."""
    rows: list[dict[str, Any]] = []

    def add(name: str, kind: str, output: list[int], params: int = 0, macs: int = 0) -> None:
        rows.append({"name": name, "type": kind, "output": output, "params": params, "macs": macs,
                     "depth": name.count(".")})  # fmt: skip

    def conv(name: str, before: int, after: int, side: int, kernel: int, act: bool = True) -> None:
        weights = before * after * kernel * kernel
        out = [after, side, side]
        add(name, "ConvNorm", out, weights + 2 * after, weights * side * side)
        add(f"{name}.0", "Conv2d", out, weights, weights * side * side)
        add(f"{name}.1", "BatchNorm2d", out, 2 * after)
        if act:
            add(f"{name}.2", "ReLU", out)

    conv("stem", 1, 16, 8, 3)
    before = 16
    for stage, (depth, width, side) in enumerate(zip(depths, (16, 32, 64), (8, 4, 2), strict=True)):
        for i in range(depth):
            name = f"stages.{stage}.{i}"
            add(name, "MobileBlock", [width, side, side])
            conv(f"{name}.expand", before, 2 * before, side, 1)
            conv(f"{name}.depthwise", 1, 2 * before, side, 3)
            conv(f"{name}.project", 2 * before, width, side, 1, act=False)
            before = width
    add("head.pool", "AdaptiveAvgPool2d", [64, 1, 1])
    add("head.flatten", "Flatten", [64])
    add("head.linear", "Linear", [10], 650, 640)
    return rows


def _metrics(rng: random.Random) -> dict[str, Any]:
    counts = [27, 27, 27, 27, 27, 27, 27, 27, 26, 28]
    confusion = [[n if i == j else 0 for j in range(10)] for i, n in enumerate(counts)]
    for true, predicted in ((8, 1), (8, 1), (9, 5), (3, 8)):
        confusion[true][true] -= 1
        confusion[true][predicted] += 1
    per_class = [
        {
            "class": name,
            "precision": confusion[i][i] / sum(row[i] for row in confusion),
            "recall": confusion[i][i] / counts[i],
            "f1": 2 * confusion[i][i] / (counts[i] + sum(row[i] for row in confusion)),
            "support": counts[i],
        }
        for i, name in enumerate(CLASSES)
    ]
    return {
        "accuracy": 266 / 270, "top5_accuracy": 1.0, "precision": 0.9854, "recall": 0.9851,
        "f1": 0.9851, "auc": 0.99962, "loss": 0.0713, "per_class": per_class,
        "confusion": confusion, "n": 270,
    }  # fmt: skip


def make_result(depths: tuple[int, ...] = (2, 3, 2)) -> dict[str, Any]:
    rng = random.Random(1)
    return {
        "study": "digits-3f2a",
        "command": "parti search digits --trials 24 --max params=8e4",
        "started": "2026-11-22T14:03:10+00:00",
        "finished": "2026-11-22T14:24:02+00:00",
        "status": "done",
        "data": {
            "name": "digits", "origin": "scikit-learn's load_digits (UCI optical digits)",
            "images": 1797, "height": 8, "width": 8, "channels": 1, "classes": CLASSES,
            "class_counts": {
                "train": [124, 127, 124, 128, 127, 127, 127, 125, 122, 126],
                "val": [27, 28, 26, 28, 27, 28, 27, 27, 26, 26],
                "test": [27, 27, 27, 27, 27, 27, 27, 27, 26, 28],
            },
            "splits": {"train": 1257, "val": 270, "test": 270, "how": "stratified, seed 0"},
            "notes": ["Pixel values were 0 to 16 and are scaled to 0 to 1.",
                      "No image occurs twice."],
        },
        "space": {"name": "mobile", "arguments": {"stages": 3, "widths": [16, 24, 32, 48]},
                  "size": "1.2e18", "choices": 34},
        "strategy": {"name": "evolution", "arguments": {"population": 12, "sample": 4}},
        "recipe": {"optimizer": "sgd", "lr": 0.1, "epochs": 12, "batch": 64},
        "objectives": [{"metric": "val_accuracy", "goal": "max"}],
        "constraints": ["params ≤ 80000"],
        "budget": {"trials": 24, "seconds": None},
        "seed": 0,
        "best": {
            "architecture": {
                "width": 24, "stage0/depth": 2, "stage0/kernel": 3, "stage0/expand": 2,
                "stage1/depth": 3, "stage1/kernel": 5, "stage1/expand": 4,
                "stage2/depth": 2, "stage2/kernel": 3, "stage2/branches": ["conv3", "pool"],
            },
            "fingerprint": "9c41f2a07be3d518", "trial": WINNER, "val_accuracy": 0.9926,
            "test_accuracy": 0.9852, "test_accuracies": [0.9852, 0.9778, 0.9889],
            "params": 61_234, "macs": 2_410_880, "activation_bytes": 81_920,
            "latency_ms": 0.71, "latency_p95_ms": 0.83,
            "latency_conditions": "Intel Xeon, ONNX Runtime 1.32, batch 1, 1 thread, median of 200",
            "metrics": _metrics(rng), "modules": make_modules(depths),
            "macs_by_operation": {"Conv2d": 2_410_240, "Linear": 640},
            "curves": [_curve(f"seed {s}", rng, 0.992 - s / 500) for s in range(3)],
            "seeds": 3, "epochs": 60,
        },
        "finalists": [
            {"trial": t, "fingerprint": f"{t:016x}", "val_accuracy": 0.984 + t / 2000,
             "params": 45_934 + 900 * t, "search_val_accuracy": 0.97,
             "curves": [_curve("", rng, 0.985 - t / 3000)]}
            for t in (WINNER, 6, 12)
        ],
        "baselines": [
            {"name": "random search", "kind": "search", "trials": 24, "val_accuracy": 0.9815,
             "test_accuracy": 0.9765, "test_accuracies": [0.9778, 0.9704, 0.9815],
             "params": 88_410, "macs": 3_120_000, "latency_ms": 0.92,
             "note": "same space and budget", "curves": [_curve("seed 0", rng, 0.98)]},
            {"name": "ResNet-20", "kind": "fixed", "trials": 1, "val_accuracy": 0.963,
             "test_accuracy": 0.9481, "test_accuracies": [0.9481, 0.9407, 0.9556],
             "params": 272_474, "macs": 10_240_000, "latency_ms": 1.63,
             "note": "He et al. 2016, same recipe", "curves": [_curve("seed 0", rng, 0.962)]},
        ],
        "cost": {"trials": 24, "failed": 2, "rejected": 3, "search_seconds": 402.0,
                 "baseline_seconds": 480.0, "final_seconds": 371.0, "total_seconds": 1252.0,
                 "hardware": "Intel Xeon, 2 cores, no GPU"},
        "files": {"report": "runs/digits-3f2a/report.html", "onnx": "runs/digits-3f2a/model.onnx",
                  "weights": "runs/digits-3f2a/model.safetensors",
                  "predict": "runs/digits-3f2a/predict.py"},
        "versions": {"parti": "0.1.0", "torch": "2.13.0", "python": "3.11"},
    }  # fmt: skip
