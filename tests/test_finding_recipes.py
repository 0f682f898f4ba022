"""The main job with a supernet: train it, search with it, take further networks from it."""

import json
import math
import subprocess
from dataclasses import replace
from html import escape
from pathlib import Path
from random import Random

import numpy as np
import pytest

import parti
from parti.core.errors import InvalidSettings, SpaceError, StoreError
from parti.core.trial import State
from parti.evaluators.recipe import Recipe
from parti.finding import Silent, specialize
from parti.finding.desk import Desk
from parti.finding.given import Given
from parti.finding.plan import seconds_for_a_final, shares
from parti.finding.settings import settings_of
from parti.finding.sharing import recipe_of
from parti.finding.supernet_plan import (
    FEWEST_SEEN,
    Rehearsed,
    SupernetPlan,
    fitted,
    halved,
    plan_supernet,
    rehearse,
    watched,
)
from parti.finding.supernet_stages import train_supernet
from parti.loop import Progress
from parti.recipes import RECIPES
from parti.recipes.recipe import Stage, SupernetRecipe
from parti.stores import open_store
from parti.supernets.share import Relaxed
from test_command_line import ENVIRONMENT, comparable, last_line
from test_command_line import command as program
from test_command_line import parti as command
from test_finding import stripes
from training_makers import toy_data

HERE = Path(__file__).parent
TINY, CELL = f"{HERE / 'tiny_space.py'}:tiny", f"{HERE / 'tiny_cell.py'}:tiny_cell"
QUICK = {"epochs": 1, "final_epochs": 2, "finalists": 2, "watcher": Silent()}


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/s.db"


# --- a supernet that is searched ---


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> tuple[Path, parti.finding.Found]:
    folder = tmp_path_factory.mktemp("searched")
    found = parti.find(
        stripes(), space=TINY, recipe="single-path", supernet_epochs=4, trials=8, study="one",
        at_most={"params": 2500}, store=url(folder), **QUICK,
    )  # fmt: skip
    return folder, found


def test_the_supernet_is_the_one_trial_of_its_stage(searched) -> None:
    folder, found = searched
    store = open_store(url(folder))
    (trial,), _ = store.trials("one/supernet")
    assert trial.state is State.DONE
    assert [m.step for m in trial.measurements] == [1, 2, 3, 4]
    assert store.studies()[0] == "one"  # it is kept before, so that it can be resumed by name
    supernet = found.to_dict()["supernet"]
    assert (supernet["recipe"], supernet["epochs"], supernet["inherits"]) == (
        "single-path",
        4,
        True,
    )
    assert supernet["curves"]["val_accuracy"] == [
        t.metrics["val_accuracy"] for t in trial.measurements
    ]
    assert found.to_dict()["cost"]["supernet_seconds"] > 0


def test_trials_inherit_weights_once_they_keep_to_the_limits(searched) -> None:
    _, found = searched
    done = [t for t in found.trials if t.state is State.DONE]
    assert len(done) == 8
    assert found.to_dict()["strategy"]["name"] == "evolution"
    for trial in found.trials:
        assert "train_loss" not in trial.metrics
        assert ("val_accuracy" in trial.metrics) is (trial.metrics["params"] <= 2500)


def test_random_search_trains_its_networks_and_shows_how_well_inherited_ones_rank(searched) -> None:
    folder, found = searched
    store = open_store(url(folder))
    alone = [t for t in store.trials("one/random")[0] if t.state is State.DONE]
    assert alone
    assert all("train_loss" in t.metrics for t in alone)
    again, _ = store.trials("one/agreement")
    rows = found.to_dict()["supernet"]["agreement"]
    if len(alone) > 1:
        assert {t.architecture for t in again} == {t.architecture for t in alone}
        assert rows[-1]["n"] == len(again)
    assert rows[0]["what"].startswith("finalists")
    assert all(-1 <= row["kendall"] <= 1 for row in rows if row["kendall"] is not None)


