"""A supernet whose training is killed for good goes on; one that is cut short says what it lacks.

The kills are real: a process of the command line gets SIGKILL in the middle of an epoch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from parti.core.architecture import Architecture
from parti.core.trial import Job, State, Trial
from parti.evaluators.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from parti.finding import Silent
from parti.finding.desk import Desk
from parti.finding.given import Given
from parti.finding.settings import settings_of
from parti.finding.supernet_stages import measure_agreement, train_supernet
from parti.recipes.once_for_all import ONCE_FOR_ALL, ProgressiveShrinking
from parti.recipes.p_darts import P_DARTS
from parti.recipes.recipe import SupernetRecipe
from parti.recipes.training import SupernetTraining, reached
from parti.stores import open_store
from test_command_line import ENVIRONMENT
from test_finding import stripes
from test_recipes_resume import Killed, elastic, flat
from training_makers import toy_data

CELL = f"{Path(__file__).with_name('tiny_cell.py')}:tiny_cell"

# --- kills ---

EPOCHS = 3
SAVING = "from parti.recipes import training; training.SAVE_EVERY = 0.0; "
"""Begins a program whose supernets are saved whenever they can be."""

MAIN = "from parti.app.cli import main; main()"
DEADLINE = 120.0


@contextmanager
def running(code: str, *arguments: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the command line, which is killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=folder, env=ENVIRONMENT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait(process: subprocess.Popen[bytes], until: Callable[[], bool]) -> None:
    """Wait for something that a process does."""
    deadline = time.monotonic() + DEADLINE
    while not until():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def catch(process: subprocess.Popen[bytes], when: Callable[[], bool]) -> None:
    """Stop a process at a moment at which something is true."""
    while True:
        wait(process, when)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if when():
            return
        process.send_signal(signal.SIGCONT)


def steps(checkpoint: Checkpoint) -> int:
    """Of an epoch."""
    images, held = checkpoint.identity["images"][0], checkpoint.identity["held"]
    return int((images - round(held * images)) // checkpoint.identity["recipe.batch_size"])


def assert_same(one: object, other: object) -> None:
    """Bit for bit, in nested containers."""
    for mine, theirs in zip(flat(one), flat(other), strict=True):
        assert torch.equal(mine, theirs) if isinstance(mine, Tensor) else mine == theirs


@pytest.mark.parametrize("recipe", ["darts", "single-path"])
def test_killed_in_the_middle_of_an_epoch_a_supernet_goes_on(recipe: str, tmp_path: Path) -> None:
    trial = tmp_path / "parti-studies/killed/supernet/trials/00000"
    store = f"sqlite:///{tmp_path}/parti-studies/studies.db"

    def in_an_epoch() -> bool:
        """Whether the checkpoint is of the middle of an epoch, not the first."""
        if not (trial / "checkpoint.pt").exists():
            return False
        found = load_checkpoint(trial)
        return found.training["epoch"] >= 1 and 0 < found.training["place"] < steps(found)

    asked = ("search", "digits", "--recipe", recipe, "--supernet-epochs", str(EPOCHS),
             "--space", CELL, "--trials", "1", "--epochs", "1", "--study", "killed")  # fmt: skip
    with running(SAVING + MAIN, *asked, folder=tmp_path) as process:
        catch(process, in_an_epoch)
    assert process.returncode == -signal.SIGKILL
    assert in_an_epoch()
    left = load_checkpoint(trial)
    assert not left.training["done"]
    kept = open_store(store)

    def trained() -> bool:
        return kept.trials("killed/supernet")[0][0].state is not State.RUNNING

    assert not trained()
    with running(MAIN, "resume", "killed", folder=tmp_path) as process:
        settings = settings_of(**kept.study("killed").settings)
        calm = open_store(f"sqlite:///{tmp_path}/calm.db")
        desk = Desk(settings, Given("digits", CELL), "calm", calm, tmp_path / "calm", 1, Silent())
        assert desk.shared is not None
        whole = train_supernet(desk, desk.shared)
        wait(process, trained)
    (resumed,), _ = kept.trials("killed/supernet")
    assert resumed.state is State.DONE
    before = left.measurements  # are not measured again: their seconds are the same
    assert resumed.measurements[: left.training["epoch"]] == before
    assert len(whole.measurements) == EPOCHS
    assert [m.metrics for m in resumed.measurements] == [m.metrics for m in whole.measurements]
    mine, theirs = load_checkpoint(trial), load_checkpoint(desk.shared.trial_folder)
    assert_same(mine.weights, theirs.weights)
    for key in ("network", "optimizer", "step", "probabilities"):
        assert_same(mine.training[key], theirs.training[key])
    assert bool(mine.training["probabilities"]) is (recipe == "darts")


# --- out of time ---


class Said(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Remember it."""
        self.lines.append(text)


