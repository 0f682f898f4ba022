"""The parts of the report: analysis, formats, markup, blocks, drawings and figures."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parti.core.architecture import Architecture
from parti.core.study import Objective, Study, best, pareto_front
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.explaining.evidence import Evidence
from parti.explaining.rules_result import behind
from parti.reports import formats
from parti.reports.analysis import front_against, progress, summarize
from parti.reports.blocks import MOST, Block, blocks
from parti.reports.charts import Charts
from parti.reports.diagram import graph, plan
from parti.reports.facts import Rival
from parti.reports.figures import SMALL, change_axis, measure_axis, whole_axis
from parti.reports.figures_model import balance_figure, confusion_figure, curve_figures
from parti.reports.figures_search import pareto_figures, progress_figures
from parti.reports.markup import Html, join, tag
from parti.reports.standing import difference, standing, verdict
from parti.tasks.intervals import wilson
from report_fixture import CLASSES, WINNER, make_modules, make_result, make_study, make_trials

# --- analysis --------------------------------------------------------------------------------


def test_progress_counts_feasible_trials_only_and_never_falls() -> None:
    study, trials = make_study(), make_trials()
    steps = progress(study, trials[::-1])
    assert [step.trial.number for step in steps] == list(range(len(trials)))
    bests = [step.best for step in steps if step.best is not None]
    assert bests == sorted(bests)
    top = best(study, trials)
    assert top is not None
    assert bests[-1] == top.metric("val_accuracy")
    assert steps[-1].seconds == pytest.approx(sum(trial.seconds for trial in trials))


def test_progress_of_a_loss_goes_down_and_skips_what_is_running_or_not_a_number() -> None:
    study = make_study(objectives=(Objective("loss", "min"),), constraints=())
    trials = [
        Trial(n, Proposal(Architecture({"n": n})), state, (Measurement({"loss": loss}, 1, 2.0),))
        for n, (state, loss) in enumerate(
            [(State.DONE, 3.0), (State.DONE, math.nan), (State.DONE, 2.0), (State.RUNNING, 0.1),
             (State.FAILED, 0.0), (State.DONE, 2.5)]
        )
    ]  # fmt: skip
    steps = progress(study, trials)
    assert [step.best for step in steps] == [3.0, 3.0, 2.0, 2.0, 2.0]
    assert [step.value for step in steps] == [3.0, None, 2.0, None, 2.5]
    assert steps[-1].seconds == 10.0


def test_summary_counts_everything_once() -> None:
    trials = make_trials(100)
    s = summarize(make_study(), trials)
    assert s.done + s.failed + s.rejected + s.running == 100
    assert s.feasible == sum(make_study().feasible(trial) for trial in trials)
    assert sum(n for _, n in s.reasons) == s.failed + s.rejected
    assert s.reasons[0][0].endswith("is more than 80000")
    assert s.reasons[0][1] == s.rejected


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9) | st.none()), max_size=40))
def test_the_front_is_the_one_of_both_objectives(values: list[tuple[int, int | None]]) -> None:
    study = make_study(constraints=(), objectives=(Objective("a", "max"), Objective("b", "min")))
    trials = [
        Trial(n, Proposal(Architecture()), State.DONE,
              (Measurement({"a": a} if b is None else {"a": a, "b": b}),))
        for n, (a, b) in enumerate(values)
    ]  # fmt: skip
    assert front_against(study, trials, "b") == pareto_front(study, trials)


def test_the_front_trades_accuracy_for_cost() -> None:
    front = front_against(make_study(), make_trials(200), "latency_ms")
    assert len(front) > 3
    costs = [trial.metric("latency_ms") for trial in front]
    values = [trial.metric("val_accuracy") for trial in front]
    assert costs == sorted(costs, reverse=True)
    assert values == sorted(values, reverse=True)
    assert WINNER in [trial.number for trial in front]


# --- formats and markup ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (formats.amount(61_234), "61.2 k"),
        (formats.amount(999_999), "1.00 M"),
        (formats.amount(2_410_880), "2.41 M"),
        (formats.amount(640), "640"),
        (formats.amount(0), "0"),
        (formats.amount(math.nan), "–"),
        (formats.count(1234567), "1 234 567"),
        (formats.duration(0.0425), "42 ms"),
        (formats.duration(5.2), "5.20 s"),
        (formats.duration(59.97), "1 min 0 s"),
        (formats.duration(3723), "1 h 2 min"),
        (formats.duration(200_000), "2 d 7 h"),
        (formats.duration(None), "–"),
        (formats.metric("val_accuracy", 0.98526), "98.5 %"),
        (formats.metric("latency_ms", 12.345), "12.3 ms"),
        (formats.metric("activation_bytes", 81_920), "81.9 kB"),
        (formats.metric("loss", 0.0713), "0.0713"),
        (formats.metric("auc", 0.99962), "0.9996"),
        (formats.metric("params", "many"), "–"),
        (formats.mean_spread([0.98, 0.99, 1.0]), "99.0 ± 1.0 %"),
        (formats.mean_spread([0.98]), "98.0 %"),
        (formats.moment("2026-11-22T14:03:10+00:00"), "22 Nov 2026, 14:03 UTC"),
        (formats.moment("yesterday"), "yesterday"),
        (formats.shape([16, 8, 8]), "16 × 8 × 8"),
        (formats.goal("macs", "min"), "fewest MACs"),
        (formats.limit("params", "at most", 1e5), "at most 100 k parameters"),
    ],
)
def test_numbers_as_people_read_them(made: str, wanted: str) -> None:
    assert made.replace("\u202f", " ") == wanted


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_number_can_be_written(value: float) -> None:
    for write in (formats.amount, formats.count, formats.duration, formats.percent):
        assert write(value)
    for name in ("val_accuracy", "latency_ms", "activation_bytes", "seconds", "loss"):
        assert formats.metric(name, value)


def test_tags_escape_what_is_not_markup() -> None:
    made = tag("p", "a < b", Html("<i>c</i>"), None, [1, ["&"]], class_="x", hidden=True, id=None)
    assert made == '<p class="x" hidden>a &lt; b<i>c</i>1&amp;</p>'
    assert tag("meta", name='"&', aria_label="<") == '<meta name="&quot;&amp;" aria-label="&lt;">'
    assert join("<", tag("br")) == "&lt;<br>"


# --- blocks and drawings ---------------------------------------------------------------------


def leaf(name: str, kind: str = "Conv2d", macs: int = 10, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "output": [8, 4, 4], "params": 1, "macs": macs, **more}


def test_blocks_are_what_a_person_would_draw() -> None:
    made = blocks(make_modules())
    assert [block.name for block in made] == [
        "stem", "stages.0.0", "stages.0.1", "stages.1.0", "stages.1.1", "stages.1.2",
        "stages.2.0", "stages.2.1", "head",
    ]  # fmt: skip
    assert [block.title for block in made][:2] == ["ConvNorm", "MobileBlock"]
    assert made[-1].title == "Linear"
    assert made[1].operations == (("Conv2d", 3), ("BatchNorm2d", 3), ("ReLU", 2))
    assert made[3].output == (32, 4, 4)
    assert made[5].inputs == (4,)
    leaves = [row for row in make_modules() if row["name"].split(".")[-1] in ("0", "1", "2")
              or row["name"].startswith("head")]  # fmt: skip
    leaves = [row for row in leaves if row["type"] not in ("MobileBlock", "ConvNorm")]
    assert sum(block.macs for block in made) == sum(row["macs"] for row in leaves)
    assert sum(block.params for block in made) == sum(row["params"] for row in leaves)


def test_a_plain_sequence_joins_activations_to_their_operation() -> None:
    rows = [leaf("0"), leaf("1", "BatchNorm2d", 0), leaf("2", "ReLU", 0), leaf("3"),
            leaf("4", "ReLU", 0)]  # fmt: skip
    assert [block.operations for block in blocks(rows)] == [
        (("Conv2d", 1), ("BatchNorm2d", 1), ("ReLU", 1)),
        (("Conv2d", 1), ("ReLU", 1)),
    ]


@given(st.lists(st.lists(st.sampled_from("0123ab"), min_size=1, max_size=4), max_size=150))
def test_blocks_are_few_and_lose_nothing(names: list[list[str]]) -> None:
    unique = list(dict.fromkeys(".".join(name) for name in names))
    rows = [leaf(name) for name in unique]
    leaves = [n for n in unique if not any(other.startswith(f"{n}.") for other in unique)]
    made = blocks(rows)
    assert len(made) <= MOST
    assert sum(block.macs for block in made) == 10 * len(leaves)
    assert all(i < j for j, block in enumerate(made) for i in block.inputs)


def test_a_deep_network_is_gathered() -> None:
    rows = [leaf(f"stages.{s}.{b}.{i}.conv") for s in range(4) for b in range(20) for i in range(3)]
    made = blocks(rows)
    assert len(made) == 4
    assert len(blocks([leaf(str(i)) for i in range(1000)])) <= MOST


def boxes(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"translate\((\S+) (\S+)\)", svg)]


@pytest.mark.parametrize("columns", [2, 5])
@pytest.mark.parametrize("n", [1, 5, 60])
def test_cards_do_not_overlap_and_lie_in_the_drawing(n: int, columns: int) -> None:
    made = [
        Block(f"b{i}", "Conv2d", (("Conv2d", 1),), (8, 4, 4), 1, 1, (i - 1,) if i else ())
        for i in range(n)
    ]
    svg = graph(made, columns)
    found = boxes(svg)
    left, top, width, height = map(float, re.findall(r'viewBox="([^"]+)"', svg)[0].split())
    assert len(set(found)) == n
    for i, (x, y) in enumerate(found):
        assert left <= x <= left + width - 150
        assert top <= y <= top + height - 92
        assert all(abs(x - a) >= 150 or abs(y - b) >= 92 for a, b in found[:i])
    assert svg.count('class="head"') == n - 1


def test_branches_lie_side_by_side_and_every_input_has_an_arrow() -> None:
    rows = [
        leaf("stem", inputs=[]),
        leaf("a", inputs=["stem"]),
        leaf("b", inputs=["stem"]),
        leaf("add", inputs=["a", "b", "stem"]),
        leaf("end", inputs=["add", "nowhere"]),
    ]
    made = blocks(rows)
    assert [block.inputs for block in made] == [(), (0,), (0,), (0, 1, 2), (3,)]
    svg = graph(made, 5)
    (xs, xa, xb, xadd, xend), ys = zip(*boxes(svg), strict=True)
    assert xs < xa == xb < xadd < xend
    assert ys[1] != ys[2]
    assert svg.count('class="head"') == 6
    assert svg.count('class="way far"') == 1


def test_drawings_escape_names_and_need_blocks() -> None:
    made = blocks([leaf("<b>", "<script>")])
    assert "<script>" not in graph(made, 5) + plan(made)
    assert graph([], 5) == plan([]) == ""


# --- figures ---------------------------------------------------------------------------------


def check(figure: dict[str, Any]) -> None:
    """Let plotly say what it does not know; colours are names of CSS variables until drawn."""
    import plotly.graph_objects as go

    go.Figure(json.loads(re.sub(r"var\(--[a-z]+\)", "#123456", json.dumps(figure))))


def test_plotly_knows_everything_in_the_figures() -> None:
    study, trials, result = make_study(), make_trials(), make_result()
    data, best_ = result["data"], result["best"]
    made = [
        *progress_figures(study, trials).values(),
        *pareto_figures(study, trials, WINNER, result["baselines"]).values(),
        *curve_figures(best_, result["finalists"], result["baselines"]).values(),
        balance_figure(data["classes"], data["class_counts"]),
        confusion_figure(CLASSES, best_["metrics"]["confusion"]),
    ]
    assert len(made) == 2 + 3 + 3 + 2
    for figure in made:
        assert figure is not None
        check(figure)


def test_the_pareto_figure_shows_front_winner_limit_and_baselines() -> None:
    study, trials = make_study(), make_trials()
    shown = pareto_figures(study, trials, WINNER, make_result()["baselines"])
    assert list(shown) == ["parameters", "MACs", "latency"]
    figure = shown["parameters"]
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert traces["winner"]["x"] == [61_234]
    assert traces["ResNet-20"]["x"] == [272_474]
    assert len(traces["Pareto front"]["x"]) == len(front_against(study, trials, "params"))
    assert len(traces["rejected"]["x"]) == 6
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [80_000]
    assert shown["MACs"]["layout"]["shapes"] == []


def test_figures_that_cannot_be_drawn_are_left_out() -> None:
    assert progress_figures(make_study(), []) == {}
    assert pareto_figures(make_study(), [], None, []) == {}
    assert curve_figures({}, [], []) == {}
    short = curve_figures({"curves": [{"val_accuracy": [0.6]}]}, [], [])["validation accuracy"]
    assert short["data"][0]["mode"] == "lines+markers"
    assert balance_figure([], {}) is None
    assert confusion_figure(["a", "b"], [[1]]) is None
    assert Charts().place({}, "nothing") is None


def test_confusion_tells_right_from_wrong() -> None:
    figure = confusion_figure(["a", "b"], [[3, 1], [0, 4]])
    assert figure is not None
    right, wrong, written = figure["data"]
    assert right["z"] == [[0.75, None], [None, 1.0]]
    assert wrong["z"] == [[None, 0.25], [None, None]]
    assert written["text"] == ["3", "1", "4"]


def test_charts_are_json_that_cannot_leave_its_script() -> None:
    charts = Charts()
    place = charts.place({"a": {"data": ["</script>", math.nan], "layout": {"height": 9}}}, "<b>")
    assert place is not None
    assert "&lt;b&gt;" in place
    assert "<" not in charts.to_json()
    assert json.loads(charts.to_json())[0]["a"]["data"] == ["</script>", None]


# --- the verdict -----------------------------------------------------------------------------


def rival(name: str, accuracy: float, n: int = 1000) -> Rival:
    return Rival(name, "", accuracy, (), wilson(accuracy * n, n), {})


def test_the_verdict_is_honest() -> None:
    assert verdict([rival("x", 0.95), rival("a", 0.90)]).startswith("Ahead of a,")
    assert verdict([rival("x", 0.95), rival("a", 0.948)]).startswith("Level with a,")
    assert verdict([rival("x", 0.90), rival("a", 0.95)]).startswith("Behind a,")
    # The better lies outside the other's interval, but both are uncertain.
    assert verdict([rival("x", 0.95), rival("a", 0.935)]).startswith("Level with a,")
    mixed = verdict([rival("x", 0.95), rival("a", 0.90), rival("b", 0.99), rival("c", 0.951)])
    assert mixed == "Ahead of a, level with c, behind b, on the same test split"


def test_the_very_same_network_is_not_called_level() -> None:
    winner, found, fixed = (rival(name, 0.95) for name in ("x", "random search", "from scratch"))
    kinds = {"random search": "search", "from scratch": "fixed"}
    same = [
        replace(r, record={"fingerprint": "f", "kind": kinds.get(r.name)})
        for r in (winner, found, fixed)
    ]
    said = "Level with from scratch, the same network as that of random search,"
    assert verdict(same).startswith(said)


def test_differences_have_score_intervals() -> None:
    # Newcombe 1998, table II: 56/70 and 48/80, method 10.
    one, other = rival("a", 56 / 70, 70), rival("b", 48 / 80, 80)
    assert difference(one, other) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    back = difference(other, one)
    assert back == pytest.approx((-0.2, -0.3339, -0.0524), abs=5e-5)
    assert difference(replace(one, interval=None), other) is None


@given(
    st.integers(2, 200).flatmap(
        lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))
    )
)
def test_the_report_and_its_advice_agree_on_what_is_level(counts: tuple[int, int, int]) -> None:
    own, other, n = counts
    own_best = {"test_accuracy": own / n, "metrics": {"n": n}}
    baseline = {"name": "a", "kind": "search", "test_accuracy": other / n}
    found = standing([rival("x", own / n, n), rival("a", other / n, n)])
    study = Study("s", (Objective("val_accuracy", "max"),))
    asked = {"data": "d", "trials": 4}
    advice = behind(Evidence(study, (), (), {"best": own_best, "baselines": [baseline]}, asked))
    assert (advice is None) == (found.ahead == ("a",))
    assert (advice is not None and "is better" in advice.finding) == (found.behind == ("a",))


def test_axes_of_shares_end_at_100_per_cent_and_those_of_trials_have_no_half() -> None:
    assert measure_axis("val_accuracy")["autorangeoptions"] == {"clipmin": 0, "clipmax": 1}
    assert "autorangeoptions" not in change_axis("val_accuracy")
    assert "autorangeoptions" not in measure_axis("params")
    assert whole_axis("trial", [0.0, 1.0])["dtick"] == 1
    assert "dtick" not in whole_axis("trial", [0.0, 40.0])
    long = measure_axis("val_accuracy", "inherited weights")["title"]
    assert long["text"] == "validation accuracy, inherited weights"
    assert long["font"]["size"] == SMALL