def test_finalists_are_trained_from_scratch_and_tested_once(searched) -> None:
    _, found = searched
    result = found.to_dict()
    assert result["test_openings"] == 1
    assert found.test_accuracy > 0.8
    assert [b["kind"] for b in found.baselines] == ["search", "fixed"]
    assert result["best"]["epochs"] == 2
    page = found.report.read_text(encoding="utf-8")
    paper = escape(recipe_of("single-path").paper)
    for said in ("The supernet", paper, "measured 8 networks with its weights",
                 "How well inherited weights rank", "opened once"):  # fmt: skip
        assert said in page


def test_another_limit_needs_no_other_supernet(searched) -> None:
    folder, found = searched
    store = open_store(url(folder))
    opened = [
        specialize(
            "one", data=stripes(), at_most={"params": most}, trials=5, final_epochs=2,
            finalists=2, store=url(folder), watcher=Silent(),
        )
        for most in (1200, 600)
    ]  # fmt: skip
    for number, (other, most) in enumerate(zip(opened, (1200, 600), strict=True), start=2):
        assert other.best["params"] <= most
        result = other.to_dict()
        assert result["test_openings"] == number
        assert result["supernet"]["study"] == "one"
        assert other.baselines == []
        assert f"{other.study}/supernet" not in store.studies()
        assert f"opened for the {number}{'nd' if number == 2 else 'rd'} time" in (
            other.report.read_text(encoding="utf-8")
        )
        same = np.load(folder / "one/splits.npz")
        assert not (other.folder / "splits.npz").exists()
        assert len(same["test"]) == other.best["metrics"]["n"]
    assert found.study == "one"


def test_tuning_begins_with_the_weights_that_are_inherited(searched, monkeypatch) -> None:
    """One epoch at almost no learning rate leaves the accuracy that the search has measured."""
    folder, _ = searched
    monkeypatch.setattr("parti.finding.tuning.TUNED_LR", 1e-6)
    found = specialize(
        "one", data=stripes(), at_most={"params": 2000}, trials=3, final_epochs=1, finalists=1,
        store=url(folder), watcher=Silent(), name="still",
    )  # fmt: skip
    (finalist,) = found.to_dict()["finalists"]
    assert finalist["val_accuracy"] == pytest.approx(finalist["search_val_accuracy"], abs=0.15)


def test_what_cannot_be_specialized(searched, tmp_path: Path) -> None:
    folder, _ = searched
    with pytest.raises(InvalidSettings, match="was given from Python; give data="):
        specialize("one", store=url(folder))
    store = open_store(url(tmp_path))
    plain = settings_of(data="digits", trials=2)
    desk = Desk(plain, Given("digits"), "plain", store, tmp_path, 1, Silent())
    store.create(desk.study("", budget=parti.Budget(), seed=0))
    with pytest.raises(InvalidSettings, match=r"no supernet.*--recipe single-path"):
        specialize("plain", store=url(tmp_path))
    shared = settings_of(data="digits", trials=2, recipe="single-path")
    desk = Desk(shared, Given("digits"), "begun", store, tmp_path, 1, Silent())
    store.create(desk.study("", budget=parti.Budget(), seed=0))
    with pytest.raises(StoreError, match="parti resume begun"):
        specialize("begun", store=url(tmp_path), watcher=Silent())


# --- a supernet that says itself what is best ---


@pytest.fixture(scope="module")
def derived(tmp_path_factory) -> tuple[Path, parti.finding.Found]:
    folder = tmp_path_factory.mktemp("derived")
    found = parti.find(
        stripes(160), space=CELL, recipe="darts", supernet_epochs=2, trials=3, baselines=False,
        study="two", store=url(folder), **QUICK,
    )  # fmt: skip
    return folder, found


def test_what_is_derived_is_trained_briefly_then_in_full(derived) -> None:
    folder, found = derived
    assert found.to_dict()["strategy"] == {"name": "strongest", "arguments": {"k": 3}}
    assert len(found.trials) == 3
    assert all("train_loss" in t.metrics for t in found.trials)  # no plain network has its weights
    assert not found.to_dict()["supernet"]["inherits"]
    best = found.to_dict()["supernet"]["derived"]["architecture"]
    assert parti.Architecture(best) == found.trials[0].architecture
    with pytest.raises(InvalidSettings, match="relaxed by recipe 'darts' for gradients"):
        specialize("two", data=stripes(160), store=url(folder), watcher=Silent())