def cut_short(
    recipe: SupernetRecipe, space: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Desk, Said]:
    """Train a supernet that has no time left after its first epoch."""
    monkeypatch.setattr("parti.finding.sharing.longest", lambda settings: 1e-9)
    settings = settings_of(
        data="stripes", space=space, recipe=recipe.name, supernet_epochs=3, trials=1, epochs=1
    )
    given, said = Given(stripes(80), recipe=recipe), Said()
    store = open_store(f"sqlite:///{folder}/s.db")
    desk = Desk(settings, given, "s", store, folder / "s", 1, said)
    assert desk.shared is not None
    trial = train_supernet(desk, desk.shared)
    assert [m.step for m in trial.measurements] == [1]
    return desk, said


def test_weights_are_inherited_from_the_stage_that_was_trained_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = tuple(
        replace(stage, sizes={"cells": cells})
        for stage, cells in zip(P_DARTS.stages, (1, 2, 3), strict=True)
    )
    desk, said = cut_short(replace(P_DARTS, stages=stages), CELL, tmp_path, monkeypatch)
    assert desk.shared is not None
    (line,) = (line for line in said.lines if "ran out of time" in line)
    assert line.startswith("p-darts ran out of time after 1 of 3 epochs, in stage 1 of 3: ")
    assert "of this stage (cells 1, share 1.0, " in line
    assert "not of the last (cells 3, share 0.375, dropout 0.7, most_skips 2)" in line
    assert dict(desk.shared.space.keywords)["cells"] == 1
    derived = desk.shared.proposals()
    assert derived
    alone = [Trial(i, one, State.DONE) for i, one in enumerate(derived[:3])]
    again = measure_agreement(desk, desk.shared, alone)
    assert [(t.state, t.error) for t in again] == 3 * [(State.DONE, None)]


def test_progressive_shrinking_says_which_networks_it_has_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch of fewer than 16 steps cannot hurry."""
    recipe = replace(ONCE_FOR_ALL, sizes={})
    _, said = cut_short(recipe, "mobile", tmp_path, monkeypatch)
    (line,) = (line for line in said.lines if "ran out of time" in line)
    assert line.startswith(
        "once-for-all ran out of time after 1 of 3 epochs, in phase 1 of 6 (larg"
    )
    assert "the smallest options of kernel, depth, width were never trained" in line


class Clock:
    """Shows a second more after each step of progressive shrinking."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        learn = ProgressiveShrinking.learn

        def ticking(step: ProgressiveShrinking, batch: object) -> Tensor:
            self.now += 1.0
            return learn(step, batch)  # type: ignore[arg-type]

        monkeypatch.setattr(ProgressiveShrinking, "learn", ticking)
        clock = SimpleNamespace(perf_counter=lambda: self.now)
        monkeypatch.setattr("parti.recipes.training.time", clock)


SLOW = replace(
    ONCE_FOR_ALL,
    training=replace(ONCE_FOR_ALL.training, epochs=6, batch_size=4, precision="float32"),
)
"""Takes 6 times 35 steps for `toy_data(140)`."""


def shrink(folder: Path, seconds: float | None) -> list[dict[str, float]]:
    training = SupernetTraining(
        elastic(), toy_data(140), SLOW, device="cpu", threads=1, save_every=0.0, seconds=seconds
    )
    job = Job(Architecture({}), seed=3, workdir=folder)
    return [dict(measured.metrics) for measured in training(job)]


@pytest.mark.parametrize(("seconds", "epochs"), [(None, 6), (270.0, 6), (100.0, 2), (40.0, 1)])
def test_when_time_is_short_progressive_shrinking_hurries_through_all_phases(
    seconds: float | None, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch)
    done = shrink(tmp_path, seconds)
    assert len(done) == epochs
    assert done[-1]["phase"] == 6
    assert done[-1]["lr"] < 0.02 * ONCE_FOR_ALL.training.lr
    assert reached(SLOW, tmp_path).missing == ""


def test_killed_in_a_hurry_it_ends_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch)
    whole, places = shrink(tmp_path / "whole", 100.0), []

    def save_and_die(folder: Path, checkpoint: Checkpoint) -> None:
        save_checkpoint(folder, checkpoint)
        place = checkpoint.training["epoch"], checkpoint.training["place"]
        if place[1] == 16 and place not in places:
            places.append(place)
            raise Killed

    monkeypatch.setattr("parti.recipes.training.save_checkpoint", save_and_die)
    for _ in whole:
        with pytest.raises(Killed):
            shrink(tmp_path / "parts", 100.0)
    assert shrink(tmp_path / "parts", 100.0) == whole
    mine, theirs = (load_checkpoint(tmp_path / folder) for folder in ("parts", "whole"))
    assert_same(mine.weights, theirs.weights)
