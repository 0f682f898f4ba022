"""The report on a supernet: its figures, its section, and what may be missing."""

from datetime import UTC, datetime

import pytest

from parti.reports.charts import Charts
from parti.reports.facts import Facts
from parti.reports.figures_supernet import (
    agreement_figures,
    supernet_figures,
    trajectory_figures,
)
from parti.reports.formats import opened
from parti.reports.page import page
from parti.reports.supernet import supernet_section
from report_fixture import make_result, make_study, make_trials

SUPERNET = {
    "recipe": "darts", "paper": "Liu <et al.>, ICLR 2019", "inherits": False,
    "study": "digits-3f2a",
    "space": "space darts(cells=3)", "choices": 28, "params": 120_000, "epochs": 2,
    "planned_epochs": 3, "images": 1257, "held": 0.5, "seconds": 75.0,
    "training": {"lr": 0.025, "epochs": 3},
    "curves": {"epochs": [1, 2], "val_accuracy": [0.2, 0.4], "entropy": [0.9, None]},
    "trajectories": [
        {"choice": "a", "options": ["conv", "skip"], "probabilities": [[0.5, 0.5], [0.2, 0.8]]},
        {"choice": "b", "options": ["conv", "skip"], "probabilities": [[0.5, 0.5], [0.6, 0.4]]},
    ],
    "missing": "stage 1 of <3>",
    "derived": {"architecture": {"a": "skip", "b": "conv"}, "genotype": "Genotype(<>)"},
    "agreement": [
        {"what": "finalists", "kendall": 0.33, "kendall_best": None, "n": 3, "n_best": 1,
         "pairs": [[0.4, 0.9], [0.5, 0.95], [0.6, 0.93]]},
    ],
}  # fmt: skip


def facts(**changes) -> Facts:
    supernet = {**SUPERNET, **changes}
    result = {**make_result(), "supernet": supernet, "test_openings": 2}
    return Facts(result, make_study(), tuple(make_trials()), datetime.now(UTC))


def test_of_every_choice_the_strongest_option_is_drawn_then_every_option() -> None:
    figures = trajectory_figures(SUPERNET["trajectories"])
    assert list(figures) == ["strongest", "conv", "skip"]
    drawn = {line["text"][0]: line["y"] for line in figures["strongest"]["data"]}
    assert drawn == {"a: skip": [0.5, 0.8], "b: conv": [0.5, 0.6]}
    weak, strong = figures["conv"]["data"]
    assert (weak["text"][0], strong["text"][0]) == ("a: conv", "b: conv")
    assert weak["line"]["color"] != strong["line"]["color"]


def test_curves_begin_with_accuracies_and_leave_out_what_was_never_measured() -> None:
    curves = {**SUPERNET["curves"], "lost": [None, None]}
    assert list(supernet_figures(curves)) == ["validation accuracy", "entropy"]


def test_a_value_without_neighbours_is_a_dot() -> None:
    short = supernet_figures({"epochs": [1], "val_accuracy": [0.1], "train_loss": [2.3]})
    for made in short.values():
        assert made["data"][0]["mode"] == "lines+markers"
        assert made["layout"]["xaxis"]["dtick"] == 1
    assert short["validation accuracy"]["layout"]["yaxis"]["range"] == [0, 1]
    gaps = supernet_figures({"val_accuracy": [None, 0.1, None, 0.2, 0.3], "entropy": [2.0, 1.0]})
    assert gaps["validation accuracy"]["data"][0]["mode"] == "lines+markers"
    assert gaps["entropy"]["data"][0]["mode"] == "lines"
    once = [{**row, "probabilities": [[0.5, 0.5]]} for row in SUPERNET["trajectories"]]
    for made in trajectory_figures(once).values():
        assert {trace["mode"] for trace in made["data"]} == {"lines+markers"}
    long = supernet_figures({"epochs": [10, 20, 30], "entropy": [3.0, 2.0, 1.0]})["entropy"]
    assert "dtick" not in long["layout"]["xaxis"]


def test_agreement_sets_inherited_accuracy_against_the_other() -> None:
    (made,) = agreement_figures(SUPERNET["agreement"]).values()
    assert made["data"][0]["x"] == [0.4, 0.5, 0.6]
    assert made["data"][0]["y"] == [0.9, 0.95, 0.93]


def test_the_section_says_what_was_shared_how_and_how_well_it_ranks() -> None:
    text = page(facts())
    for said in (
        "Liu &lt;et al.&gt;, ICLR 2019", "space darts(cells=3)", "2 of 3 planned epochs, each",
        "in stage 1 of &lt;3&gt;", "Genotype(&lt;&gt;)", "tau 0.33", "opened for the 2nd time",
    ):  # fmt: skip
        assert said in text, said
    assert "measured" not in text.split("</header>")[0]


def test_with_inherited_weights_nothing_is_said_to_be_trained() -> None:
    head = page(facts(inherits=True)).split("</header>")[0]
    assert "trained a supernet in" in head
    assert "networks with its weights" in head


@pytest.mark.parametrize("missing", list(SUPERNET))
def test_anything_may_be_missing(missing: str) -> None:
    assert page(facts(**{missing: None}))


def test_there_is_no_section_without_a_supernet() -> None:
    result = {**make_result(), "supernet": None}
    found = Facts(result, make_study(), tuple(make_trials()), datetime.now(UTC))
    assert supernet_section(found, Charts()) is None


def test_openings_are_counted_in_words() -> None:
    said = {n: opened(n) for n in (None, 1, 2, 3, 4, 11, 12, 21, 113)}
    assert said[None] == said[1] == "opened once"
    assert [said[n].split()[3] for n in (2, 3, 4, 11, 12, 21, 113)] == [
        "2nd", "3rd", "4th", "11th", "12th", "21st", "113th",
    ]  # fmt: skip


def test_ranks_are_named_by_what_was_measured() -> None:
    row = {**SUPERNET["agreement"][0], "metric": "val_f1"}
    assert "finalists (by validation F1, n = 3): Kendall" in page(facts(agreement=[row]))
    (made,) = agreement_figures([row]).values()
    assert made["layout"]["xaxis"]["title"]["text"] == "validation F1, inherited weights"


def test_what_is_derived_is_shown_with_its_metrics() -> None:
    derived = {**SUPERNET["derived"], "metrics": {"val_f1": 0.5, "latency_ms": 2.0, "lost": None}}
    text = page(facts(derived=derived))
    assert "As the search measured it: validation F1 50.0" in text
    assert "lost" not in text.split("As the search measured it")[1][:200]


def test_while_it_is_trained_the_section_says_so() -> None:
    text = page(facts(running=True, derived=None, agreement=None, trajectories=None))
    assert "still being trained" in text
    assert "2 of 3 planned epochs" in text
