"""Directions of improvement: each needs its evidence, and its command must be one."""

from __future__ import annotations

import shlex
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

import parti
from parti.app.cli import app
from parti.core.architecture import Architecture
from parti.core.study import Constraint, Objective, Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.core.walks import sample
from parti.explaining.command import search_command
from parti.explaining.evidence import Evidence, allowing
from parti.explaining.explain import explain
from parti.explaining.rules_search import _predicted_beyond
from parti.finding.settings import Settings, settings_of
from parti.spaces.catalogue import load_space

ACCURACY = (Objective("val_accuracy", "max"),)
ASKED = {"data": "digits", "trials": 20}


@parti.space
def scaled() -> Any:
    """Two scales."""
    return parti.choose("width", [8, 16, 32, 64]), parti.choose("depth", [1, 2, 3, 4])


def parses(command: str) -> bool:
    """Whether the command line takes it: raises where not."""
    program, name, *rest = shlex.split(command)
    subcommand = get_command(app).get_command(None, name)
    assert program == "parti"
    assert subcommand is not None
    subcommand.make_context(name, rest)
    return True


def trials_of(values: list[tuple[int, int, float]], **metrics: Any) -> list[Trial]:
    return [
        Trial(
            n,
            Proposal(Architecture({"width": w, "depth": d})),
            State.DONE,
            (Measurement({"val_accuracy": a, "params": float(w * d)}),),
        )
        for n, (w, d, a) in enumerate(values)
    ]


def result_of(**changes: Any) -> dict[str, Any]:
    """A result in which nothing is to be mended."""
    best = {
        "architecture": {"width": 16, "depth": 2},
        "test_accuracy": 0.95,
        "test_accuracies": [0.951, 0.949],
        "metrics": {"n": 10_000},
        "curves": [
            {
                "train_loss": [0.2 + 1 / e for e in range(1, 41)],
                "val_loss": [1 / e for e in range(1, 41)],
                "val_accuracy": [0.95 - 0.5 / e**2 for e in range(1, 41)],
            }
        ],
        **changes.pop("best", {}),
    }
    baselines = [{"name": "random search", "kind": "search", "test_accuracy": 0.90}]
    data = {"classes": list("ab"), "splits": {"val": 10_000, "test": 10_000}}
    return {"best": best, "baselines": baselines, "data": data, **changes}


def directions(
    trials: list[Trial],
    result: dict[str, Any],
    study: Study | None = None,
    asked: dict[str, Any] | None = None,
    space: Any = scaled,
) -> dict[str, dict[str, Any]]:
    asked = ASKED if asked is None else asked
    found = explain(study or Study("s", ACCURACY), trials, result, asked=asked, space=space)
    for direction in found["directions"]:
        assert direction["finding"]
        assert direction["advice"]
        assert direction["evidence"]
        assert parses(direction["command"])
    return {d["kind"]: d for d in found["directions"]}


def few() -> list[Trial]:
    return trials_of([(16, 2, 0.95), (8, 2, 0.8), (16, 1, 0.7)])


def test_nothing_is_said_without_evidence() -> None:
    assert directions(few(), result_of()) == {}
    assert directions([], {}) == {}


def test_a_winner_at_the_edge_where_all_good_ones_are() -> None:
    rng = Random(0)
    drawn = [sample(scaled, rng) for _ in range(60)]
    different = {a: 0.5 + 0.006 * a["width"] + rng.gauss(0, 0.02) for a in drawn}
    # Sixteen architectures in all: each edge holds a quarter of them.
    values = [(a["width"], a["depth"], v) for a, v in different.items()]
    best = max(values, key=lambda v: v[2])
    assert best[0] == 64
    result = result_of(best={"architecture": {"width": best[0], "depth": best[1]}})
    found = directions(trials_of(values), result)["edge"]
    assert found["evidence"]["decision"] == "width"
    assert found["evidence"]["best_quarter_there"] == 1.0
    assert "--space wider.py:wider" in found["command"]
    flat = [(w, d, rng.random()) for w, d, _ in values]
    top = max(flat, key=lambda v: v[2])
    chance = result_of(best={"architecture": {"width": top[0], "depth": top[1]}})
    assert "edge" not in directions(trials_of(flat), chance)


