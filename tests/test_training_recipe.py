"""Recipes: what is allowed, the schedule, and the defaults."""

from __future__ import annotations

import math
from dataclasses import fields
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from parti.core.errors import InvalidSettings
from parti.evaluators.learner import make_optimizer
from parti.evaluators.recipe import Recipe, default_recipe, learning_rate

BAD = {
    "epochs": [0, 2.0, True, "3"],
    "batch_size": [0, -1, 1.5],
    "optimizer": ["adam", None, 1],
    "lr": [0.0, -0.1, math.nan, math.inf, "0.1"],
    "schedule": ["step", True],
    "warmup": [-0.1, 1.0],
    "momentum": [-0.1, 1.0],
    "weight_decay": [-1e-4, math.nan],
    "label_smoothing": [-0.1, 1.0],
    "flip": [1, 0, "yes", None],
    "crop": [-1, 0.5],
    "cutout": [-1, 2.5],
    "mixup": [-0.1, math.inf],
    "average": ["mean", False],
    "clip_norm": [-1.0, math.nan, True],
    "precision": ["float16", 16],
    "compile": ["yes", 1, None],
    "final_lr": [-0.1, 0.2, math.nan],
    "nesterov": ["yes", 1, None],
    "decay": ["norms", True],
}


def test_every_field_is_checked() -> None:
    assert set(BAD) == {field.name for field in fields(Recipe)}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_bad_values_are_refused_with_what_is_allowed(name: str, value: object) -> None:
    with pytest.raises(InvalidSettings, match=rf"recipe: {name}=.* must be (one of|a )"):
        Recipe(**{name: value})


def test_good_values_are_taken() -> None:
    Recipe(lr=1, momentum=0, compile=True, flip=True, mixup=1, average="swa", precision="bfloat16")


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_the_learning_rate_comes_down_to_the_final_one(schedule: str) -> None:
    recipe = Recipe(schedule=schedule, warmup=0.0, lr=0.5, final_lr=0.1)
    rates = [learning_rate(recipe, step, 1000) for step in range(1000)]
    assert rates[0] == 0.5
    assert min(rates) == rates[-1] == pytest.approx(0.1, abs=1e-3)


def test_what_decays_and_how_momentum_is_taken_follow_the_recipe() -> None:
    network = nn.Linear(2, 2)
    usual = make_optimizer(network, Recipe(weight_decay=0.1)).param_groups
    assert [group["weight_decay"] for group in usual] == [0.1, 0.0]
    assert all(group["nesterov"] for group in usual)
    (group,) = make_optimizer(
        network, Recipe(weight_decay=0.1, decay="all", nesterov=False)
    ).param_groups
    assert group["weight_decay"] == 0.1
    assert not group["nesterov"]


@given(
    st.sampled_from(["one_cycle", "cosine"]),
    st.floats(0, 0.9),
    st.integers(1, 300),
)
def test_the_learning_rate_rises_and_then_falls(schedule: str, warmup: float, steps: int) -> None:
    recipe = Recipe(schedule=schedule, warmup=warmup, lr=0.5)
    rates = [learning_rate(recipe, step, steps) for step in range(steps)]
    assert all(0 < rate <= 0.5 for rate in rates)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert max(rates) == pytest.approx(0.5)
    assert peak <= math.ceil(warmup * steps)


@pytest.mark.parametrize(
    ("train", "side", "channels", "batch", "crop", "flip"),
    [
        (1260, 8, 1, 64, 1, False),
        (2000, 28, 1, 128, 3, False),
        (2000, 32, 3, 128, 4, True),
        (300, 224, 3, 16, 28, True),
        (1_000_000, 224, 3, 64, 28, True),
        (50_000, 32, 3, 256, 4, True),
        (12, 8, 3, 16, 1, False),
    ],
)
def test_defaults_follow_the_data(
    train: int, side: int, channels: int, batch: int, crop: int, flip: bool
) -> None:
    data = SimpleNamespace(input_shape=(channels, side, side), train_labels=range(train))
    recipe = default_recipe(data)
    assert (recipe.batch_size, recipe.crop, recipe.flip) == (batch, crop, flip)


def test_short_trainings_take_more_steps_and_augment_less() -> None:
    data = SimpleNamespace(input_shape=(3, 32, 32), train_labels=range(42_500))
    short, middle, long = (default_recipe(data, epochs) for epochs in (1, 5, 100))
    assert (short.batch_size, middle.batch_size, long.batch_size) == (32, 256, 256)
    assert (short.crop, middle.crop, long.crop) == (0, 4, 4)
    assert (short.cutout, middle.cutout, long.cutout) == (0, 0, 8)
    assert [r.epochs for r in (short, middle, long)] == [1, 5, 100]
