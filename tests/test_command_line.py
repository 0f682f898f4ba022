"""The main job through the command line, as a user runs it: real data, real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest

from parti import State
from parti.finding.files import read_json
from parti.stores import open_store

TINY = f"{Path(__file__).with_name('tiny_space.py')}:tiny"
QUICK = ["--space", TINY, "--epochs", "2", "--final-epochs", "3", "--finalists", "2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from parti.app.cli import main; main()", *arguments]


def parti(*arguments: str, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def last_line(done: subprocess.CompletedProcess[str]) -> dict:
    return json.loads(done.stdout.strip().splitlines()[-1])


SEARCH = [
    "search", "digits", "--trials", "6", *QUICK, "--seeds", "2", "--max", "params=4k",
    "--strategy", "evolution", "--study", "small", "--store", "sqlite:///kept.db", "--seed", "3",
    "--json",
]  # fmt: skip
STORE = ["--store", "sqlite:///kept.db"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("finished")
    return folder, last_line(parti(*SEARCH, folder=folder))


def test_the_result_has_all_that_was_promised(finished) -> None:
    _, result = finished
    best = result["best"]
    assert result["study"] == "small"
    assert 0.3 < best["val_accuracy"] <= 1
    assert len(best["test_accuracies"]) == 2
    cost = result["cost"]
    assert cost["concluding_seconds"] > 0
    parts = ("search_seconds", "baseline_seconds", "final_seconds", "concluding_seconds")
    assert cost["total_seconds"] == pytest.approx(sum(cost[part] for part in parts))
    assert best["params"] <= 4000
    assert best["macs"] > 0
    assert best["latency_ms"] > 0
    for condition in ("ONNX Runtime", "batch 1", "1 thread", "median"):
        assert condition in best["latency_conditions"]
    assert [b["kind"] for b in result["baselines"]] == ["search", "fixed"]
    assert result["cost"]["trials"] == 6
    assert all(Path(file).exists() for file in result["files"].values())
    assert {"report", "onnx", "weights", "predict"} <= result["files"].keys()


def test_the_reported_accuracy_is_that_of_the_exported_file(finished) -> None:
    import onnxruntime
    from sklearn.datasets import load_digits

    folder, result = finished
    splits = np.load(folder / "small/splits.npz")
    digits = load_digits()
    images = np.rint(digits.images[splits["test"]] * 255 / 16).astype(np.float32)[:, None]
    session = onnxruntime.InferenceSession(result["files"]["onnx"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    accuracy = (logits.argmax(1) == digits.target[splits["test"]]).mean()
    assert accuracy == pytest.approx(result["best"]["test_accuracy"], abs=1e-6)
    assert any(abs(accuracy - seed) < 1e-6 for seed in result["best"]["test_accuracies"])


def test_every_trial_kept_to_the_constraint_before_it_was_trained(finished) -> None:
    folder, _ = finished
    store = open_store(f"sqlite:///{folder}/kept.db")
    for name in ("small", "small/random"):
        trials, _ = store.trials(name)
        assert sum(t.state is State.DONE for t in trials) == 6
        for trial in trials:
            assert (trial.metrics["params"] <= 4000) is (trial.state is State.DONE)
            assert ("val_accuracy" in trial.metrics) is (trial.state is State.DONE)


def test_random_search_has_the_same_budget_and_does_not_train_twice(finished) -> None:
    folder, result = finished
    store = open_store(f"sqlite:///{folder}/kept.db")
    found = {t.architecture: t for t in store.trials("small")[0]}
    done = [t for t in store.trials("small/random")[0] if t.state is State.DONE]
    again = [t for t in done if t.architecture in found]
    assert len(again) >= 4  # at least those that began the evolution's population
    assert all(t.measurements == found[t.architecture].measurements for t in again)
    assert result["baselines"][0]["trials"] == len(done) == 6  # rejected ones do not count


def test_the_same_command_gives_the_same_object_at_once(finished) -> None:
    folder, result = finished
    began = time.perf_counter()
    code = """
import sys
from parti.app.cli import main
try:
    main()
finally:
    assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *SEARCH], cwd=folder, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert last_line(done) == result
    assert time.perf_counter() - began < 20