def test_the_program_that_widens_a_space_makes_a_wider_one(tmp_path: Any) -> None:
    from parti.explaining.rules_search import _Edge, _wider

    space = load_space("residual", in_channels=1, classes=10, resolution=8)
    choices = space.tree.choices
    edges = [
        _Edge(choices[name], True, 1.0, 0.2, 0.0)
        for name in ("stage2/width", "stage1/kind=basic/blocks", "stage1/kind=dense/layers")
    ]
    file = tmp_path / "wider.py"
    program = _wider(space, edges)
    assert program is not None
    file.write_text(program)
    wider = load_space(f"{file}:wider", in_channels=1, classes=10, resolution=8)
    for edge in edges:
        options = wider.tree.choices[edge.choice.name].options
        assert options[-1] > edge.choice.options[-1]
    lower = [_Edge(choices["stage2/width"], False, 1.0, 0.2, 0.0)]
    assert _wider(space, lower) is None
    assert _wider(scaled, edges) is None


def test_a_limit_that_kept_out_what_is_better() -> None:
    study = Study("s", ACCURACY, (Constraint("params", at_most=32),))
    values = [(16, 2, 0.90), (8, 2, 0.8), (64, 1, 0.95)]
    asked = {**ASKED, "at_most": {"params": 32.0}}
    found = directions(trials_of(values), result_of(), study, asked)["limit"]
    assert found["evidence"]["would_suffice"] == 64
    assert found["command"] == "parti search digits --trials 20 --max params=64"
    worse = trials_of([(16, 2, 0.95), (8, 2, 0.8), (64, 1, 0.95)])
    assert "limit" not in directions(worse, result_of(), study, asked)


def test_a_limit_is_not_to_blame_for_what_another_kept_out() -> None:
    """Trial 2 is better and has few enough parameters, but takes too long."""
    study = Study(
        "s", ACCURACY, (Constraint("latency_ms", at_most=0.05), Constraint("params", at_most=300))
    )
    asked = {**ASKED, "at_most": {"latency_ms": 0.05, "params": 300.0}}

    def measured(value: float, latency: float, params: float, n: int) -> Trial:
        found = {"val_accuracy": value, "latency_ms": latency, "params": params}
        proposal = Proposal(Architecture({"width": (8, 16, 32, 64)[n], "depth": 1}))
        return Trial(n, proposal, State.DONE, (Measurement(found),))

    kept = [measured(0.90, 0.02, 100, 0), measured(0.80, 0.05, 500, 1)]
    slow = [*kept, measured(0.95, 0.07012, 200, 2)]
    found = directions(slow, result_of(), study, asked)["limit"]
    assert (
        found["command"]
        == "parti search digits --trials 20 --max latency_ms=0.0702 --max params=300"
    )
    both = [*kept, measured(0.95, 0.07012, 400, 2)]
    assert "limit" not in directions(both, result_of(), study, asked)


def test_what_is_predicted_beyond_a_limit_is_beyond_that_one() -> None:
    study = Study(
        "s", ACCURACY, (Constraint("macs", at_most=100), Constraint("params", at_most=60))
    )

    def of(n: int, width: int, macs: float, state: State) -> Trial:
        found = {"params": float(width), "macs": macs, "val_accuracy": 0.01 * width}
        proposal = Proposal(Architecture({"width": width, "depth": 1}))
        return Trial(n, proposal, state, (Measurement(found),))

    kept = of(0, 16, 50.0, State.DONE)
    lost = [of(n, w, m, State.REJECTED) for n, (w, m) in enumerate(((32, 200.0), (64, 50.0)), 1)]
    forest: Any = SimpleNamespace(
        error=0.01, predict=lambda found: np.array([[0.01 * a["width"] for a in found]])
    )
    known: Any = SimpleNamespace(trusted=True)
    trials = [kept, *lost, of(3, 64, 200.0, State.REJECTED)]  # the last one breaks both
    evidence = Evidence(study, trials, [kept], {}, forest=forest, importance=known)
    for metric, needed, gain, number in (("macs", 200.0, 0.16, 1), ("params", 64.0, 0.48, 2)):
        found = _predicted_beyond(evidence, metric)
        assert found == (pytest.approx(gain), needed, "is predicted to be", number)


@given(st.floats(1e-6, 1e9))
def test_a_limit_that_just_allows_a_value(value: float) -> None:
    limit = allowing(value)
    assert value <= limit <= 1.011 * value + (1 if value >= 100 else 0)
    assert float(search_limit(limit)) == limit


def search_limit(limit: float) -> str:
    command = search_command({"data": "digits", "at_most": {"params": limit}}, {})
    assert command is not None
    return command.rpartition("=")[2]


def test_a_winner_that_no_comparable_trial_has() -> None:
    """As after a search in which most networks were trained briefly, and the space has no tree."""
    values = [(w, d, 0.5 + 0.01 * w) for w in (8, 16) for d in (1, 2, 3, 4)]
    result = result_of(best={"architecture": {"width": 64, "depth": 4}})
    assert "edge" not in directions(trials_of(values), result, space=None)


