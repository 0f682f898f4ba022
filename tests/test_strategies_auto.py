import math
from collections.abc import Mapping
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space, Strategy
from parti.core.study import Constraint, Objective, Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.core.walks import architectures, sample
from parti.loop import search
from parti.strategies.auto import Auto
from parti.strategies.models.additive import Part, Settings, Surface, fit
from parti.strategies.models.described import Described
from parti.strategies.models.features import describe
from parti.strategies.models.outlook import _Scale, _telling
from parti.strategies.models.views import views_of
from parti.strategies.random_search import RandomSearch
from parti.testing import SPACES, Landscape, StrategySuite, toy_study


class TestAuto(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return Auto(space, study, first=3, candidates=12, listed=50)


class TestAutoThatListsTheSpace(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return Auto(space, study, first=3, candidates=12, listed=2_000)


class TestAutoWithScores(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return Auto(space, study, scores=size_of, first=3, candidates=12, listed=50)


def size_of(architecture: Architecture) -> Mapping[str, float]:
    return {"params": float(len(architecture))}


def ended(number: int, architecture: Architecture, fidelity: int | None = None, **metrics: float):
    return Trial(
        number, Proposal(architecture, fidelity), State.DONE, (Measurement(metrics, seconds=1.0),)
    )


def accuracy_study(*constraints: Constraint, seed: int = 0) -> Study:
    return Study("s", (Objective("accuracy", "max"),), constraints, seed=seed)


class TestFactsOfAuto:
    def test_needs_far_fewer_trials_than_random_search(self) -> None:
        lows = {}
        for kind in (Auto, RandomSearch):
            found = []
            for seed in range(4):
                study = toy_study(trials=30, seed=seed)
                trials = search(study, kind(SPACES["wide"], study), Landscape())
                found.append(min(trial.metric("score") for trial in trials))
            lows[kind] = float(np.mean(found))
        assert lows[Auto] < lows[RandomSearch] - 0.05

    def test_the_first_trials_follow_trusted_scores_when_the_objective_is_maximized(self) -> None:
        def first(study: Study, sign: float) -> float:
            def scores(architecture: Architecture) -> Mapping[str, float]:
                return {"params": sign * Landscape().score(architecture)}

            found = Auto(SPACES["wide"], study, scores=scores).ask()
            assert found is not None
            return Landscape().score(found.architecture)

        up = np.mean([first(accuracy_study(seed=seed), +1) for seed in range(10)])
        down = np.mean([first(accuracy_study(seed=seed), -1) for seed in range(10)])
        assert up > down + 0.05
        assert first(toy_study(), +1) == first(toy_study(), -1)

    def test_scores_that_take_long_choose_the_first_trials_within_the_limits(self) -> None:
        counted = []

        def scores(architecture: Architecture) -> Mapping[str, float]:
            counted.append(architecture)
            return {"params": Landscape().score(architecture)}

        limit = Constraint("params", at_most=0.6)
        strategy = Auto(SPACES["wide"], accuracy_study(limit), scores=scores, scored="first")
        found = []
        for number in range(8):
            proposal = strategy.ask()
            assert proposal is not None
            score = Landscape().score(proposal.architecture)
            found.append(score)
            strategy.tell(ended(number, proposal.architecture, accuracy=score, params=score))
        drawn = [Landscape().score(sample(SPACES["wide"], Random(s))) for s in range(200)]
        allowed = [score for score in drawn if score <= 0.6]
        assert max(found[:5]) <= 0.6
        assert np.mean(found[:5]) > np.quantile(allowed, 0.7)
        assert len(counted) == 5 * 8

    def test_trust_in_misleading_scores_fades(self) -> None:
        # The score says the opposite of the truth; after some trials the truth is believed.
        def scores(architecture: Architecture) -> Mapping[str, float]:
            return {"params": -Landscape().score(architecture)}

        space = SPACES["wide"]
        strategy = Auto(space, accuracy_study(), scores=scores)
        for number in range(25):
            proposal = strategy.ask()
            assert proposal is not None
            truth = Landscape().score(proposal.architecture)
            strategy.tell(ended(number, proposal.architecture, accuracy=truth))
        proposal = strategy.ask()
        assert proposal is not None
        assert Landscape().score(proposal.architecture) > 0.6

    def test_while_nothing_becomes_better_every_third_trial_ignores_what_is_known(self) -> None:
        # Two searches know the same architectures, with opposite losses after the first.
        space = SPACES["wide"]
        draw = Random(0)
        known = [sample(space, draw) for _ in range(24)]
        same = []
        for sign in (+1, -1):
            strategy = Auto(space, accuracy_study(), candidates=40)
            asked = []
            for number, architecture in enumerate(known):
                found = strategy.ask() if number > 15 else None
                asked.append(found.architecture if found else None)
                score = sign * Landscape().score(architecture) if number else 9.0
                strategy.tell(ended(number, architecture, accuracy=score))
            same.append(asked)
        alike = [number for number in range(16, 24) if same[0][number] == same[1][number]]
        assert alike == [18, 21]

    def test_a_constraint_is_learned_and_kept_to(self) -> None:
        # What costs most is most accurate, so only the constraint holds the search back.
        limit = Constraint("cost", at_most=9.0)
        space = SPACES["conditional"]

        def measured(architecture: Architecture) -> dict[str, float]:
            cost = float(len(architecture))
            return {"cost": cost, "accuracy": cost + 5 * Landscape().score(architecture)}

        strategy = Auto(space, accuracy_study(limit))
        found = []
        for number in range(40):
            proposal = strategy.ask()
            assert proposal is not None
            found.append(measured(proposal.architecture))
            strategy.tell(ended(number, proposal.architecture, **found[-1]))
        every = [measured(architecture) for architecture in architectures(space)]
        allowed = sorted(each["accuracy"] for each in every if limit.allows(each["cost"]))
        best = max(each["accuracy"] for each in found if limit.allows(each["cost"]))
        assert best >= allowed[-len(allowed) // 100]
        assert sum(not limit.allows(each["cost"]) for each in found[10:]) < 20

    def test_several_objectives_spread_over_the_front(self) -> None:
        study = Study("s", (Objective("a", "min"), Objective("b", "min")))
        strategy = Auto(SPACES["wide"], study, candidates=40)
        found = []
        for number in range(30):
            proposal = strategy.ask()
            assert proposal is not None
            digits = [int(option) for option in proposal.architecture.values()]
            a, b = float(sum(digits[:20])), float(20 * 5 - sum(digits[10:30]))
            found.append((a, b))
            strategy.tell(ended(number, proposal.architecture, a=a, b=b))
        late = np.array(found[15:])
        assert late.sum(axis=1).mean() < np.array(found[:5]).sum(axis=1).mean() - 10

    def test_one_in_eta_is_promoted_and_goes_on_from_its_trial(self) -> None:
        space = SPACES["conditional"]
        strategy = Auto(space, toy_study(), fidelities=(1, 3, 9), eta=3, candidates=20)
        evaluator = Landscape()
        trials: list[Trial] = []
        for number in range(40):
            proposal = strategy.ask()
            assert proposal is not None
            if proposal.continues is not None:
                before = trials[proposal.continues]
                assert before.architecture == proposal.architecture
                assert (before.proposal.fidelity, proposal.fidelity) in {(1, 3), (3, 9)}
            score = evaluator.score(proposal.architecture)
            trials.append(
                ended(number, proposal.architecture, proposal.fidelity, score=score, cost=1.0)
            )
            strategy.tell(trials[-1])
        counts = [sum(t.proposal.fidelity == level for t in trials) for level in (1, 3, 9)]
        assert counts[1] == counts[0] // 3
        assert counts[2] == counts[1] // 3
        promoted = [evaluator.score(t.architecture) for t in trials if t.proposal.fidelity == 9]
        assert np.mean(promoted) < np.mean([evaluator.score(t.architecture) for t in trials])

    def test_a_failed_trial_counts_as_the_worst(self) -> None:
        space = SPACES["tiny"]
        a, b, _ = architectures(space)
        strategy = Auto(space, toy_study(), first=1)
        strategy.tell(ended(0, a, score=0.1))
        strategy.tell(Trial(1, Proposal(b), State.FAILED, error="out of memory"))
        found = strategy.ask()
        assert found is not None
        assert found.architecture not in (a, b)

    @pytest.mark.parametrize(
        "wrong",
        [{"first": 0}, {"candidates": 0}, {"eta": 1}, {"listed": -1}, {"fidelities": (9, 3)}],
    )
    def test_settings_out_of_range_are_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(InvalidSettings):
            Auto(SPACES["tiny"], toy_study(), **wrong)  # type: ignore[arg-type]


class TestAdditiveProcess:
    parts = (
        Part(slice(0, 2), "exponential"),
        Part(slice(2, 4), "matern"),
        Part(slice(4, 6), "linear"),
    )
    settings = Settings(np.array([-0.3, 0.2, -0.5]), np.array([0.1, -0.4, 0.0]), -2.0)

    def data(self, count: int = 12, seed: int = 0):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(count, 6))
        return rows, np.sin(rows[:, 2]) + rows[:, 4] + 0.1 * rng.normal(size=count)

    def covariance(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        total = np.zeros((len(rows), len(others)))
        for i, x in enumerate(rows):
            for j, y in enumerate(others):
                rough = math.dist(x[:2], y[:2]) / math.exp(0.1)
                smooth = math.sqrt(5) * math.dist(x[2:4], y[2:4]) / math.exp(-0.4)
                total[i, j] = (
                    math.exp(-0.3) * math.exp(-rough)
                    + math.exp(0.2) * (1 + smooth + smooth**2 / 3) * math.exp(-smooth)
                    + math.exp(-0.5) * float(x[4:] @ y[4:])
                )
        return total

    def test_the_posterior_is_that_of_the_textbook(self) -> None:
        rows, targets = self.data()
        new, _ = self.data(5, seed=1)
        mean, deviation = Surface(self.parts, self.settings, rows, targets).predict(new)
        noisy = self.covariance(rows, rows) + (math.exp(-2.0) + 1e-8) * np.eye(len(rows))
        across = self.covariance(new, rows)
        assert mean == pytest.approx(across @ np.linalg.solve(noisy, targets))
        variance = self.covariance(new, new) - across @ np.linalg.solve(noisy, across.T)
        assert deviation**2 == pytest.approx(np.diag(variance))

    def test_the_gradient_is_the_numeric_one(self) -> None:
        from parti.strategies.models import additive

        rows, targets = self.data()
        apart = [additive._apart(part, rows, rows) for part in self.parts]
        count = len(self.parts)
        centre, deviation = np.zeros(2 * count + 1), np.ones(2 * count + 1)
        objective = additive._objective(self.parts, apart, targets, centre, deviation)
        at = np.random.default_rng(3).normal(size=2 * count + 1)
        _, gradient = objective(at)
        for place in range(len(at)):
            step = np.zeros_like(at)
            step[place] = 1e-5
            numeric = (objective(at + step)[0] - objective(at - step)[0]) / 2e-5
            assert gradient[place] == pytest.approx(numeric, rel=1e-4, abs=1e-6)

    def test_what_matters_gets_the_weight(self) -> None:
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(60, 6))
        found = fit(self.parts, rows, rows[:, 4] - rows[:, 5])
        assert found.weights.argmax() == 2
        assert found.noise < -4

    @pytest.mark.parametrize("count", [0, 1])
    def test_few_trials_are_enough(self, count: int) -> None:
        rows, targets = self.data(count)
        settings = fit(self.parts, rows, targets)
        mean, deviation = Surface(self.parts, settings, rows, targets).predict(self.data(4)[0])
        assert np.isfinite(mean).all()
        assert (deviation > 0).all()


class TestViews:
    def test_two_of_the_reference_are_one_apart_in_the_mean(self) -> None:
        space = SPACES["conditional"]
        found = [describe(space, a) for a in architectures(space)]
        for view in views_of(found):
            rows = view.matrix([each[view.name] for each in found])
            squares = ((rows[:, None, :] - rows[None, :, :]) ** 2).sum(axis=2)
            assert squares.mean() == pytest.approx(1, rel=0.1)

    def test_what_the_reference_has_not_is_far(self) -> None:
        (view,) = views_of([{"choices": {"a": 1.0}}, {"choices": {"b": 1.0}}])
        known, unknown = view.matrix([{"a": 1.0}, {"c": 2.0}])
        assert np.linalg.norm(known - unknown) > 1

    def test_what_never_varies_is_left_out(self) -> None:
        (view,) = views_of([{"g": {"a": 1.0, "b": 1.0}}, {"g": {"a": 1.0, "b": 2.0}}])
        assert list(view.columns) == ["b"]
        assert views_of([{"g": {"a": 1.0}}] * 3) == ()

    def test_scores_count_by_their_place(self) -> None:
        space = SPACES["wide"]
        from random import Random

        found = [sample(space, Random(n)) for n in range(5)]
        plain = Described(space, lambda a: {"params": Landscape().score(a)}, listed=0)
        bent = Described(space, lambda a: {"params": 9 * Landscape().score(a) ** 3}, listed=0)
        assert plain.prior(plain.rows(found)) == pytest.approx(bent.prior(bent.rows(found)))
        order = np.argsort([Landscape().score(a) for a in found])
        assert list(np.argsort(plain.prior(plain.rows(found)))) == list(order)


class TestScale:
    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.booleans())
    def test_keeps_the_order(self, values: list[float], loss: bool) -> None:
        found = _Scale.of(np.array(values), loss)(np.array(sorted(values)))
        assert np.isfinite(found).all()
        assert (np.diff(found) >= -1e-9).all()

    def test_steps_near_the_best_loss_are_larger_than_far_from_it(self) -> None:
        values = np.array([1.0, 2.0, 3.0, 4.0, 1000.0])
        steps = np.diff(_Scale.of(values, loss=True)(values))
        assert steps[0] > steps[1] > steps[2]
        assert steps[3] < 20 * steps[0]
        plain = np.diff(_Scale.of(values, loss=False)(values))
        assert plain[0] == pytest.approx(plain[1])


def test_of_many_trials_the_best_and_the_latest_are_kept() -> None:
    values = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 8.0])
    assert list(_telling(values, 7)) == [0, 1, 2, 3, 4, 5, 6]
    assert list(_telling(values, 4)) == [1, 3, 5, 6]
