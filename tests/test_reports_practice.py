"""The report on calibration and robustness: figures, section, and results without either."""

import json
from dataclasses import asdict
from datetime import UTC, datetime

import pytest
import torch

from parti.proxies.catalogue import PROXIES, TITLES
from parti.proxies.trust import trust
from parti.reports.charts import Charts
from parti.reports.facts import Facts
from parti.reports.figures_practice import (
    attack_figure,
    corruption_figure,
    label_noise_figure,
    reliability_figures,
)
from parti.reports.practice import practice_section
from parti.reports.theory import theory_section
from parti.tasks.classification import report
from report_fixture import make_result, make_study, make_trials

ROBUSTNESS = {
    "n": 100,
    "accuracy": 0.9,
    "severities": [1, 3, 5],
    "corruptions": {"contrast": [0.9, 0.8, 0.5], "gaussian_noise": [0.7, 0.4, 0.2]},
    "corrupted_accuracy": 0.58,
    "eps": [1.0, 4.0],
    "fgsm": [0.7, 0.3],
    "pgd": [0.65, 0.1],
    "conditions": "100 test images, <odd>",
}
NOISE = {"shares": [0.0, 0.2], "accuracies": [0.9, 0.8], "conditions": "trained 2 times"}


def metrics(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(300, 3, generator=generator)
    labels = torch.randint(0, 3, (300,), generator=generator)
    return report(logits, labels, "abc", resamples=50, validation=(logits, labels))


def facts(**best) -> Facts:
    result = make_result()
    result["best"] = {**result["best"], **best}
    return Facts(result, make_study(), tuple(make_trials()), datetime.now(UTC))


def test_all_of_it_is_shown_and_escaped():
    charts = Charts()
    shown = practice_section(
        facts(metrics=metrics(), robustness=ROBUSTNESS, label_noise=NOISE), charts
    )
    assert shown is not None
    for text in (
        "95 % interval",
        "calibration error",
        "temperature of",
        "&lt;odd&gt;",
        "trained 2",
    ):
        assert text in shown
    assert len(charts.variants) == 4
    assert list(charts.variants[0]) == ["equal width", "equal number"]
    json.loads(charts.to_json())


def test_results_without_any_of_it_have_no_such_section():
    assert practice_section(facts(), Charts()) is None
    assert practice_section(facts(metrics=None, robustness=None, label_noise=[]), Charts()) is None


@pytest.mark.parametrize("missing", ["intervals", "reliability", "temperature", "intervals_how"])
def test_parts_may_be_missing(missing):
    found = metrics()
    del found[missing]
    assert practice_section(facts(metrics=found), Charts()) is not None


def test_the_hardest_corruption_is_on_top_and_numbers_stand_in_their_cells():
    made = corruption_figure(ROBUSTNESS)
    heat, written = made["data"]
    assert heat["y"] == ["contrast", "gaussian noise"]  # plotly draws the last on top
    assert (
        dict(zip(zip(written["y"], written["x"], strict=True), written["text"], strict=True))[
            "gaussian noise", 1
        ]
        == "40"
    )
    assert heat["zmax"] == 0.9


def test_attacks_begin_at_the_accuracy_without_one():
    fgsm, pgd = attack_figure(ROBUSTNESS)["data"]
    assert fgsm["x"] == [0, 1.0, 4.0]
    assert (fgsm["y"], pgd["y"]) == ([0.9, 0.7, 0.3], [0.9, 0.65, 0.1])


def test_reliability_has_a_dot_for_each_bin_on_confidence_and_accuracy():
    found = metrics()["reliability"]
    made = reliability_figures(found)["equal width"]
    _, gaps, dots = made["data"]
    assert dots["x"] == [one["confidence"] for one in found["equal"]]
    assert dots["y"] == [one["accuracy"] for one in found["equal"]]
    assert len(gaps["x"]) == 3 * len(dots["x"])


@pytest.mark.parametrize(
    "broken", [{}, {"corruptions": {"a": [1]}, "severities": [1, 2]}, {"accuracy": 1, "eps": None}]
)
def test_broken_entries_draw_nothing(broken):
    assert corruption_figure(broken) is None
    assert attack_figure(broken) is None
    assert label_noise_figure(broken) is None
    assert reliability_figures(broken) == {}


def test_proxies_are_called_as_people_call_them():
    found = [asdict(trust(name, range(10), range(10))) for name in ("proxy_naswot", "macs")]
    result = make_result()
    result["best"] = {**result["best"], "proxies": {"how": "10 candidates", "found": found}}
    made = theory_section(Facts(result, make_study(), make_trials(), datetime.now(UTC)))
    assert made is not None
    assert ">NASWOT</th>" in made
    assert ">MACs</th>" in made
    assert "<p>NASWOT ranked well here" in made
    assert "proxy_" not in made


def test_every_proxy_that_is_no_count_has_a_title():
    assert set(TITLES) == set(PROXIES) - {"params", "macs"}


PARTS = {
    "robustness": "How it does on worse images",
    "label_noise": "What wrong labels do",
    "theory": "What theory says",
    "proxies": "How proxies rank these images",
}


@pytest.mark.parametrize("part", PARTS)
def test_what_could_not_be_measured_is_said(part):
    result = make_result()
    result["best"] = {**result["best"], "metrics": None, part: {"error": "Odd: <x>\n  line 2"}}
    given = Facts(result, make_study(), make_trials(), datetime.now(UTC))
    shown = practice_section(given, Charts()) or theory_section(given)
    assert shown is not None
    assert f"{PARTS[part]} could not be measured: Odd: &lt;x&gt;<" in shown
    assert "line 2" not in shown


@pytest.mark.parametrize(
    ("conditions", "beaten"),
    [("ONNX Runtime 1.32.0 CPU, batch 1", True), ("ONNX Runtime, median, device vm: Xeon", False)],
)
def test_a_bound_that_was_beaten_says_so(conditions, beaten):
    fact = {"name": "roofline", "value": 0.4545, "unit": "ms", "explained": "The least."}
    result = make_result()
    best = {"latency_ms": 0.213, "latency_conditions": conditions, "theory": {"facts": [fact]}}
    for latency, told in ((0.213, beaten), (0.5, False)):
        result["best"] = {**result["best"], **best, "latency_ms": latency}
        shown = theory_section(Facts(result, make_study(), make_trials(), datetime.now(UTC)))
        assert ("this estimate is too high" in str(shown)) is told
