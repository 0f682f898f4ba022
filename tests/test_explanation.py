"""The explanation in the report: what it shows, and that an explanation never loses a search."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from parti.explaining.explain import explain
from parti.finding.explained import explained
from parti.reports.charts import Charts
from parti.reports.facts import Facts
from parti.reports.page import page
from parti.reports.sections import sections
from report_fixture import make_result, make_study, make_trials

ASKED = {"data": "digits", "trials": 24, "at_most": {"params": 80_000.0}}


def facts(**changes: Any) -> Facts:
    study, trials, result = make_study(), make_trials(), {**make_result(), **changes}
    result["explanation"] = explain(study, trials, result, asked=ASKED)
    return Facts(result, study, trials, datetime.now(UTC))


def shown(given: Facts) -> dict[str, str]:
    charts = Charts()
    return {
        anchor: re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))
        for anchor, _, body in sections(given, charts)
    }


def test_a_minute_at_the_top_and_the_reasons_below() -> None:
    found = shown(facts())
    assert list(found)[:2] == ["short", "next"]
    for heading in ("Found", "How good", "Against others", "What it costs", "What next"):
        assert heading in found["short"]
    assert "never saw" in found["short"]
    assert "broke the limit params ≤ 80000" in found["rejected"]
    assert "Diverged" in found["rejected"]
    assert "times as much" in found["trades"]


def test_the_first_direction_is_in_the_summary_with_its_command() -> None:
    given = facts()
    first = given.get("explanation", "directions")[0]
    text = shown(given)
    assert first["advice"] in text["short"]
    assert first["command"] in text["short"]
    for direction in given.get("explanation", "directions"):
        assert direction["command"] in text["next"]


def test_results_from_before_explanations_still_render() -> None:
    old = Facts(make_result(), make_study(), make_trials(), datetime.now(UTC))
    found = shown(old)
    assert "short" in found
    assert not {"next", "trades", "rejected", "decisions", "changes"} & set(found)
    assert "speaks against" not in found["short"]
    assert page(old)


@pytest.mark.parametrize(
    "broken", [{"error": "x"}, {}, None, {"importance": None, "changes": None}]
)
def test_a_broken_explanation_is_left_out(broken: Any) -> None:
    given = Facts(
        {**make_result(), "explanation": broken}, make_study(), make_trials(), datetime.now(UTC)
    )
    assert "decisions" not in shown(given)


def test_names_of_decisions_are_escaped() -> None:
    given = facts()
    main = given.get("explanation", "importance")["main"]
    main[0]["decisions"] = ["<script>alert(1)</script>"]
    assert "<script>alert" not in page(given)


def test_a_failing_explanation_does_not_lose_a_search() -> None:
    said: list[str] = []
    desk = SimpleNamespace(watcher=SimpleNamespace(say=said.append))  # no settings: it will fail
    searched = SimpleNamespace(study=make_study(), trials=make_trials())
    found = explained(desk, searched, make_result())
    assert "AttributeError" in found["error"]
    assert "could not be explained" in said[0]


def test_trust_and_comparison_say_the_same_of_a_better_baseline() -> None:
    result = make_result()
    better = {**result["baselines"][1], "name": "resnet20", "test_accuracy": 1.0}
    worse = {**result["best"], "test_accuracy": 0.90}
    found = shown(facts(best=worse, baselines=[better]))
    assert "Behind resnet20" in found["short"]
    assert "it is behind resnet20" in found["short"]
    assert "as good" not in found["short"]
    assert "as it is" not in found["next"]
    assert "until it is level with resnet20" in found["next"]


def test_the_same_network_by_random_search_is_said_everywhere() -> None:
    result = make_result()
    same = {**result["baselines"][0], "fingerprint": result["best"]["fingerprint"]}
    found = shown(facts(baselines=[same]))
    assert "The same network as that of random search" in found["short"]
    assert "random search found the same network" in found["short"]
    assert "found the very same network" in found["next"]
    assert "are too few to tell" not in found["next"]
    assert "Level with" not in found["short"]


def test_what_weights_of_another_study_brought() -> None:
    result = make_result()
    start = {
        "study": "<b>", "same_data": False, "tensors": 146, "of_tensors": 148, "values": 995,
        "of_values": 1000,
    }  # fmt: skip
    scratch = {**result["baselines"][1], "name": "winner from scratch", "test_accuracy": 0.9}
    assert "start" not in shown(facts())
    alone = shown(facts(init=start))["start"]
    assert "&lt;b&gt;" in alone
    assert "99.5 %" in alone
    assert "146 of 148 tensors" in alone
    assert "from scratch" not in alone
    helped = shown(facts(init=start, baselines=[scratch]))["start"]
    assert "with them it has +8.5 points" in helped
    assert "they helped" in helped
    level = {**scratch, "test_accuracy": 0.98}
    unknown = shown(facts(init=start, baselines=[level]))["start"]
    assert "may be chance" in unknown
    worse = shown(facts(init=start, best={**result["best"], "test_accuracy": 0.8},
                        baselines=[level]))["start"]  # fmt: skip
    assert "they did harm" in worse


@pytest.mark.parametrize(
    ("dominated", "front", "text"),
    [
        (3, 1, "3 trials kept to all limits, but another was better in every objective; 1 was not"),
        (0, 2, "Of 2 trials that kept to all limits, none beat another."),
        (0, 1, "One trial kept to all limits."),
        (0, 0, "No trial kept to all limits."),
    ],
)
def test_a_count_of_nothing_is_not_told(dominated: int, front: int, text: str) -> None:
    given = facts()
    given.get("explanation")["rejections"] = {"dominated": dominated, "front": front}
    said = shown(given)["rejected"]
    assert text in said
    assert "0 trials" not in said


def test_equal_classes_and_the_time_after_the_search_are_said() -> None:
    given = facts()
    data = {**given.get("data"), "classes": ["a", "b"]}
    data["class_counts"] = {"train": [30, 30], "test": [10, 10]}
    cost = {**given.get("cost"), "concluding_seconds": 95.0}
    found = shown(facts(data=data, cost=cost))
    assert "Samples of each class: 40 in all of them." in found["data"]
    assert "testing, export and report 1 min 35 s" in found["conditions"]
    assert "testing, export" not in shown(given)["conditions"]