def test_the_course_of_architecture_parameters_is_kept_and_drawn(derived) -> None:
    _, found = derived
    supernet = found.to_dict()["supernet"]
    rows = supernet["trajectories"]
    assert rows
    for row in rows:
        assert np.shape(row["probabilities"]) == (2, len(row["options"]))
    assert {"entropy", "val_accuracy", "train_loss"} <= supernet["curves"].keys()
    page = found.report.read_text(encoding="utf-8")
    assert "Architecture parameters" in page
    assert supernet["derived"]["genotype"] in page.replace("&lt;", "<").replace("&gt;", ">")


# --- going on ---


class Stop(Silent):
    """Interrupts at an epoch of the supernet."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def progress(self, progress: Progress) -> None:
        """Look at what was measured."""
        supernet = progress.study.name.endswith("/supernet")
        if supernet and progress.latest and progress.latest[1].step == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("recipe", ["single-path", "darts"])
def test_stopped_in_its_training_a_supernet_goes_on(recipe: str, tmp_path: Path) -> None:
    asked = settings_of(data="stripes", space=CELL, recipe=recipe, supernet_epochs=3, trials=1)

    def train(folder: Path, watcher: Silent) -> parti.Trial:
        folder.mkdir(exist_ok=True)
        store = open_store(url(folder))
        desk = Desk(asked, Given(stripes(120)), "s", store, folder / "s", 1, watcher)
        assert desk.shared is not None
        return train_supernet(desk, desk.shared)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "a", Stop(2))
    assert "s" in open_store(url(tmp_path / "a")).studies()
    resumed, whole = train(tmp_path / "a", Silent()), train(tmp_path / "b", Silent())
    assert [m.metrics for m in resumed.measurements] == [m.metrics for m in whole.measurements]


RECIPE = [
    *("search", "digits", "--recipe", "single-path", "--supernet-epochs", "12", "--trials", "6"),
    *("--space", TINY, "--epochs", "1", "--final-epochs", "2", "--finalists", "2"),
    *("--no-baselines", "--study", "killed", "--json"),
]


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_in_the_same_result(tmp_path: Path) -> None:
    random, kills = Random(1), 0
    (tmp_path / "whole").mkdir()
    whole = last_line(command(*RECIPE, folder=tmp_path / "whole"))
    while True:
        process = subprocess.Popen(
            program(*RECIPE), cwd=tmp_path, env=ENVIRONMENT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=random.uniform(4, 9) if kills < 8 else 300)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0
        break
    assert kills >= 3
    assert comparable(json.loads(out.strip().splitlines()[-1])) == comparable(whole)


# --- errors before the first training step ---


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"recipe": "magic"}, InvalidSettings, "no recipe 'magic'; choose one of darts"),
        ({"recipe": "parti.core.study:Budget"}, InvalidSettings, "give a SupernetRecipe"),
        ({"recipe": "darts", "strategy": "random"}, InvalidSettings, "says itself"),
        ({"recipe": "single-path", "strategy": "asha"}, InvalidSettings, "longer and longer"),
        ({"supernet_epochs": 3}, InvalidSettings, "needs a recipe"),
        ({"recipe": "darts", "space": TINY}, InvalidSettings, "gradients cannot decide values"),
    ],
)
def test_what_does_not_go_together_is_said_before_training(
    asked: dict, error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        parti.find(
            stripes(120), **{"space": CELL, **asked}, trials=2, store=url(tmp_path),
            watcher=Silent(),
        )  # fmt: skip
    assert not list(tmp_path.rglob("trials"))


def test_a_layer_that_cannot_be_shared_is_named_before_training(tmp_path: Path) -> None:
    from torch import nn

    class Own(nn.Conv2d):
        """Not torch's own."""

    @parti.space
    def stubborn(in_channels: int, classes: int) -> nn.Module:
        width = parti.choose("width", [4, 8])
        return nn.Sequential(
            Own(in_channels, width, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, classes),
        )

    with pytest.raises(SpaceError, match=r"Own .*is built with an elastic value"):
        parti.find(
            stripes(120), space=stubborn, recipe="single-path", trials=2, store=url(tmp_path),
            watcher=Silent(),
        )  # fmt: skip
    assert not list(tmp_path.rglob("trials"))


