"""The page: complete, partial, hostile and huge results, and what a real browser says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parti.core.architecture import Architecture
from parti.core.study import Budget, Constraint, Objective
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.reports import html_summary, write_report
from parti.reports.facts import Facts
from parti.reports.page import page
from report_fixture import CLASSES, WINNER, make_result, make_study, make_trials

HOSTILE = "<script>alert(1)</script>&\"'<img src=http://x.example/>"
VOID = {"br", "col", "hr", "img", "input", "link", "meta"}


class Page(HTMLParser):
    """Checks that tags are balanced and gathers what is on the page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.parts: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.parts).replace("\u202f", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append((self.tags[-1][1], data))
        elif self.open and self.open[-1] != "style":
            self.parts.append(data)

    def ids(self) -> list[str]:
        return [found for _, attributes in self.tags if (found := attributes.get("id"))]

    def charts(self) -> list[dict[str, Any]]:
        return json.loads(next(text for attrs, text in self.scripts if attrs.get("id")))


def read(result: dict[str, Any], study: Any = None, trials: Any = None) -> Page:
    """Make the page, without the megabytes of plotly.js in the way of the parser."""
    trials = make_trials() if trials is None else trials
    written = datetime(2026, 11, 22, tzinfo=UTC)
    with patch("plotly.offline.get_plotlyjs", return_value="const Plotly = {};"):
        return Page(page(Facts(result, study or make_study(), trials, written)))


def test_a_complete_page_holds_the_facts_in_order() -> None:
    text = read(make_result()).text
    facts = [
        "98.5 % test accuracy with 61.2 k parameters",
        "Asked for the highest validation accuracy and the fewest parameters",
        "at most 80 k parameters on digits (1 797 samples, 10 classes)",
        "95 % interval 96.3 % to 99.4 %; 3 seeds: 98.4 ± 0.6 %",
        "Ahead of ResNet-20, level with random search",
        "parti search digits --trials 24 --max params=8e4",
        "stratified, seed 0",
        "Samples of each class: from 174 (8) to 183 (3).",
        "6 rejected before training",
        "★ winner",
        "The decisions that make the winner.",
        "stages.2.1.project.1",
        "Trial 17: 97.0 % in the search",
        "8 for 1 (2×)",
        "He et al. 2016, same recipe",
        "the split was opened once",
        "Intel Xeon, ONNX Runtime 1.32, batch 1, 1 thread, median of 200",
        "parti export digits-3f2a --to onnx",
        "runs/digits-3f2a/model.onnx",
    ]
    at = -1
    for fact in facts:
        assert fact in text, fact
        found = text.find(fact, at + 1)
        assert found > at, f"{fact!r} comes too early"
        at = found


def test_sections_are_linked_and_ids_are_unique() -> None:
    made = read(make_result())
    ids = made.ids()
    links = [a["href"][1:] for tag, a in made.tags if tag == "a" and a["href"]]
    assert len(ids) == len(set(ids))
    assert set(links) <= set(ids)
    assert {"summary", "asked", "data", "search", "winner", "training", "test", "baselines",
            "conditions", "reproduce"} <= set(ids)  # fmt: skip


def test_it_loads_nothing_and_only_its_own_scripts_may_run() -> None:
    made = read(make_result())
    for tag, attributes in made.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    policy = next(
        a["content"] for _, a in made.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    code = [text for attributes, text in made.scripts if "type" not in attributes]
    assert len(code) == 2
    for text in code:
        assert b64encode(sha256(text.encode()).digest()).decode() in policy
    style = (Path(sys.modules["parti.reports"].__path__[0]) / "style.css").read_text()
    assert "url(" not in style
    assert "@import" not in style


def test_it_is_written_in_one_piece_and_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    assert write_report(path, make_result(), make_study(), make_trials()) == path
    first = path.read_text()
    assert first.startswith("<!doctype html>")
    assert len(first) < 6_000_000
    write_report(path, {}, make_study(), [])
    assert path.read_text() != first
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]
    code = "import parti.reports, sys; sys.exit('torch' in sys.modules or 'plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_failed_write_leaves_the_old_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, {}, make_study(), [])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def hostile(value: Any, key: str = "") -> Any:
    """Put markup into every text; keys of arguments and decisions are the user's, too."""
    if isinstance(value, str):
        return value if key == "status" else HOSTILE + value
    if isinstance(value, list):
        return [hostile(item) for item in value]
    if isinstance(value, dict):
        own = key in ("architecture", "arguments", "recipe", "macs_by_operation", "files")
        return {(HOSTILE + k if own else k): hostile(v, k) for k, v in value.items()}
    return value


def test_texts_of_the_user_are_only_texts() -> None:
    plain, made = read(make_result()), None
    trials = [
        *make_trials(20),
        Trial(20, Proposal(Architecture({HOSTILE: HOSTILE})), State.FAILED, (), HOSTILE),
        Trial(21, Proposal(Architecture({"a": 1})), State.FAILED, (), f"{HOSTILE}\n{HOSTILE}"),
    ]
    study = make_study(name=HOSTILE, objectives=(Objective(HOSTILE, "max"),))
    made = read(hostile(make_result()), study, trials)
    assert HOSTILE in made.text
    assert len(made.scripts) == len(plain.scripts)
    assert not [tag for tag, _ in made.tags if tag == "img"]
    for variants in read(hostile(make_result())).charts():
        for figure in variants.values():
            for trace in figure["data"]:
                assert "<script" not in json.dumps(trace)
                assert "<script" not in json.dumps(figure["layout"])


def test_commands_take_any_name() -> None:
    name = "my study's $(id)"
    parts = read(make_result(), study=make_study(name=name)).parts
    lines = [shlex.split(part) for part in parts if re.match("parti [a-z]+ '", part)]
    named = {line[1]: line[2] for line in lines}
    assert named == dict.fromkeys(
        ("resume", "report", "export", "predict", "compress", "serve"), name
    )


def test_broken_unicode_is_written(tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", {"command": "a\ud800b"}, make_study(), [])
    assert b"a?b" in path.read_bytes()


@pytest.mark.parametrize(
    ("status", "trials", "said"),
    [
        ("searching", 11, "still running: 9 of 24 trials have ended"),
        ("searching", 0, "Searching: no network to show yet"),
        ("training finalists", 28, "The search is over; the finalists are being trained in full"),
        ("done", 0, "No network could be measured"),
    ],
)
def test_partial_results_say_so(status: str, trials: int, said: str) -> None:
    known = ("study", "command", "started", "data", "space")
    result = {**{key: make_result()[key] for key in known}, "status": status}
    made = read(result, trials=make_trials(trials))
    assert said in made.text
    assert "test accuracy with" not in made.text
    assert not {"winner", "test", "baselines"} & set(made.ids())
    if status != "done":
        assert "The test split has not been opened yet." in made.text


def test_no_trials_and_no_result_need_no_figures() -> None:
    made = read({}, trials=[])
    assert made.charts() == []
    assert "No trial has been started yet." in made.text
    assert len(read(make_result()).charts()) == 5


def test_only_failed_trials() -> None:
    lost = [
        Trial(n, Proposal(Architecture({"n": n})), State.FAILED, (), f"out of memory: {n} GB")
        for n in range(4)
    ]
    text = read({"status": "done"}, trials=lost).text
    assert "No network could be measured" in text
    assert "Most frequent reasons: out of memory: 0 GB (4×)" in text
    assert "No trial has been measured to the end yet." in text


def test_no_trial_keeps_to_the_limits() -> None:
    trials = [
        Trial(0, Proposal(Architecture({})), State.DONE,
              (Measurement({"val_accuracy": 0.9, "params": 2e5}),))
    ]  # fmt: skip
    made = read({"status": "done"}, trials=trials)
    assert "No network kept to the limits" in made.text
    assert "○ breaks params ≤ 80000" in made.text


def test_other_objectives_and_no_constraints() -> None:
    study = make_study(
        objectives=(Objective("params", "min"),), constraints=(), budget=Budget(seconds=7200)
    )
    text = read({"status": "searching"}, study).text
    assert "12.3 k parameters so far" in text
    assert "2 h 0 min" in text
    limits = make_study(constraints=(Constraint("latency_ms", at_least=0.1, at_most=5),))
    text = read({}, limits).text
    assert "with latency at most 5 ms and latency at least 0.100 ms" in text


def test_a_thousand_trials_take_less_than_two_seconds(tmp_path: Path) -> None:
    trials = make_trials(1000)
    start = time.process_time()
    path = write_report(tmp_path / "r.html", make_result((14, 24, 18)), make_study(), trials)
    assert time.process_time() - start < 2
    assert path.stat().st_size < 8_000_000


def paths(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(value, dict):
        return [before]
    inside = [path for key, item in value.items() for path in paths(item, (*before, key))]
    return [*([before] if before else []), *inside]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    missing=st.sets(st.sampled_from(paths(make_result())), max_size=12),
    empty=st.sets(st.sampled_from(paths(make_result())), max_size=3),
)
def test_anything_may_be_missing_or_null(
    missing: set[tuple[Any, ...]], empty: set[tuple[Any, ...]]
) -> None:
    result = make_result()
    for path in [*missing, *empty]:
        inside: Any = result
        for key in path[:-1]:
            inside = inside.get(key) if isinstance(inside, dict) else None
        if isinstance(inside, dict) and path in missing:
            inside.pop(path[-1], None)
        elif isinstance(inside, dict):
            inside[path[-1]] = None
    read(result, trials=make_trials(6))


def test_tables_can_be_sorted_by_number_and_scrolled_by_key() -> None:
    made = read(make_result())
    values = [a["data-value"] for tag, a in made.tags if tag == "td" and a.get("data-value")]
    assert all(re.fullmatch(r"-?[\d.]+(e[+-]\d+)?", value or "") for value in values)
    frames = [a for _, a in made.tags if a.get("class") == "frame"]
    assert len(frames) == 5
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in frames)
    buttons = [a for tag, a in made.tags if tag == "button"]
    assert buttons
    assert all(a["type"] == "button" for a in buttons)


def test_the_notebook_fragment() -> None:
    text = Page(html_summary(make_result())).text
    assert f"trial {WINNER} (winner) 99.3 % 98.5 % 61.2 k 2.41 M 0.710 ms" in text
    assert "ResNet-20" in text
    assert "n = 270" in text
    assert "searching" in Page(html_summary({"status": "searching"})).text
    assert "<script" not in html_summary(hostile(make_result()))


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_draws_every_figure_without_a_complaint(tmp_path: Path, width: int) -> None:
    path = write_report(tmp_path / "r.html", hostile(make_result()), make_study(), make_trials())
    run = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions",
            "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr", "--virtual-time-budget=8000",
            f"--window-size={width},2000", "--dump-dom", path.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in run.stderr, run.stderr
    drawn = len(re.findall(r'<svg class="main-svg"[^>]*>(?=<defs)', run.stdout))
    assert drawn >= 5
    assert run.stdout.count('class="chart js-plotly-plot"') == 5
    for name in CLASSES:
        assert (
            f"alert(1)&lt;/script&gt;&amp;\"'&lt;img src=http://x.example/&gt;{name}" in run.stdout
        )
