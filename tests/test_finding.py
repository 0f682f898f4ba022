"""The main job from Python, its plan and its settings."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import parti
from parti.core.errors import InvalidSettings, InvalidStudy
from parti.core.study import Constraint
from parti.core.trial import State
from parti.core.walks import tree_of
from parti.deploy.temperature import checked_temperature
from parti.evaluators.complexity import Complexity
from parti.finding.attain import attainable
from parti.finding.desk import Desk
from parti.finding.outcome import described_space
from parti.finding.plan import plan_finals, population
from parti.finding.settings import Settings, parse_duration, parse_number, settings_of
from parti.finding.stages import epochs_of_testing, in_words
from parti.stores import open_store
from tiny_space import tiny

TINY = f"{Path(__file__).with_name('tiny_space.py')}:tiny"


def stripes(n: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Images whose class is the direction of their stripes."""
    random = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = random.integers(0, 60, (n, 10, 12, 3), dtype=np.uint8)
    for i, label in enumerate(labels):
        images[i][(slice(None), slice(None, None, 2)) if label else slice(None, None, 2)] += 150
    return images, labels


@pytest.mark.parametrize(("most", "said"), [(3, "14"), (10, "more than 1,000")])
def test_a_dynamic_space_is_counted_only_so_far(most: int, said: str) -> None:
    walks = 0

    @parti.space
    def layers() -> list[int]:
        nonlocal walks
        walks += 1
        return [parti.choose(f"{i}", [1, 2]) for i in range(parti.choose("n", range(1, most + 1)))]

    assert tree_of(layers) is None
    walks = 0
    described = described_space(SimpleNamespace(space=layers, space_name="layers", shape={}))
    assert (described["size"], described["choices"]) == (said, None)
    assert walks <= 1_001


def test_your_own_arrays_from_python(tmp_path: Path, monkeypatch) -> None:
    opened = []
    sealed = Desk.sealed
    monkeypatch.setattr(Desk, "sealed", lambda desk: opened.append(1) or sealed(desk))

    def find() -> parti.finding.Found:
        return parti.find(
            stripes(), trials=4, epochs=2, final_epochs=4, finalists=1, space=TINY,
            at_most={"latency_ms": 50}, objectives=("val_accuracy", "params"),
            store=f"sqlite:///{tmp_path}/s.db",
        )  # fmt: skip

    found = find()
    assert opened == [1], "the test split is opened once"
    assert found.test_accuracy > 0.9
    assert found.report.exists()
    assert all(t.metrics["latency_ms"] < 50 for t in found.trials)
    assert found.to_dict()["data"]["channels"] == 3
    told = json.loads((found.folder / "model" / "model.json").read_text())
    fitted = found.best["metrics"]["temperature"]["value"]
    assert told.get("temperature") == checked_temperature(fitted)
    again = find()
    assert again.summary() == found.summary()
    assert opened == [1], "a finished study does not open it again"


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_durations(hours: int, minutes: int, seconds: int) -> None:
    total = 3600 * hours + 60 * minutes + seconds
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == total
    assert parse_duration(f"{total}s") == total


def test_a_strategy_of_several_fidelities_promotes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    parti.find(
        stripes(120),
        space=TINY,
        strategy="asha",
        trials=6,
        epochs=9,
        final_epochs=1,
        finalists=1,
        baselines=False,
        store=url,
    )
    store = open_store(url)
    trials, _ = store.trials(store.studies()[0])
    assert {trial.state for trial in trials} == {State.DONE}
    promoted = [trial for trial in trials if trial.proposal.continues is not None]
    assert promoted
    by_number = {trial.number: trial for trial in trials}
    for trial in promoted:
        before = by_number[trial.proposal.continues]
        assert before.architecture == trial.architecture
        assert before.proposal.fidelity < trial.proposal.fidelity <= 9