# --- the plan ---

PAPER = SupernetRecipe(
    name="paper",
    paper="",
    step="",
    training=Recipe(epochs=50, batch_size=256, lr=0.4, final_lr=0.04, flip=True, crop=4, cutout=16),
    held=0.5,
    relaxed=Relaxed(partial=4),
    sizes={"channels": 36, "cells": 20, "classes": 10},
    stages=(Stage({"cells": 5}), Stage({"cells": 17}, relaxed=Relaxed(partial=6))),
)


def planned(
    folder: Path, per_step: float, fixed: float = 0.0, per_image: float = 0.0, **asked
) -> SupernetPlan:
    """The plan for 640 images of 32 pixels, where a step takes so long at full size.

    So does an image in training one network.
    """
    data = toy_data(train=640, side=32)

    def rehearsed(recipe: SupernetRecipe, steps: int) -> Rehearsed:
        share = recipe.sizes["channels"] * recipe.sizes["cells"] / (36 * 20)
        return Rehearsed(steps * per_step * share, fixed)

    def trained(recipe: SupernetRecipe) -> float:
        return per_image * recipe.sizes["channels"] * recipe.sizes["cells"] / (36 * 20)

    settings = settings_of(data="toy", recipe="darts", **asked)
    return plan_supernet(settings, PAPER, data, rehearsed, trained, folder / "plan.json")


def test_the_training_of_a_supernet_fits_into_its_time(tmp_path: Path) -> None:
    data = toy_data(train=640, side=32)
    for per_step, fixed in ((0.01, 0.0), (0.3, 1.0), (2.0, 0.0), (500.0, 5.0)):
        plan = planned(tmp_path / f"{per_step}", per_step, fixed, seconds=1000.0)
        smaller = halved(PAPER, plan.halvings)
        batch = fitted(PAPER, data, 2).training.batch_size
        share = smaller.sizes["channels"] * smaller.sizes["cells"] / (36 * 20)
        steps = plan.epochs * plan.images * 0.5 / batch
        cost = plan.epochs * fixed + steps * per_step * share
        least = plan.epochs == 2
        assert cost <= 260 or least
        seen = plan.epochs * plan.images
        assert seen >= FEWEST_SEEN or halved(PAPER, plan.halvings + 1) == smaller


def test_networks_that_cannot_be_trained_in_the_end_are_made_smaller(tmp_path: Path) -> None:
    """1000 seconds: 320 after search and baselines, less 122 for the rest, for three networks."""
    each = 0.95 * (320 - 30 - 92) / 3
    found = []
    for per_image in (1e-4, 0.9 * each / 20_000, 2.0 * each / 20_000, 1.0):
        plan = planned(tmp_path / f"{per_image}", 1e-4, per_image=per_image, seconds=1000.0)
        found.append(plan.halvings)
    smallest = next(n for n in range(9) if halved(PAPER, n) == halved(PAPER, n + 1))
    assert found == [0, 0, 1, smallest]
    asked = {"seconds": 1000.0, "final_epochs": 3}
    assert planned(tmp_path / "3", 1e-4, per_image=1.0, **asked).halvings == 0
    asked = {"seconds": 40.0}  # the rest takes all of it
    assert planned(tmp_path / "40", 1e-9, per_image=0.0, **asked).halvings == smallest


def test_the_time_of_a_final_training_is_shared_by_what_is_trained_in_turn() -> None:
    def of(workers: int, **asked: object) -> float:
        settings = settings_of(data="toy", recipe="darts", seconds=1000.0, **asked)
        return seconds_for_a_final(settings, workers)

    alone = 0.95 * (320 - 30 - 92)
    assert of(1) == pytest.approx(alone / 3)  # the winner, that of random search, a fixed network
    assert of(2) == pytest.approx(alone / 2)
    assert of(3) == of(9) == pytest.approx(alone)
    assert of(1, seeds=3) == pytest.approx(alone / 9)
    assert of(1, finalists=2) == pytest.approx(alone / 5)
    assert of(1, baselines=False) == pytest.approx(0.95 * (360 - 92))