def test_a_finished_study_does_not_answer_another_question(finished) -> None:
    folder, _ = finished
    other = [a if a != "6" else "9" for a in SEARCH]
    done = parti(*other, folder=folder, code=2)
    assert "trials 6 -> 9" in done.stderr
    assert "test split has been opened" in done.stderr
    assert last_line(done)["error"]["kind"] == "InvalidSettings"


def test_status_report_export_and_predict(finished) -> None:
    folder, result = finished
    assert "small" in parti("status", *STORE, folder=folder).stdout
    part = parti("status", "small/final-0", *STORE, folder=folder, code=2)
    assert "it is a part of study 'small'; there are: small\n" in part.stderr
    row = last_line(parti("status", "small", *STORE, "--json", folder=folder))
    assert row["status"] == "finished"
    assert row["trials"]["done"] == 6
    page = Path(parti("report", "small", *STORE, folder=folder).stdout.strip())
    text = page.read_text(encoding="utf-8")
    assert page == Path(result["files"]["report"])
    assert f"{100 * result['best']['test_accuracy']:.1f}" in text
    parti("export", "small", "--to", "onnx", "--folder", "mine", *STORE, folder=folder)
    names = {file.name for file in (folder / "mine").iterdir()}
    assert names == {"model.onnx", "model.json", "README.md", "predict.py"}
    parti("export", "small", "--folder", "mine", *STORE, folder=folder, code=2)
    np.save(folder / "image.npy", np.zeros((8, 8), np.uint8))
    done = parti("predict", "small", "image.npy", "--top", "2", "--json", *STORE, folder=folder)
    assert last_line(done)


def test_the_model_comes_back_in_python(finished) -> None:
    import torch

    from parti.finding import finished as finished_study

    folder, result = finished
    found = finished_study(folder / "small", open_store(f"sqlite:///{folder}/kept.db"), "small")
    assert found is not None
    assert found.test_accuracy == result["best"]["test_accuracy"]
    assert found.model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert len([t for t in found.trials if t.state is State.DONE]) == 6
    assert "small" in repr(found)
    assert "test" in found._repr_html_()


def comparable(result: dict) -> dict:
    """A result without what differs from run to run: times and places."""
    timed = re.compile("seconds|latency|files|store")

    def strip(value):
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if not timed.search(k)}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return strip(result)


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_in_the_same_result(finished, tmp_path: Path) -> None:
    _, undisturbed = finished
    random, kills = Random(0), 0
    while True:
        process = subprocess.Popen(
            command(*SEARCH), cwd=tmp_path, env=ENVIRONMENT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=random.uniform(3, 9) if kills < 12 else 300)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0
        break
    assert kills >= 4
    assert comparable(json.loads(out.strip().splitlines()[-1])) == comparable(undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_says_how_to_go_on_and_resume_does(number, tmp_path: Path) -> None:
    arguments = ["search", "digits", "--trials", "500", *QUICK, "--study", "stopped"]
    process = subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # jobs behind a & ignore Ctrl-C
    )  # fmt: skip
    database = tmp_path / "parti-studies/studies.db"
    deadline = time.time() + 120
    while time.time() < deadline:
        time.sleep(0.3)
        if database.exists() and _done(database) >= 2:
            break
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "parti resume stopped" in said
    row = last_line(parti("status", "stopped", "--json", folder=tmp_path))
    assert row["status"] == "not finished"
    assert row["trials"]["done"] >= 2
    page = Path(parti("report", "stopped", folder=tmp_path).stdout.strip())
    assert page.stat().st_size > 1000
    parti("predict", "stopped", "x.png", folder=tmp_path, code=2)
    unknown = parti("resume", "stoped", folder=tmp_path, code=2).stderr
    assert "did you mean 'stopped'?" in unknown
    assert unknown.rstrip().endswith("there are: stopped"), "parts are not listed"
    other = [argument if argument != "500" else "3" for argument in arguments]
    assert "trials 500 -> 3" in parti(*other, folder=tmp_path, code=2).stderr


