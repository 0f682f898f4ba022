"""What is known of a supernet while it is trained, and what searches it afterwards."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from parti.core.errors import InvalidSettings
from parti.core.study import Objective
from parti.finding import Silent
from parti.finding.described import supernet_so_far
from parti.finding.desk import Desk
from parti.finding.given import Given
from parti.finding.settings import settings_of
from parti.finding.sharing import recipe_of
from parti.finding.strategy import strategy_name
from parti.finding.supernet_plan import LATEST, SupernetPlan, longest
from parti.finding.supernet_stages import doubt_of, judged_by, train_supernet
from parti.finding.tuning import run_specialized
from parti.loop import Progress
from parti.stores import open_store
from test_finding import stripes
from test_finding_recipes import CELL, TINY


def desk_of(folder: Path, watcher: Silent | None = None, **asked: object) -> Desk:
    store = open_store(f"sqlite:///{folder}/s.db")
    settings = settings_of(**{"data": "stripes", "trials": 1, **asked})
    return Desk(settings, Given(stripes(120)), "s", store, folder / "s", 1, watcher or Silent())


class Stop(Silent):
    """Interrupts after the first epoch of the supernet."""

    def progress(self, progress: Progress) -> None:
        """Look at what was measured."""
        if progress.latest is not None:
            raise KeyboardInterrupt


def test_a_supernet_is_described_while_it_is_trained(tmp_path: Path) -> None:
    asked = {"space": CELL, "recipe": "darts", "supernet_epochs": 2}
    desk = desk_of(tmp_path, Stop(), objectives=("val_f1", "params"), **asked)
    folder = tmp_path / "s"
    assert supernet_so_far(desk.store, desk.study("", budget=None, seed=0), folder) is None
    with pytest.raises(KeyboardInterrupt):
        train_supernet(desk, desk.shared)
    assert desk.store.study("s/supernet").objectives == (Objective("val_f1", "max"),)
    found = supernet_so_far(desk.store, desk.store.study("s"), folder)
    assert found["running"]
    assert (found["recipe"], found["epochs"], found["planned_epochs"]) == ("darts", 1, 2)
    assert found["paper"].startswith("Liu")
    assert 0 <= found["curves"]["val_f1"][0] <= 1
    train_supernet(desk_of(tmp_path, objectives=("val_f1", "params"), **asked), desk.shared)
    done = supernet_so_far(desk.store, desk.store.study("s"), folder)
    assert (done["running"], done["epochs"], done["training"]["epochs"]) == (False, 2, 2)
    assert done["held"] == 0.5


@pytest.mark.parametrize(
    ("recipe", "why"),
    [("pc-darts", "relaxed by recipe 'pc-darts' for gradients"),
     ("random-sampling", "by recipe 'random-sampling', the search network of DARTS")],
)  # fmt: skip
def test_supernets_without_plain_networks_are_not_specialized(recipe: str, why: str) -> None:
    shared = SimpleNamespace(extractable=False, recipe=recipe_of(recipe))
    desk = SimpleNamespace(shared=shared, settings=SimpleNamespace(supernet_of="study"))
    with pytest.raises(InvalidSettings, match=f"'study' .*{why}.*; search with single-path"):
        run_specialized(desk)


def test_a_supernet_that_sees_little_is_doubted() -> None:
    assert doubt_of(SupernetPlan(epochs=10, images=3_000)) is None
    assert "29,990 images in 10 epochs," in (doubt_of(SupernetPlan(epochs=10, images=2_999)) or "")
    told = [doubt_of(SupernetPlan(5, 99_999), timed=timed) or "" for timed in (True, False)]
    assert ["--budget" in each for each in told] == [True, False]
    assert all("more --supernet-epochs" in each for each in told)
    assert "40,000 images in 1 epoch," in (doubt_of(SupernetPlan(epochs=1, images=40_000)) or "")


def test_objectives_that_a_supernet_cannot_measure_leave_accuracy(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, space=TINY, recipe="single-path", supernet_epochs=1)
    inherited = desk.shared.inherited()
    for asked, judges in (
        (("params",), ["val_accuracy"]),
        (("val_auc", "macs", "val_loss"), ["val_auc", "val_loss"]),
    ):
        settings = settings_of(data="stripes", trials=1, objectives=asked)
        assert [o.metric for o in judged_by(settings, inherited)] == judges


@pytest.mark.parametrize(
    ("recipe", "searched_by"),
    [("random-sampling", "random"), ("single-path", "evolution"), ("darts", "strongest")],
)
def test_a_supernet_is_searched_as_in_its_paper(
    recipe: str, searched_by: str, tmp_path: Path
) -> None:
    assert strategy_name(desk_of(tmp_path, space=CELL, recipe=recipe)) == searched_by


def test_another_strategy_may_be_asked_for(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, space=CELL, recipe="random-sampling", strategy="genetic")
    assert strategy_name(desk) == "genetic"


def test_a_supernet_stops_when_it_takes_twice_its_share() -> None:
    asked = settings_of(data="digits", recipe="gdas", seconds=1000)
    assert longest(asked) == pytest.approx(LATEST * 260)
    assert longest(settings_of(data="digits", recipe="gdas", trials=5)) is None
    given = settings_of(data="digits", recipe="gdas", seconds=1000, supernet_epochs=3)
    assert longest(given) is None
