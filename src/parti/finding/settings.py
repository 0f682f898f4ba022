"""What a user asks for, checked before anything is read or trained."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from parti.core.errors import InvalidSettings
from parti.core.plugins import did_you_mean
from parti.core.study import Constraint, Objective
from parti.evaluators.devices import parse_device

__all__ = ["Settings", "parse_duration", "parse_number", "settings_of"]

SMALL_IS_GOOD = frozenset(
    {"params", "macs", "activation_bytes", "latency_ms", "latency_p95_ms", "val_loss"}
)
LARGE_IS_GOOD = frozenset(
    {
        "val_accuracy",
        "val_f1",
        "val_precision",
        "val_recall",
        "val_auc",
        "val_accuracy_corrupted",
        "val_accuracy_fgsm",
        "val_accuracy_pgd",
        "val_accuracy_label_noise",
    }
)
METRICS = SMALL_IS_GOOD | LARGE_IS_GOOD
"""What can be optimized or limited."""
LATENCIES = frozenset({"latency_ms", "latency_p95_ms"})
"""What devices measure; of one device of several, `latency_ms@NAME`."""

DEFAULT_SECONDS = 600.0
"""The budget when none is given."""

OPTIONS = {
    "seconds": "--budget",
    "objectives": "--objective",
    "at_most": "--max",
    "at_least": "--min",
    "devices": "--device",
}
"""Options of `parti search` that are not called like their fields."""
FROM_PYTHON = frozenset({"data", "supernet_of"})
"""Fields that are no option."""

Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Everything that decides the result of `parti search`.

    With a `recipe`, a supernet is trained for `supernet_epochs` before the search; with
    `supernet_of`, the one of another study is taken, as `parti specialize` does. With `init`,
    the search starts from the architectures and weights of another study; with
    `keep_architecture`, its network is fine-tuned and nothing is searched.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    data: str
    trials: Count | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    objectives: tuple[str, ...] = ("val_accuracy",)
    at_most: dict[str, float] = {}
    at_least: dict[str, float] = {}
    space: str = "auto"
    strategy: str = "auto"
    recipe: str | None = None
    supernet_epochs: Count | None = None
    supernet_of: str | None = None
    init: str | None = None
    keep_architecture: bool = False
    epochs: Count | None = None
    final_epochs: Count | None = None
    finalists: Count | None = None
    seeds: Count | None = None
    baselines: bool = True
    seed: Annotated[int, Field(ge=0)] = 0
    image_size: Annotated[int, Field(ge=4, le=4096)] | None = None
    image_column: str | None = None
    label_column: str | None = None
    device: str = "auto"
    devices: tuple[str, ...] = ()
    predict_latency: bool = False
    runtime: str = "onnxruntime"
    precision: str = "float32"

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        _check_metrics(metrics)
        if not metrics or len(set(metrics)) < len(metrics):
            raise ValueError(f"at least one objective, and none twice, got {list(metrics)}")
        return metrics

    @field_validator("at_most", "at_least")
    @classmethod
    def _known_limits(cls, limits: dict[str, float]) -> dict[str, float]:
        _check_metrics(limits)
        return limits

    @model_validator(mode="before")
    @classmethod
    def _some_budget(cls, given: Any) -> Any:
        if given.get("trials") is None and given.get("seconds") is None:
            return {**given, "seconds": DEFAULT_SECONDS}
        return given

    @model_validator(mode="after")
    def _supernet_needs_a_recipe(self) -> Self:
        if self.recipe is None and (self.supernet_epochs or self.supernet_of):
            raise ValueError("a supernet needs a recipe; name one, as --recipe single-path")
        return self

    @model_validator(mode="after")
    def _devices_have_the_names_asked_for(self) -> Self:
        names = {device.name for device in map(parse_device, self.devices)}
        for metric in sorted(self.metrics):
            name = metric.partition("@")[2]
            if name and name not in names:
                raise ValueError(f"{metric}: no device has that name; --device {name}=http://...")
        if self.devices and (self.runtime, self.precision) != ("onnxruntime", "float32"):
            raise ValueError("devices measure in ONNX Runtime in float32; leave out the runtime")
        if self.predict_latency and not any(m.startswith("latency_") for m in self.metrics):
            raise ValueError("latency is predicted where it is limited or optimized; it is neither")
        return self

    @model_validator(mode="after")
    def _label_noise_needs_training(self) -> Self:
        if self.recipe is not None and "val_accuracy_label_noise" in self.metrics:
            raise ValueError(
                "val_accuracy_label_noise needs a training of each trial, and networks with the "
                "weights of a supernet have none; leave out --recipe, or choose another metric"
            )
        return self

    @property
    def metrics(self) -> frozenset[str]:
        """All that is optimized or limited."""
        return frozenset({*self.objectives, *self.at_most, *self.at_least})

    @model_validator(mode="after")
    def _init_needs_no_recipe(self) -> Self:
        if self.init is not None and self.recipe is not None:
            raise ValueError(
                "a recipe trains a supernet, which cannot start from the weights of --init; "
                "leave one of them out"
            )
        if self.keep_architecture and self.init is None:
            raise ValueError("which architecture to keep? name its study, as --init STUDY")
        if self.keep_architecture and self.strategy != "auto":
            raise ValueError(
                "--keep-architecture searches nothing, so that there is nothing to do for strategy "
                f"{self.strategy!r}; leave one of them out"
            )
        return self

    @property
    def rival(self) -> bool:
        """Whether a random search of the same cost stands beside the search."""
        alone = self.keep_architecture or (self.recipe is None and self.strategy == "random")
        return self.baselines and not alone

    @property
    def study_objectives(self) -> tuple[Objective, ...]:
        """The objectives as the core knows them."""
        return tuple(Objective(metric, _goal(metric)) for metric in self.objectives)

    @property
    def study_constraints(self) -> tuple[Constraint, ...]:
        """The constraints as the core knows them."""
        return tuple(
            Constraint(
                metric,
                at_most=self.at_most.get(metric, math.inf),
                at_least=self.at_least.get(metric, -math.inf),
            )
            for metric in sorted({*self.at_most, *self.at_least})
        )

    @property
    def name(self) -> str:
        """A name for the study that is equal for equal settings: `digits-3f2a90`."""
        text = json.dumps(self.model_dump(exclude_defaults=True), sort_keys=True)
        origin = self.supernet_of or Path(self.data.removeprefix("hf:")).stem
        stem = re.sub(r"[^A-Za-z0-9]+", "-", origin).strip("-")
        return f"{stem or 'study'}-{blake2b(text.encode(), digest_size=3).hexdigest()}"


def settings_of(**given: Any) -> Settings:
    """Make settings.

    Raises:
        InvalidSettings: a value is not allowed; the message says which and what is.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        raise InvalidSettings("; ".join(map(_explained, error.errors()))) from None


