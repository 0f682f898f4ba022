"""Every recipe, killed in the middle of its epochs, ends as if nothing had been."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from parti.core.architecture import Architecture
from parti.core.plugins import load
from parti.core.program import space
from parti.core.trial import Job
from parti.core.words import choose, repeat
from parti.evaluators.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from parti.networks.blocks import inverted_residual
from parti.networks.heads import assemble, head, stem
from parti.recipes import RECIPES
from parti.recipes.recipe import SupernetRecipe
from parti.recipes.training import SupernetTraining, load_supernet
from parti.supernets.derive import derive
from parti.supernets.share import Relaxed
from recipe_makers import planted
from training_makers import toy_data

ELASTIC = ("once-for-all", "bignas")
OPTIONS = {
    "enas": {"updates": 2, "aggregate": 2, "candidates": 2},
    "robust-darts": {"products": 2},
    "fbnet": {"every": 5},  # does not divide the places at which it is killed
}


@space
def elastic() -> nn.Module:
    def block(_: int) -> nn.Module:
        expansion, kernel = choose("expansion", [2, 3]), choose("kernel", [3, 5])
        return inverted_residual(4, 4, kernel, expansion=expansion, shortcut=True)

    body = repeat("depth", block, [1, 2])
    return assemble({"stem": stem(1, 4), "body": body, "head": head(4, 2)})


def brief(name: str) -> SupernetRecipe:
    """The recipe, for two epochs of some 20 steps, or as many as it has stages."""
    recipe: SupernetRecipe = load("recipe", name, RECIPES)
    epochs, batch = max(2, len(recipe.stages)), 4 if recipe.held else 7
    training = replace(
        recipe.training, epochs=epochs, batch_size=batch, crop=0, precision="float32"
    )
    options = {**recipe.options, **OPTIONS.get(name, {})}
    if "warm_up" in options:
        options["warm_up"] = 0.0
    parts = (2, 1) if name.startswith("drnas") else (1, 1, 1)
    stages = tuple(
        replace(stage, relaxed=replace(recipe.relaxed, partial=part))
        for stage, part in zip(recipe.stages, parts, strict=False)
    )
    return replace(
        recipe,
        training=training,
        options=options,
        stages=stages,
        held=0.5 if recipe.held else 0.0,
    )


def flat(value: object) -> list[Tensor | object]:
    """Everything in nested containers, in order."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in (key, *flat(value[key]))]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in flat(item)]
    return [value]


class Killed(BaseException):
    """No handler of exceptions sees it."""


@pytest.mark.parametrize("name", RECIPES)
def test_killed_in_the_middle_of_epochs_it_ends_as_if_nothing_had_been(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, places = brief(name), set[tuple[int, int]]()
    program = elastic if name in ELASTIC else planted(1, 2)

    def train(folder: str) -> list[dict[str, float]]:
        training = SupernetTraining(
            program, toy_data(140), recipe, device="cpu", threads=1, save_every=0.0
        )
        job = Job(Architecture({}), seed=3, workdir=tmp_path / folder)
        return [dict(measured.metrics) for measured in training(job)]

    def save_and_die(folder: Path, checkpoint: Checkpoint) -> None:
        save_checkpoint(folder, checkpoint)
        place = checkpoint.training["epoch"], checkpoint.training["place"]
        if place[1] == 16 and place not in places:
            places.add(place)
            raise Killed

    whole = train("whole")
    monkeypatch.setattr("parti.recipes.training.save_checkpoint", save_and_die)
    for epoch in range(recipe.training.epochs):
        with pytest.raises(Killed):
            train("parts")
        assert (epoch, 16) in places
    assert train("parts") == whole
    one, other = (load_checkpoint(tmp_path / folder).training for folder in ("whole", "parts"))
    for key in ("network", "optimizer", "step", "probabilities"):
        for mine, theirs in zip(flat(one[key]), flat(other[key]), strict=True):
            same = torch.equal(mine, theirs) if isinstance(mine, Tensor) else mine == theirs
            assert same, key
    if recipe.derives:
        loaded = (load_supernet(program, recipe, tmp_path / f) for f in ("whole", "parts"))
        mine, theirs = (derive(program, trained.probabilities) for trained in loaded)
        assert mine == theirs


def test_what_has_no_time_left_stops_after_its_epoch(tmp_path: Path) -> None:
    recipe, data = brief("darts"), toy_data(140)
    job = Job(Architecture({}), workdir=tmp_path)

    def train(seconds: float | None) -> list[int]:
        training = SupernetTraining(planted(1, 2), data, recipe, device="cpu", seconds=seconds)
        return [measured.step for measured in training(job)]

    assert train(1e-9) == [1]
    assert load_checkpoint(tmp_path).training["done"]
    assert load_supernet(planted(1, 2), recipe, tmp_path).probabilities
    assert train(None) == [1]  # what has ended has ended
    (tmp_path / "checkpoint.pt").unlink()
    assert train(1e9) == [1, 2]


def test_what_would_be_derived_is_judged_by_all_metrics() -> None:
    recipe = replace(brief("darts"), relaxed=Relaxed())
    training = SupernetTraining(planted(1, 2), toy_data(140), recipe, device="cpu")
    (*_, last) = training(Job(Architecture({})))
    assert {"train_loss", "val_accuracy", "val_f1", "val_auc", "val_loss"} <= training.provides
    assert training.provides - last.metrics.keys() <= {"val_auc"}
