"""`parti compare` as it is typed."""

import json
from pathlib import Path

import pytest
from tests import comparing_toys as toys
from typer.testing import CliRunner

from parti.app.cli import app

DIGITS = "tests.comparing_toys:load"
SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


def parti(*arguments: str):
    return CliRunner().invoke(app, ["compare", *arguments])


def test_strategies_are_compared_and_written_about(tmp_path):
    asked = ["random", "evolution:population=5", "--on", DIGITS, "--seeds", "3"]
    asked += ["--evaluations", "6", "--out", str(tmp_path / "out")]
    result = parti(*asked)
    assert result.exit_code == 0, result.output
    assert "to 0.1 %" in result.output
    assert "evolution:population=5" in result.output.replace("\n", "")
    assert (tmp_path / "out" / "leaderboard.md").exists()
    again = parti(*asked, "--json")
    assert again.exit_code == 0
    data = json.loads(again.output.splitlines()[-1])
    assert data["settings"]["evaluations"] == 6
    assert {row["contender"] for row in data["problems"][0]["rows"]} == {
        "random",
        "evolution:population=5",
    }
    assert len((tmp_path / "out" / "runs.jsonl").read_text().splitlines()) == 6


def test_a_limit_of_seconds_takes_the_place_of_evaluations():
    result = parti("random", "--on", DIGITS, "--seeds", "2", "--seconds", "500", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.output.splitlines()[-1])
    assert data["settings"]["evaluations"] is None
    assert data["problems"][0]["rows"][0]["by_seconds"]["spent"][-1] == 500


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing", "--on", DIGITS], "no strategy 'nothing'"),
        (["random", "--on", "nasbench999/x"], "nasbench999"),
        (["random", "--on", DIGITS, "--seconds", "-3"], "more than 0"),
    ],
)
def test_wrong_input_is_explained(arguments, says):
    result = parti(*arguments)
    assert result.exit_code == 2
    assert says in result.output


def test_a_broken_strategy_is_named():
    result = parti("random", f"{toys.__name__}:crash", "--on", DIGITS, "--seeds", "2")
    assert result.exit_code == 0
    assert "out of ideas" in result.output


@pytest.mark.shared_data
def test_a_real_table():
    result = parti(
        *("random", "evolution", "--on", "nasbench201/cifar10", "--on", "nasbench201/cifar10+fpga"),
        *("--seeds", "3", "--evaluations", "30", "--tables", str(SHARED), "--json"),
    )
    assert result.exit_code == 0, result.output
    data = json.loads(result.output.splitlines()[-1])
    assert [round(p["best"], 3) for p in data["problems"] if p["best"]] == [94.373]
