"""A recipe: how a network is trained, as one frozen value."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from parti.core.errors import InvalidSettings

if TYPE_CHECKING:
    from parti.tasks.images import SearchData

__all__ = ["Recipe", "default_recipe", "learning_rate"]

WORDS: dict[str, tuple[object, ...]] = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("one_cycle", "cosine"),
    "average": ("none", "ema", "swa"),
    "precision": ("auto", "float32", "bfloat16"),
    "compile": ("auto", True, False),
    "flip": (True, False),
    "nesterov": (True, False),
    "decay": ("weights", "all"),
}
"""The values that a field of words may have."""

WHOLE: dict[str, int] = {"epochs": 1, "batch_size": 1, "crop": 0, "cutout": 0}
"""The smallest value of each whole number."""

REAL: dict[str, tuple[float, float]] = {
    "lr": (1e-12, 100.0),
    "final_lr": (0.0, 100.0),
    "warmup": (0.0, 0.9),
    "momentum": (0.0, 0.9999),
    "weight_decay": (0.0, 10.0),
    "label_smoothing": (0.0, 0.9),
    "mixup": (0.0, 100.0),
    "clip_norm": (0.0, math.inf),
}
"""The smallest and largest value of each real number."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained. Any value may be chosen in a space of recipes.

    Args:
        epochs: passes over the training images.
        batch_size: images in a step; all of them when there are fewer. The images that do not
            fill a last batch wait for the next epoch, which shuffles anew.
        optimizer: "sgd" with momentum, or "adamw".
        lr: the highest learning rate.
        schedule: what follows the linear warm-up: "one_cycle" falls linearly to `final_lr`,
            "cosine" along a half cosine.
        warmup: share of the steps in which the learning rate rises.
        momentum: of SGD; the first beta of AdamW.
        weight_decay: of the parameters that `decay` names.
        label_smoothing: probability that the target spreads over all classes.
        flip: mirror half of the images from left to right.
        crop: shift images by up to this many pixels; the edge is repeated.
        cutout: side in pixels of a square that is blotted out with the mean colour.
        mixup: alpha of mixup's Beta distribution; 0 for none.
        average: weights to keep: "none" for the last ones, "ema" for an exponential average over
            about the last tenth of the steps, "swa" for the mean over the last quarter of epochs.
        clip_norm: the largest norm of a gradient; 0 for no limit.
        precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 on a GPU that has it.
        compile: whether to use torch.compile; "auto" for long runs on a GPU.
        final_lr: the learning rate that the schedule comes down to; at most `lr`.
        nesterov: whether SGD's momentum is Nesterov's.
        decay: what `weight_decay` applies to: "weights" spares biases and the scales of norms,
            "all" spares nothing.

    Raises:
        InvalidSettings: a value is not allowed.
    """

    epochs: int = 50
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    warmup: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    flip: bool = False
    crop: int = 0
    cutout: int = 0
    mixup: float = 0.0
    average: Literal["none", "ema", "swa"] = "none"
    clip_norm: float = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    final_lr: float = 0.0
    nesterov: bool = True
    decay: Literal["weights", "all"] = "weights"

    def __post_init__(self) -> None:
        for field in fields(self):
            reason = _objection(field.name, getattr(self, field.name))
            if reason:
                raise InvalidSettings(
                    f"recipe: {field.name}={getattr(self, field.name)!r}, but it must be {reason}"
                )
        if self.final_lr > self.lr:
            raise InvalidSettings(
                f"recipe: final_lr={self.final_lr!r}, but it must be a number up to lr={self.lr!r}"
            )


def _objection(name: str, value: object) -> str:
    """What a field must be, or nothing when the value is allowed."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in WORDS:
        allowed = any(value is word or (value == word and not number) for word in WORDS[name])
        return "" if allowed else "one of " + ", ".join(map(repr, WORDS[name]))
    if name in WHOLE:
        allowed = number and isinstance(value, int) and value >= WHOLE[name]
        return "" if allowed else f"a whole number of at least {WHOLE[name]}"
    low, high = REAL[name]
    allowed = isinstance(value, int | float) and number and low <= value <= high
    return "" if allowed else f"a number from {low:g} to {high:g}"


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of one step.

    Args:
        recipe: gives the peak, the warm-up and the schedule.
        step: 0 to steps - 1.
        steps: of the whole schedule.

    Returns:
        A rate over 0, and over `recipe.final_lr` after the warm-up, and at most `recipe.lr`.
    """
    rising = recipe.warmup * steps
    if step + 1 <= rising:
        return recipe.lr * (step + 1) / rising
    rest = (steps - step) / (steps - math.floor(rising))
    if recipe.schedule == "cosine":
        rest = (1 - math.cos(math.pi * rest)) / 2
    return recipe.final_lr + (recipe.lr - recipe.final_lr) * rest


def default_recipe(data: SearchData, epochs: int = 50) -> Recipe:
    """A recipe that trains well on images of any size and number, for long or short.

    The batch grows with the number of images and shrinks with their size, and in a short training
    it is so small that there are still some 1,000 steps, but not under 32. Images that are seen
    often enough may shift by an eighth of their side. Colour images that are at least 24 pixels
    wide are taken for photographs, which may be mirrored; smaller or grey ones (digits, letters,
    scans) may not. Photographs are blotted out in part (cutout) only where there are epochs enough
    to profit.

    Args:
        data: its sizes alone are looked at.
        epochs: of the training.
    """
    channels, height, width = data.input_shape
    side = min(height, width)
    images = len(data.train_labels)
    by_count = max(_power_of_2(images / 20), 16)
    by_steps = max(_power_of_2(images * epochs / WANTED_STEPS), 32)
    by_size = 2 ** math.floor(math.log2(max(1, MOST_PIXELS // (height * width))))
    batch_size = min(by_count, by_steps, by_size, 256)
    photographs = channels >= 3 and side >= 24
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer="adamw",
        lr=4e-3 * math.sqrt(batch_size / 64),
        weight_decay=0.05,
        label_smoothing=0.1,
        flip=photographs,
        crop=min(side // 8, 28) if epochs >= EPOCHS_FOR_CROP else 0,
        cutout=side // 4 if photographs and epochs >= EPOCHS_FOR_CUTOUT else 0,
        average="ema",
        clip_norm=5.0,
    )


def _power_of_2(number: float) -> int:
    """The power of 2 that is nearest on a logarithmic scale, at least 1."""
    return int(2 ** max(0, round(math.log2(max(number, 1)))))


WANTED_STEPS = 1_000
EPOCHS_FOR_CROP, EPOCHS_FOR_CUTOUT = 5, 15
MOST_PIXELS = 2**22
"""The most pixels in a batch of the default recipe: 64 images of 224 x 224."""