def test_a_limit_that_is_used_up_where_accuracy_grows_with_it() -> None:
    study = Study("s", ACCURACY, (Constraint("params", at_most=260),))
    values = [(w, d, 0.5 + 0.001 * w * d) for w in (8, 16, 32, 64) for d in (1, 2, 3, 4)]
    asked = {**ASKED, "at_most": {"params": 260.0}}
    found = directions(trials_of(values), result_of(), study, asked)["limit"]
    assert found["evidence"]["kendall"] > 0.9
    assert "--max params=390" in found["command"]
    falling = [(w, d, 0.9 - 0.001 * w * d) for w, d, _ in values]
    assert "limit" not in directions(trials_of(falling), result_of(), study, asked)


def test_a_best_that_came_last() -> None:
    grid = [(w, d) for w in (8, 16, 32, 64) for d in (1, 2, 3, 4)]
    late = [(w, d, 0.80) for w, d in grid[:15]] + [(*grid[15], 0.90)]
    found = directions(trials_of(late), result_of())["budget"]
    assert (found["evidence"]["found_at"], found["evidence"]["n"]) == (16, 16)
    assert found["command"] == "parti search digits --trials 40"
    assert "budget" not in directions(trials_of(late[::-1]), result_of())
    hair = [(w, d, 0.80) for w, d in grid[:15]] + [(*grid[15], 0.801)]
    assert "budget" not in directions(trials_of(hair), result_of())


def test_a_ranking_that_misleads() -> None:
    agreement = [{"what": "networks of random search", "kendall": -0.2, "n": 8}]
    asked = {**ASKED, "recipe": "single-path"}
    result = result_of(supernet={"agreement": agreement, "epochs": 4})
    found = directions(few(), result, asked=asked)["misleads"]
    assert found["command"] == "parti search digits --trials 20"
    weak = result_of(supernet={"agreement": [{**agreement[0], "kendall": 0.1}], "epochs": 4})
    assert "--supernet-epochs 8" in directions(few(), weak, asked=asked)["misleads"]["command"]
    for changed in ({"kendall": 0.6}, {"n": 3}, {"kendall": None}):
        fine = result_of(supernet={"agreement": [{**agreement[0], **changed}], "epochs": 4})
        assert "misleads" not in directions(few(), fine, asked=asked)


def test_no_better_than_random() -> None:
    level = [{"name": "random search", "kind": "search", "test_accuracy": 0.948}]
    found = directions(few(), result_of(baselines=level))["baseline"]
    assert "no better than a random search" in found["finding"]
    assert found["command"] == "parti search digits --trials 80"
    fixed = [{"name": "resnet20", "kind": "fixed", "test_accuracy": 0.97}]
    assert (
        "resnet20 is better" in directions(few(), result_of(baselines=fixed))["baseline"]["finding"]
    )
    even = [{"name": "resnet20", "kind": "fixed", "test_accuracy": 0.95}]
    assert "baseline" not in directions(few(), result_of(baselines=even))


def test_too_little_data_says_how_much_would_do() -> None:
    rival = [{"name": "resnet20", "kind": "fixed", "test_accuracy": 0.94}]
    small = result_of(baselines=rival, best={"metrics": {"n": 400}})
    found = directions(few(), small)["data"]
    assert found["command"] == "parti search MORE-DATA --trials 20"
    enough = int(found["evidence"]["needed"])
    assert 400 < enough < 10_000
    assert "data" not in directions(
        few(), result_of(baselines=rival, best={"metrics": {"n": enough + 1}})
    )


def test_seeds_that_differ_by_more_than_networks() -> None:
    rival = [{"name": "resnet20", "kind": "fixed", "test_accuracy": 0.93}]
    noisy = result_of(baselines=rival, best={"test_accuracies": [0.97, 0.93, 0.95]})
    assert "--seeds 6" in directions(few(), noisy)["noise"]["command"]
    assert "noise" not in directions(few(), result_of(baselines=rival))


def curves(**lists: list[float]) -> dict[str, Any]:
    return {"curves": [lists]}


def test_under_trained() -> None:
    hardly = result_of(best=curves(train_loss=[1.2], val_loss=[1.0], val_accuracy=[0.6]))
    found = directions(few(), hardly)["training"]
    assert "it had 1 epoch," in found["finding"]
    assert "--final-epochs 20" in found["command"]
    rising = [0.3 + 0.02 * e for e in range(30)]
    loss = [2.0 - 0.03 * e for e in range(30)]
    still = result_of(best=curves(train_loss=loss, val_loss=loss, val_accuracy=rising))
    assert directions(few(), still)["training"]["evidence"]["gain"] == pytest.approx(0.2)
    # With labels smoothed by 0.1 over two classes, 0.1985 is the least there is.
    learnt = [max(0.2, x) for x in [2.0, 1.0, *[0.2] * 28]]
    done = result_of(
        best=curves(train_loss=learnt, val_loss=loss, val_accuracy=rising),
        recipe={"label_smoothing": 0.1},
    )
    assert "training" not in directions(few(), done)


