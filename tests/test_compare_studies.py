"""Studies side by side: what differs, and whether it is more than chance."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from parti.app.cli import app
from parti.core.errors import InvalidSettings
from parti.core.study import Study
from parti.core.trial import State
from parti.finding.found import Found
from parti.finding.predictions import keep_predictions, load_predictions
from parti.finding.side_by_side import side_by_side
from parti.reports.side_by_side import compared_rows, sentences, write_side_by_side
from parti.stores import open_store
from report_fixture import make_result, make_study, make_trials


def answers(folder: Path, right: np.ndarray, data: str = "d") -> None:
    """Keep answers that are right where they should be."""
    labels = np.zeros(len(right), dtype=np.int64)
    logits = np.stack([right, ~right], axis=1).astype(np.float32)
    images = SimpleNamespace(fingerprint=data)
    keep_predictions(folder, images, SimpleNamespace(test=np.arange(len(right))), labels, logits)


def made(
    folder: Path, name: str, accuracy: float = 0.98, **architecture: Any
) -> tuple[Found, Study]:
    """A finished study with a store of its own trials."""
    result = make_result()
    result["study"] = name
    result["best"]["test_accuracy"] = accuracy
    result["best"]["architecture"].update(architecture)
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    store = SimpleNamespace(trials=lambda _: (make_trials(), 0))
    return Found(result, own, store), make_study(name=name, settings={"data": "digits", "seed": 0})


def test_it_says_which_decisions_and_settings_differ(tmp_path: Path) -> None:
    first, second = made(tmp_path, "a"), made(tmp_path, "b", width=48, extra=1)
    second = (second[0], make_study(name="b", settings={"data": "digits", "seed": 3}))
    compared = side_by_side([first, second])
    assert json.loads(json.dumps(compared, allow_nan=False)) == compared
    assert compared["decisions"] == {"width": [24, 48], "extra": [None, 1]}
    assert compared["settings"] == {"seed": [0, 3]}
    assert compared["same_decisions"] == len(first[0].to_dict()["best"]["architecture"]) - 1
    row = compared["studies"][0]
    assert row["test_interval"][0] < row["test_accuracy"] < row["test_interval"][1]
    costs = [point["params"] for point in row["front"]]
    assert costs == sorted(costs, reverse=True)
    done = {t.number for t in make_trials() if t.state is State.DONE}
    assert {point["trial"] for point in row["front"]} <= done


def test_the_same_images_are_compared_answer_by_answer(tmp_path: Path) -> None:
    first, second = made(tmp_path, "a", 0.96), made(tmp_path, "b", 1.0)
    right = np.ones(270, dtype=bool)
    some = right.copy()
    some[:10] = False
    answers(first[0].folder, some)
    answers(second[0].folder, right)
    (found,) = side_by_side([first, second])["differences"]
    assert (found["method"], found["real"]) == ("paired", True)
    assert found["chance"] == pytest.approx(2 / 1024)
    (text,) = sentences(side_by_side([first, second]))
    assert text.startswith("b is +3.70 points from a")
    assert "more than chance makes it" in text
    kept = load_predictions(first[0].folder)
    assert kept is not None
    assert (kept.right == some).all()


def test_few_images_cannot_tell(tmp_path: Path) -> None:
    first, second = made(tmp_path, "a", 1.0), made(tmp_path, "b", 1.0)
    for n, told in ((18, True), (270, False)):
        for found, _ in (first, second):
            answers(found.folder, np.ones(n, dtype=bool))
        compared = side_by_side([first, second])
        (text,) = sentences(compared)
        assert "+0.00 to +0.00" not in text
        assert ("18 images cannot tell" in text) is told
        assert ("cannot tell" in text) is told


def test_other_images_or_no_answers_are_said_to_be_so(tmp_path: Path) -> None:
    first, second = made(tmp_path, "a", 0.96), made(tmp_path, "b", 0.97)
    (found,) = side_by_side([first, second])["differences"]
    assert (found["method"], found["real"]) == ("independent", False)
    assert "were not kept" in found["how"]
    answers(first[0].folder, np.ones(270, dtype=bool), "one")
    answers(second[0].folder, np.ones(270, dtype=bool), "other")
    (found,) = side_by_side([first, second])["differences"]
    assert "not the same" in found["how"]


def test_two_different_studies_are_needed(tmp_path: Path) -> None:
    one = made(tmp_path, "a")
    for few in ([one], [one, one]):
        with pytest.raises(InvalidSettings, match="at least two"):
            side_by_side(few)


def test_the_page_is_whole_and_escapes_names(tmp_path: Path) -> None:
    compared = side_by_side([made(tmp_path, "a<b>"), made(tmp_path, "c", width=48)])
    page = write_side_by_side(tmp_path / "new" / "page.html", compared).read_text()
    assert "a&lt;b&gt;" in page
    assert "<b>" not in page.partition("<body>")[2]
    assert "default-src &#x27;none&#x27;" in page
    assert "Decisions that differ" in page
    names = [name for name, _ in compared_rows(compared)]
    assert {"test accuracy", "latency", "front of the search"} <= set(names)


def test_the_command(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    store = open_store(url)
    for name, width in (("a", 24), ("b", 48)):
        store.create(make_study(name=name))
        result = make_result()
        result["study"] = name
        result["best"]["architecture"]["width"] = width
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(result))
    store.create(make_study(name="unfinished"))
    run = CliRunner().invoke
    asked = ["compare-studies", "a", "b", "--store", url]
    shown = run(app, [*asked, "--html", str(tmp_path / "page.html")])
    assert shown.exit_code == 0, shown.output
    assert "width" in shown.output
    assert (tmp_path / "page.html").exists()
    said = json.loads(run(app, [*asked, "--json"]).output.splitlines()[-1])
    assert said["decisions"] == {"width": [24, 48]}
    refused = run(app, ["compare-studies", "a", "unfinished", "--store", url])
    assert refused.exit_code == 2
    assert "not finished" in refused.output