def test_stopped_before_the_study_exists_the_same_command_is_what_goes_on(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    import typer

    import parti.finding
    from parti.app.running import run_search
    from parti.finding.settings import settings_of

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parti.finding, "run", interrupted)
    with pytest.raises(typer.Exit):
        run_search(settings_of(data="digits"), "never", "sqlite:///kept.db", 1, json_=False)
    said = capsys.readouterr().err
    assert "run the same command again" in said
    assert "resume" not in said
    assert not list(tmp_path.iterdir())


def test_the_overview_of_commands_fits_into_80_columns(tmp_path: Path) -> None:
    lines = parti("--help", folder=tmp_path).stdout.splitlines()
    commands = lines[lines.index("Commands:") + 1 :]
    elsewhere = ("serve",)
    cut = [line for line in commands if line.endswith("...")]
    assert [line.split()[0] for line in cut if line.split()[0] not in elsewhere] == []
    assert parti("--version", folder=tmp_path).stdout.startswith("parti ")


def test_python_runs_it_as_a_module_too(tmp_path: Path) -> None:
    module = [sys.executable, "-m", "parti", "--version"]
    said = subprocess.run(module, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said == parti("--version", folder=tmp_path).stdout


def _done(database: Path) -> int:
    store = open_store(f"sqlite:///{database}")
    try:
        if "stopped" not in store.studies():
            return 0
        return sum(t.state is State.DONE for t in store.trials("stopped")[0])
    finally:
        store.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "nowhere/"], "nowhere"),
        (["search", "digist"], "did you mean 'digits'?"),
        (["search", "digits", "--budget", "soon"], "write 90s, 40m, 2h"),
        (["search", "digits", "--budget", "3"], "write 90s, 40m, 2h"),
        (["search", "digits", "--trials", "2", "--space", "moblie"], "did you mean 'mobile'?"),
        (["search", "digits", "--trials", "2", "--space", "my.py"], "as 'my.py:name'"),
        (["search", "digits", "--recipe", "dart"], "did you mean 'darts'?"),
        (["search", "digits", "--label-column", "y"], "digits has no columns"),
        (["search", "digits", "--trials", "0"], "greater than or equal to 1"),
        (["search", "digits", "--max", "params"], "write --max METRIC=VALUE"),
        (["search", "digits", "--max", "weight=3"], "unknown metrics ['weight']"),
        (["search", "digits", "--max", "params=few"], "write 300000, 3e5, 300k"),
        (["search", "digits", "--trials", "2", "--max", "params=10"], "nothing in space"),
        (["search", "digits", "--trials", "2", "--space", "huge"], "chain"),
        (["search", "digits", "--trials", "2", "--strategy", "magic"], "evolution"),
        (["search", "digits", "--objective", "beauty"], "unknown metrics ['beauty']"),
        (["search", "digits", "--store", "kept.db"], "sqlite:///kept.db"),
        (["search", "digits", "--study", "a/b"], "without slashes"),
        (["resume", "nothing"], "there is no store"),
        (["status"], "there is no store"),
    ],
)
def test_wrong_input_is_explained_before_anything_is_trained(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    done = parti(*arguments, folder=tmp_path, code=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("trials"))


def test_nothing_found_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from torch import nn\nfrom parti import choose, space\n"
        "@space\ndef broken(in_channels, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, choose('out', [3, 4])))\n"
    )
    arguments = ["search", "digits", "--trials", "2", "--epochs", "1", "--json"]
    done = parti(*arguments, "--space", f"{broken}:broken", folder=tmp_path, code=3)
    assert "no trial of 2 gave a usable network" in done.stderr
    assert last_line(done)["error"]["kind"] == "NothingFound"


def test_two_workers_search_too(tmp_path: Path) -> None:
    arguments = ["search", "digits", "--trials", "5", *QUICK, "--no-baselines", "--workers", "2"]
    result = last_line(parti(*arguments, "--json", folder=tmp_path))
    assert result["cost"]["trials"] == 5
    assert result["baselines"] == []
    (folder,) = [p for p in (tmp_path / "parti-studies").iterdir() if p.is_dir()]
    assert read_json(folder / "result.json")["study"] == result["study"]
