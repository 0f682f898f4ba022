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