def test_few_epochs_are_rounded_and_fill_the_time_with_a_part_of_the_images(tmp_path: Path) -> None:
    data = toy_data(train=6400, side=32)
    recipe = replace(PAPER, stages=(), held=0.0)
    settings = settings_of(data="toy", recipe="darts", seconds=1000.0)
    time = 0.9 * 1000 * shares(settings).supernet
    for fit, epochs in ((1.4, 1), (1.6, 2), (3.7, 4), (7.9, 7)):

        def rehearsed(recipe: SupernetRecipe, steps: int, each: float = time / fit / 6400):
            return Rehearsed(steps * recipe.training.batch_size * each, 0.0)

        file = tmp_path / f"{fit}.json"
        plan = plan_supernet(settings, recipe, data, rehearsed, lambda recipe: 0.0, file)
        assert plan.epochs == epochs
        part = 1.0 if epochs < fit else fit / epochs
        assert plan.images == pytest.approx(part * 6400, rel=0.01)


def test_longer_epochs_are_rehearsed_where_a_few_steps_tell_little(tmp_path: Path) -> None:
    data, told = toy_data(train=6400, side=32), []
    endless = replace(PAPER.training, epochs=10_000)
    recipe = replace(PAPER, stages=(), held=0.0, training=endless)

    def rehearsed(recipe: SupernetRecipe, steps: int) -> Rehearsed:
        """The first steps meet dear paths; larger batches take longer, and less for an image."""
        batch = recipe.training.batch_size
        told.append((batch, steps))
        return Rehearsed(2e-3 * math.sqrt(batch) * (steps + 7 * (steps >= 4)), 0.4)

    def plan(budget: float) -> SupernetPlan:
        settings = settings_of(data="toy", recipe="single-path", seconds=budget)
        file = tmp_path / f"{budget}.json"
        return plan_supernet(settings, recipe, data, rehearsed, lambda recipe: 0.0, file)

    epochs = plan(2000.0).epochs
    small, large = (fitted(recipe, data, n).training.batch_size for n in (1, epochs))
    assert small < large
    quick = (1, 4, 16, 64)
    assert told == [(small, n) for n in quick] + [(large, n) for n in quick if n * large <= 6400]
    share = 0.9 * 2000 * shares(settings_of(data="toy", recipe="single-path")).supernet
    took = epochs * (2e-3 * math.sqrt(large) * 6400 / large + 0.4)
    assert 0.7 * share <= took <= share
    told.clear()
    plan(60.0)
    assert {steps for _, steps in told} == {1, 4}


def test_where_looking_takes_long_the_search_looks_at_fewer_images(tmp_path: Path) -> None:
    asked = {"seconds": 1000.0}
    look = 1000.0 * shares(settings_of(data="toy", recipe="darts", **asked)).search / 50
    for end, images in ((0.1, 2000), (look, 2000), (2 * look, 1000), (100 * look, 500)):
        data = toy_data(train=640, val=2400, side=32)

        def rehearsed(recipe: SupernetRecipe, steps: int, end: float = end) -> Rehearsed:
            return Rehearsed(0.1 * steps, end)

        plan = plan_supernet(
            settings_of(data="toy", recipe="darts", **asked), PAPER, data, rehearsed,
            lambda recipe: 0.0, tmp_path / f"{end}.json",
        )  # fmt: skip
        assert plan.looked_at == images