def test_over_fitted() -> None:
    falling = [0.9] * 10 + [0.9 - 0.01 * e for e in range(10)]
    rising = [0.3] * 10 + [0.3 + 0.05 * e for e in range(10)]
    rising[4] = 0.29
    late = curves(train_loss=[0.3] * 20, val_loss=rising, val_accuracy=falling)
    assert "--final-epochs 5" in directions(few(), result_of(best=late))["overfitting"]["command"]
    heart = curves(train_loss=[0.01] * 20, val_loss=[0.4] * 20, val_accuracy=[0.85] * 20)
    assert "by heart" in directions(few(), result_of(best=heart))["overfitting"]["finding"]
    right = curves(train_loss=[0.01] * 20, val_loss=[0.1] * 20, val_accuracy=[0.9995] * 20)
    assert "overfitting" not in directions(few(), result_of(best=right))


def test_a_cheaper_network_that_is_as_good() -> None:
    found = directions(trials_of([(64, 4, 0.951), (8, 1, 0.950), (8, 2, 0.7)]), result_of())
    assert found["cheaper"]["command"] == "parti search digits --trials 20 --max params=8"
    apart = directions(trials_of([(64, 4, 0.951), (8, 1, 0.90)]), result_of())
    assert "cheaper" not in apart


def test_a_change_that_is_predicted_to_be_better() -> None:
    values = [
        (w, d, 0.5 + 0.004 * w + 0.05 * d)
        for w in (8, 16, 32, 64)
        for d in (1, 2, 3, 4)
        if (w, d) != (64, 1) and (w, d) != (32, 1)
    ]
    low = result_of(best={"architecture": {"width": 8, "depth": 1}})
    assert "--init s" in directions(trials_of(values), low)["neighbour"]["command"]


# --- commands ---


OTHERS = {
    "data": "photos of cats",
    "objectives": ("val_accuracy", "params"),
    "at_most": {"params": 3e5, "latency_ms": 2.5},
    "at_least": {"val_f1": 0.5},
    "space": "mobile",
    "strategy": "evolution",
    "recipe": "single-path",
    "init": "other-study",
    "image_column": "image",
    "label_column": "label",
    "device": "cpu",
    "baselines": False,
    "keep_architecture": True,
    "predict_latency": True,
    "devices": ("http://127.0.0.1:9000",),
    "seconds": 5400.0,
    "image_size": 32,
}
"""A value of each setting that is not its default; numbers may be 3."""


@pytest.mark.parametrize("name", [n for n in Settings.model_fields if n != "supernet_of"])
def test_every_setting_has_its_option(name: str) -> None:
    value = OTHERS.get(name, 3)
    command = search_command({"data": "digits", name: value}, {})
    assert command is not None
    assert parses(command)
    if name != "data":
        assert len(shlex.split(command)) > 3


def test_settings_come_back_from_their_command() -> None:
    asked = settings_of(data="digits", seconds=5400, at_most={"params": 3e5}, baselines=False)
    command = search_command(
        asked.model_dump(exclude_defaults=True),
        {"final_epochs": 20},
        "parti search digits --store=sqlite:///x.db --workers 2 --trials 3",
    )
    assert command == (
        "parti search digits --budget 90m --max params=300000 --no-baselines --final-epochs 20 "
        "--store sqlite:///x.db --workers 2"
    )


def test_objects_from_python_have_no_command() -> None:
    assert search_command({"data": "python:3f"}, {}) is None
    assert search_command({"data": "digits", "space": "python:mine:3f"}, {}) is None


def test_a_specialized_study_cannot_change_what_its_supernet_settled() -> None:
    asked = {"data": "digits", "supernet_of": "one", "final_epochs": 3}
    assert search_command(asked, {"final_epochs": 9}) == "parti specialize one --tune-epochs 9"
    assert search_command(asked, {"data": "MORE-DATA"}) is None
    assert search_command(asked, {"supernet_epochs": 9}) is None


def test_a_specialized_study_is_specialized_again() -> None:
    asked = {
        "data": "digits", "recipe": "single-path", "supernet_of": "one", "baselines": False,
        "at_most": {"params": 5000.0}, "final_epochs": 3,
    }  # fmt: skip
    command = search_command(asked, {"trials": 9})
    assert command is not None
    assert parses(command)
    assert command.startswith("parti specialize one --max params=5000 --tune-epochs 3")