def _explained(problem: Mapping[str, Any]) -> str:
    """What is wrong, with the option and the field that it is wrong with."""
    said = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return str(said)  # of several settings together
    field, *inner = map(str, problem["loc"])
    option = OPTIONS.get(field, f"--{field.replace('_', '-')}")
    if field not in Settings.model_fields or field in FROM_PYTHON:
        named = field
    else:
        named = option if option == f"--{field}" else f"{option} ({field})"
    where = ", ".join([named, *inner])
    got = "" if problem["type"] == "value_error" else f", got {problem['input']!r}"
    return f"{where}: {said}{got}"


def parse_duration(text: str) -> float:
    """Seconds of "90s", "40m", "2h" or "1h30m"; a number needs its unit, "3" could be any.

    Raises:
        InvalidSettings: it is none of these.
    """
    match = re.fullmatch(
        r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?", text.strip()
    )
    if not match or not any(match.groups()):
        raise InvalidSettings(f"duration {text!r}; write 90s, 40m, 2h or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def parse_number(text: str) -> float:
    """A number such as 300000, 3e5, 300k, 1.5M or 2G.

    Raises:
        InvalidSettings: it is none.
    """
    scale: dict[str, float] = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
    number, factor = (text[:-1], scale[text[-1]]) if text and text[-1] in scale else (text, 1.0)
    try:
        return float(number) * factor
    except ValueError:
        raise InvalidSettings(f"number {text!r}; write 300000, 3e5, 300k or 1.5M") from None


def _check_metrics(metrics: Any) -> None:
    if unknown := [metric for metric in metrics if _measured(metric) not in METRICS]:
        hints = "".join(dict.fromkeys(did_you_mean(metric, METRICS) for metric in unknown))
        there = ", ".join(sorted(METRICS))
        raise ValueError(f"unknown metrics {unknown}{hints}; there are {there}")


def _goal(metric: str) -> Literal["min", "max"]:
    return "min" if _measured(metric) in SMALL_IS_GOOD else "max"


def _measured(metric: str) -> str:
    """The metric without the name of a device: `latency_ms` of `latency_ms@pi`."""
    base, sign, name = metric.partition("@")
    return base if sign and name and base in LATENCIES else metric