@pytest.mark.parametrize("text", ["", "h", "2 hours", "-3s", "1m2h", "3", "1m30"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidSettings, match="write 90s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "number"), [("300k", 3e5), ("1.5M", 1.5e6), ("2G", 2e9), ("7", 7), ("1e6", 1e6)]
)
def test_numbers(text: str, number: float) -> None:
    assert parse_number(text) == number


def test_equal_settings_have_equal_names_and_others_do_not() -> None:
    one = settings_of(data="/x/photos", trials=3)
    assert one.name == settings_of(trials=3, data="/x/photos").name
    assert one.name.startswith("photos-")
    for change in ({"seed": 1}, {"trials": 4}, {"at_most": {"params": 3.0}}, {"data": "/y/photos"}):
        assert settings_of(**{"data": "/x/photos", "trials": 3, **change}).name != one.name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"trials": -1}, "trials: .*greater than or equal to 1.*got -1"),
        ({"seconds": 0.0}, r"^--budget \(seconds\): .*greater than 0, got 0.0$"),
        ({"at_most": {"latency": 5.0}}, r"^--max \(at_most\): .*did you mean 'latency_ms'\?\)"),
        ({"at_least": {"params": "a"}}, r"^--min \(at_least\), params: .*got 'a'$"),
        ({"final_epochs": 0}, r"^--final-epochs \(final_epochs\): "),
        ({"objectives": ("val_acuracy",)}, r"^--objective .*did you mean 'val_accuracy'\?"),
        ({"supernet_of": 3, "recipe": "x"}, "^supernet_of: "),
        ({"objectives": ("params", "params")}, "none twice"),
        ({"at_most": {"size": 1}}, r"unknown metrics \['size'\]; there are activation_bytes"),
        ({"colour": "red"}, "colour"),
        ({"image_size": 1}, "image_size"),
        ({"supernet_epochs": 2}, r"^a supernet needs a recipe; name one, as --recipe [a-z-]+$"),
    ],
)
def test_wrong_settings_are_named(given: dict, said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        settings_of(data="digits", **given)


def test_a_constraint_is_checked_before_the_search() -> None:
    space = tiny(in_channels=1, classes=10)
    counts = Complexity(space, (1, 8, 8))
    limit = Constraint("params", at_most=700)
    found = attainable(space, counts, [limit], seed=0)
    (measured,) = counts(parti.Job(found))
    assert measured.metrics["params"] <= 700
    with pytest.raises(InvalidStudy, match=r"keeps to params ≤ 100; the nearest .* params = \d+"):
        attainable(space, counts, [Constraint("params", at_most=100)], seed=0)


def finals(folder: Path, settings: Settings, left: float | None, **changed):
    given = {
        "images": 1000, "epoch_seconds": [1.0, 2.0, 3.0], "fixed_epoch_seconds": 4.0, "workers": 1
    }  # fmt: skip
    return plan_finals(settings, left=left, **{**given, **changed}, file=folder / "plan.json")


def test_the_final_training_fits_into_the_time_that_is_left(tmp_path: Path) -> None:
    asked = settings_of(data="digits", seconds=3600)
    plentiful = finals(tmp_path / "a", asked, 1e6)
    assert (plentiful.finalists, plentiful.seeds, plentiful.epochs) == (3, 3, 50)
    for left in (30.0, 100.0, 400.0, 1500.0):
        plan = finals(tmp_path / f"{left}", asked, left)
        each = sum([1.0, 2.0, 3.0][: plan.finalists]) + (plan.seeds - 1)
        cost = 2 * each * plan.epochs + plan.seeds * 4 * plan.fixed_epochs
        assert plan.epochs == 1 or cost <= left
    assert finals(tmp_path / "b", asked, 1.0).epochs == 1


def test_where_one_epoch_is_too_long_the_final_training_sees_fewer_images(tmp_path: Path) -> None:
    asked = settings_of(data="digits", seconds=3600)
    rest = 12.0 + 4 * 0.02 * 3600
    for free in (2000.0, 400.0, 90.0, 1.0, -50.0):
        plan = finals(
            tmp_path / f"{free}", asked, rest + free, images=50_000,
            epoch_seconds=[500.0, 900.0, 950.0], fixed_epoch_seconds=100.0,
        )  # fmt: skip
        share = (plan.images or 50_000) / 50_000
        assert plan.epochs == 1
        assert (plan.images is None) == (free == 2000.0)
        assert (2 * 500 + 100) * share <= max(free, 1100 * 1000 / 50_000)
        assert plan.images is None or plan.images >= 1000
    assert finals(tmp_path / "few", asked, 1.0, images=600).images is None


def test_the_final_training_leaves_time_for_testing(tmp_path: Path) -> None:
    asked = settings_of(data="digits", seconds=3600, finalists=1, seeds=1)
    free = 0.95 * (1000.0 - 12.0 - 4 * 0.02 * 3600)
    for tested in (0.0, 5.0):
        plan = finals(
            tmp_path / f"{tested}", asked, 1000.0, images=50_000,
            epoch_seconds=[20.0], fixed_epoch_seconds=10.0, tested=tested,
        )  # fmt: skip
        assert plan.testing == tested * (2 * 20 + 10)
        assert plan.epochs == int((free - plan.testing) / (2 * 20 + 10)) < 20


def test_time_for_testing_is_kept_free_of_the_epochs_that_were_asked_for(tmp_path: Path) -> None:
    asked = settings_of(data="digits", seconds=3600, final_epochs=5, seeds=2)
    plan = finals(tmp_path, asked, 1000.0, tested=0.5)
    assert plan.testing == 0.5 * 2 * (2 * 1.0 + 4.0)
    endless = settings_of(data="digits", final_epochs=5)
    assert finals(tmp_path / "endless", endless, None, epoch_seconds=[], tested=0.5).testing == 0.0


def test_testing_takes_a_third_of_training_for_each_image() -> None:
    """Of 900 images to train on and 300 to validate with: an epoch is 1000 images' training."""
    seen = SimpleNamespace(train_labels=range(900), val_labels=range(300))
    desk = SimpleNamespace(seen=seen, splits=SimpleNamespace(test=range(1200)))
    assert epochs_of_testing(desk) == pytest.approx((300 + 1200) / 3 / 1000)


def test_a_plan_is_kept(tmp_path: Path) -> None:
    asked = settings_of(data="digits", trials=3)
    first = finals(tmp_path, asked, None)
    assert finals(tmp_path, asked, 5.0, images=7) == first
    assert first.fixed_epochs == first.epochs


def test_what_the_user_says_is_done(tmp_path: Path) -> None:
    asked = settings_of(data="digits", seconds=10, final_epochs=7, finalists=2, seeds=2)
    plan = finals(tmp_path, asked, 5.0)
    assert replace(plan, fixed_epochs=0) == replace(
        plan, finalists=2, seeds=2, epochs=7, fixed_epochs=0
    )


def test_few_trials_make_few_finalists(tmp_path: Path) -> None:
    for trials, finalists in ((3, 1), (8, 1), (16, 2), (100, 3)):
        asked = settings_of(data="digits", trials=trials)
        assert finals(tmp_path / str(trials), asked, None).finalists == finalists


@pytest.mark.parametrize(
    ("candidates", "rivals", "epochs", "said"),
    [
        (1, 0, 1, "training 1 finalist for 1 epoch"),
        (3, 0, 20, "training 3 finalists for 20 epochs"),
        (2, 2, 20, "training 2 finalists of each search for 20 epochs"),
        (3, 1, 20, "training 3 finalists and 1 of random search for 20 epochs"),
    ],
)
def test_the_final_training_in_words(candidates: int, rivals: int, epochs: int, said: str) -> None:
    assert in_words(candidates, rivals, epochs) == said
    assert in_words(candidates, rivals, epochs, 8000) == f"{said} of 8,000 images"


def test_populations_leave_room_to_evolve() -> None:
    assert [population(n) for n in (8, 30, 1000)] == [4, 10, 100]


def test_a_winner_read_from_json_is_the_architecture_that_was_found(tmp_path: Path) -> None:
    """Of `some_of`, an option is a tuple, which JSON makes a list."""
    winner = parti.Architecture({"inputs": ("earlier", "previous"), "op": "conv"})
    result = json.loads(json.dumps({"best": {"architecture": dict(winner)}}))
    store = open_store(f"sqlite:///{tmp_path / 'studies.db'}")
    assert parti.finding.Found(result, tmp_path, store).architecture == winner
