"""Devices in a search, through the command line: the token stays secret, the report is theirs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.device_makers import device
from typer.testing import CliRunner

import parti
from parti.app.cli import app
from parti.app.device import hidden_token, told_apart
from parti.core.errors import InvalidSettings
from parti.deploy import device_server
from parti.finding.settings import settings_of

TINY = f"{Path(__file__).with_name('tiny_space.py')}:tiny"
QUICK = {
    "space": TINY, "epochs": 1, "final_epochs": 1, "finalists": 1, "seeds": 1, "baselines": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def url():
    with device("--name", "bench", token="secret") as found:
        yield found


def test_a_search_with_a_device_in_the_loop(url, tmp_path: Path) -> None:
    arguments = [
        "search", "digits", "--trials", "2", "--space", TINY, "--epochs", "1",
        "--final-epochs", "1", "--finalists", "1", "--seeds", "1", "--no-baselines",
        "--device", url, "--device", "cpu", "--device-token", "secret", "--max", "latency_ms=100",
        "--objective", "val_accuracy", "--objective", "latency_ms",
        "--store", "sqlite:///kept.db", "--study", "on-a-device", "--json",
    ]  # fmt: skip
    program = "from parti.app.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    best = json.loads(done.stdout.splitlines()[-1])["best"]
    assert best["latency_ms"] > 0
    assert "device bench" in best["latency_conditions"]
    assert "device bench" in done.stderr  # said before the search
    result = json.loads((tmp_path / "on-a-device/result.json").read_text())
    assert "device bench" in result["search_latency"]
    assert result["command"].endswith("--store sqlite:///kept.db --study on-a-device --json")
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"secret" not in file.read_bytes(), file


@pytest.mark.slow
def test_two_named_devices_and_predicted_latency(url, tmp_path: Path, monkeypatch) -> None:
    """Latency is predicted or measured in the search; that of the winner is measured on both."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARTI_DEVICE_TOKEN", "secret")
    found = parti.find(
        "digits", trials=2, devices=[f"one={url}", f"two={url}"], predict_latency=True,
        at_most={"latency_ms@two": 100.0}, watcher=parti.finding.Silent(), **QUICK,
    )  # fmt: skip
    lines = (found.folder / "latency.jsonl").read_text().splitlines()
    assert "one: ONNX Runtime" in json.loads(lines[0])["conditions"]
    assert len(lines) > 20
    metrics = found.trials[0].metrics
    assert {"latency_ms", "latency_ms@one", "latency_ms@two", "latency_predicted"} <= metrics.keys()
    best = found.to_dict()["best"]
    assert best["latency_by_device"].keys() == {"one", "two"}
    assert best["latency_ms"] == max(best["latency_by_device"].values())
    assert "secret" not in str(found.to_dict())


@pytest.mark.parametrize(("token", "why"), [("wrong", "refuses the token"), ("secret", "")])
def test_what_a_device_refuses_is_said_at_once(
    url, tmp_path: Path, monkeypatch, token: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARTI_DEVICE_TOKEN", token)
    there = url if why else "http://127.0.0.1:9"
    with pytest.raises(InvalidSettings, match=why or "does not answer"):
        parti.find(
            "digits", trials=2, devices=[there], at_most={"latency_ms": 1.0},
            watcher=parti.finding.Silent(), **QUICK,
        )  # fmt: skip


def test_a_device_says_what_it_is(url, monkeypatch) -> None:
    monkeypatch.setenv("PARTI_DEVICE_TOKEN", "")  # put back afterwards, whatever the option does
    run = CliRunner().invoke
    shown = run(app, ["device", "check", url, "--device-token", "secret"])
    assert shown.exit_code == 0
    assert "hardware" in shown.output
    found = run(app, ["device", "check", url, "--json"], env={"PARTI_DEVICE_TOKEN": "secret"})
    assert json.loads(found.stdout.splitlines()[-1])["name"] == "bench"
    refused = run(app, ["device", "check", url], env={"PARTI_DEVICE_TOKEN": "wrong"})
    assert refused.exit_code == 2
    assert run(app, ["device", "check", "pi"]).exit_code == 2


def test_the_program_is_written_to_be_copied(tmp_path: Path) -> None:
    file = tmp_path / "device_server.py"
    done = CliRunner().invoke(app, ["device", "serve", "--write", str(file)])
    assert done.exit_code == 0
    assert file.read_bytes() == Path(device_server.__file__).read_bytes()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["device", "serve", "--write", str(tmp_path / "no" / "x.py")])
    assert done.exit_code == 2
    assert "cannot be written" in done.output


def test_other_machines_need_a_token(monkeypatch) -> None:
    monkeypatch.delenv("PARTI_DEVICE_TOKEN", raising=False)
    done = CliRunner().invoke(app, ["device", "serve", "--host", "0.0.0.0", "--port", "0"])
    assert done.exit_code == 2
    assert "PARTI_DEVICE_TOKEN" in done.output


def test_where_to_train_is_told_from_where_to_measure() -> None:
    assert told_apart(None) == ("auto", ())
    assert told_apart(["cuda:1"]) == ("cuda:1", ())
    assert told_apart(["pi=http://a:1", "cpu", "http://b:2"]) == (
        "cpu", ("pi=http://a:1", "http://b:2"),
    )  # fmt: skip
    with pytest.raises(InvalidSettings, match="cpu and cuda"):
        told_apart(["cpu", "cuda"])


def test_the_token_is_left_out_of_the_command() -> None:
    assert hidden_token(["search", "--device-token", "x", "--json"]) == ["search", "--json"]
    assert hidden_token(["search", "--device-token=x"]) == ["search"]
    assert hidden_token(["--device-token", "--device-token", "a"]) == ["a"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"at_most": {"latency_ms@pi": 1.0}}, "no device has that name"),
        ({"at_most": {"macs@pi": 1.0}, "devices": ["pi=http://a:1"]}, "unknown metrics"),
        ({"devices": ["pi"]}, "write http://host:port"),
        ({"predict_latency": True}, "it is neither"),
    ],
)
def test_settings_with_devices_are_checked(settings: dict, reason: str) -> None:
    with pytest.raises(InvalidSettings, match=reason):
        settings_of(data="digits", **settings)


def test_a_named_latency_can_be_optimized() -> None:
    settings = settings_of(
        data="digits", objectives=["val_accuracy", "latency_ms@pi"], devices=["pi=http://a:1"]
    )
    assert [objective.goal for objective in settings.study_objectives] == ["max", "min"]