def test_a_rehearsal_tells_what_an_epoch_of_all_images_ends_with(tmp_path: Path) -> None:
    """Statistics and validation take as long as with all images, though few are looked at."""
    data = toy_data(train=512, val=256, side=8)
    looked = []

    class Trained:
        def __init__(self, few, recipe: SupernetRecipe) -> None:
            self.few, self.epochs = few, recipe.training.epochs

        def rehearse(self):
            looked.append((len(self.few.train_labels), len(self.few.val_labels)))
            seconds = 0.01 * (len(self.few.train_labels) + len(self.few.val_labels))
            yield from [(5.0, 50.0), (0.5, seconds)] * (self.epochs // 2)

    recipe = fitted(replace(PAPER, held=0.0), data, 2)
    batch = recipe.training.batch_size
    for steps in (1, 4):
        found = rehearse(Trained, recipe, data, steps)
        assert looked.pop() == (steps * batch, steps * batch // 2)
        assert found.steps == 0.5
        assert found.end == pytest.approx(0.01 * (512 + 256))
    many = toy_data(train=64, val=2500, side=4)
    assert len(watched(many, seed=0).val_labels) == 2000
    assert len(watched(many, seed=0).train_labels) == 64


def test_a_plan_follows_what_was_asked_and_is_kept(tmp_path: Path) -> None:
    assert planned(tmp_path / "a", 1.0, trials=5) == SupernetPlan(50, 640, 0)
    assert planned(tmp_path / "b", 1.0, trials=5, supernet_epochs=7).epochs == 7
    assert planned(tmp_path / "c", 9.0, seconds=10, supernet_epochs=1).epochs == 2  # two stages
    assert planned(tmp_path / "a", 1.0, seconds=10) == SupernetPlan(50, 640, 0)


def test_sizes_are_halved_as_far_as_partial_channels_allow() -> None:
    sizes = [dict(halved(PAPER, times).sizes) for times in range(4)]
    assert [(s["channels"], s["cells"]) for s in sizes] == [(36, 20), (24, 10), (12, 5), (12, 3)]
    assert all(s["classes"] == 10 for s in sizes)
    assert [stage.sizes["cells"] for stage in halved(PAPER, 1).stages] == [3, 9]


def test_a_recipe_follows_the_data() -> None:
    data = toy_data(train=640, side=8)
    training = fitted(PAPER, data, 9).training
    assert training.epochs == 9
    assert training.batch_size < 256
    assert training.lr / training.final_lr == pytest.approx(10)
    assert training.lr / 0.4 == pytest.approx(training.batch_size / 256)
    assert not training.flip
    assert training.crop <= 1
    assert training.cutout == 0
    photographs = toy_data(train=640, side=96)
    assert fitted(PAPER, photographs, 9).training.crop == 12
    plain = replace(PAPER, training=replace(PAPER.training, crop=0))
    assert fitted(plain, photographs, 9).training.crop == 0
    large = replace(PAPER, training=replace(PAPER.training, batch_size=16))
    assert fitted(large, data, 9).training.batch_size == 16
    assert fitted(large, data, 9).training.lr == 0.4


# --- the command line ---


def test_recipes_are_listed_with_their_papers(tmp_path: Path) -> None:
    rows = last_line(command("recipes", "--json", folder=tmp_path))["recipes"]
    assert [row["recipe"] for row in rows] == list(RECIPES)
    assert all(row["paper"] for row in rows)


def test_every_recipe_shifts_photographs_where_it_is_trained_for_long() -> None:
    data = toy_data(train=640, side=32)
    assert {fitted(recipe_of(name), data, 50).training.crop for name in RECIPES} == {4}


def test_every_named_recipe_has_that_name() -> None:
    for name in RECIPES:
        assert recipe_of(name).name == name


def test_a_search_and_a_specialization_from_the_command_line(tmp_path: Path) -> None:
    options = ["--space", TINY, "--epochs", "1", "--final-epochs", "1", "--finalists", "1"]
    search = ["search", "digits", "--recipe", "single-path", "--supernet-epochs", "2"]
    done = command(
        *search, *options, "--trials", "4", "--no-baselines", "--study", "one", "--json",
        folder=tmp_path,
    )  # fmt: skip
    assert last_line(done)["cost"]["trials"] == 4
    assert "training the supernet: single-path, 2 epoch(s)" in done.stderr
    row = last_line(command("status", "one", "--json", folder=tmp_path))
    assert row["supernet_epochs"] == 2
    limits = ["--max", "params=1500", "--trials", "3", "--tune-epochs", "1", "--finalists", "1"]
    again = command("specialize", "one", *limits, "--study", "two", "--json", folder=tmp_path)
    best = last_line(again)["best"]
    assert best["params"] <= 1500
    assert math.isfinite(best["test_accuracy"])
    card = (tmp_path / "parti-studies/two/model/model.json").read_text()
    assert "opened for the 2nd time" in json.dumps(json.loads(card))
