import itertools
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.graph import Graph
from parti.core.program import space
from parti.core.protocols import Space, Strategy
from parti.core.study import Constraint, Objective, Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.core.walks import architectures, distance, sample
from parti.core.words import choose
from parti.loop import search
from parti.spaces.paths import subtrees
from parti.strategies.bananas import Bananas, thompson
from parti.strategies.gaussian_process import GaussianProcess
from parti.strategies.models import networks
from parti.strategies.models.candidates import Pool, distinct, samples
from parti.strategies.models.gaussian import NOISES, condition
from parti.strategies.models.improvement import expected_improvement
from parti.strategies.models.kernels import Hamming, WeisfeilerLehman, kernel_for
from parti.strategies.models.networks import Training, loss_and_gradient, train
from parti.strategies.models.rounds import Round, Rounds
from parti.strategies.models.targets import LogRegret, clipped, penalized
from parti.strategies.npenas import Npenas
from parti.strategies.random_search import RandomSearch
from parti.testing import SPACES, Landscape, StrategySuite, toy_study


class TestGaussianProcess(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return GaussianProcess(space, study, first=6, pool=30)


class TestBananas(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return Bananas(space, study, first=6, batch=5, candidates=20, parents=2, epochs=3)


class TestNpenas(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return Npenas(space, study, first=6, batch=5, candidates=20, parents=3, epochs=3)


OPERATIONS = ("conv", "pool", "skip")


def drawn_chain(architecture: Architecture) -> Graph:
    """Input, two interchangeable branches, a last operation, output."""
    labels = ("input", *(str(architecture[f"op{i}"]) for i in range(3)), "output")
    return Graph(labels, ((0, 1), (0, 2), (1, 3), (2, 3), (3, 4)))


def sorted_branches(architecture: Architecture) -> Architecture:
    first, second = sorted((str(architecture["op0"]), str(architecture["op1"])))
    return architecture.replacing({"op0": first, "op1": second})


@space(graph=drawn_chain, canonical=sorted_branches)
def chain() -> list[object]:
    return [choose(f"op{i}", OPERATIONS) for i in range(3)]


def measured(number: int, architecture: Architecture, **metrics: float) -> Trial:
    return Trial(number, Proposal(architecture), State.DONE, (Measurement(metrics),))


class TestExpectedImprovement:
    @pytest.mark.parametrize(("best", "mean", "deviation"), [(0, 0, 1), (1, 3, 2), (-2, -5, 0.3)])
    def test_is_the_integral_of_the_improvement(
        self, best: float, mean: float, deviation: float
    ) -> None:
        y = np.linspace(mean - 12 * deviation, mean + 12 * deviation, 400_001)
        density = np.exp(-0.5 * ((y - mean) / deviation) ** 2) / deviation / math.sqrt(2 * math.pi)
        integral = np.trapezoid(np.maximum(best - y, 0) * density, y)
        closed = expected_improvement(best, np.array([mean * 1.0]), np.array([deviation * 1.0]))
        assert closed[0] == pytest.approx(integral, rel=1e-6)

    def test_without_uncertainty_is_the_improvement(self) -> None:
        means, tiny = np.array([1.0, 3.0]), np.full(2, 1e-12)
        np.testing.assert_allclose(expected_improvement(2.0, means, tiny), [1, 0], atol=1e-11)

    def test_below_minus_infinity_is_nothing(self) -> None:
        assert expected_improvement(-np.inf, np.zeros(1), np.ones(1)).tolist() == [0]


class TestKernels:
    def test_weisfeiler_lehman_is_the_cosine_of_the_histograms(self) -> None:
        members = list(architectures(chain))
        kernel = WeisfeilerLehman(chain, (0, 1, 2))
        rows = kernel.rows(members)
        for depth in (0, 1, 2):
            gram = kernel.gram(depth, rows, rows)
            bags = [subtrees(drawn_chain(sorted_branches(m)), depth) for m in members[:6]]
            for (i, one), (j, other) in itertools.product(enumerate(bags), repeat=2):

                def dot(a: tuple, b: tuple) -> int:
                    return sum(x[k] * y[k] for x, y in zip(a, b, strict=True) for k in x)

                expected = dot(one, other) / math.sqrt(dot(one, one) * dot(other, other))
                assert gram[i, j] == pytest.approx(expected)

    @pytest.mark.parametrize("name", ["wide", "conditional", "recursive", "dynamic"])
    def test_hamming_is_a_covariance(self, name: str) -> None:
        random = Random(1)
        kernel = Hamming(SPACES[name])
        rows = np.unique(kernel.rows(sample(SPACES[name], random) for _ in range(40)))
        for setting in kernel.settings:
            gram = kernel.gram(setting, rows, rows)
            np.testing.assert_allclose(np.diag(gram), 1)
            np.testing.assert_allclose(gram, gram.T)
            assert np.linalg.eigvalsh(gram).min() > -1e-9

    def test_hamming_falls_with_the_number_of_differences(self) -> None:
        kernel = Hamming(SPACES["wide"])
        start = sample(SPACES["wide"], Random(0))
        others = [start.replacing({f"digit{i}": 9 for i in range(n)}) for n in (0, 1, 2, 4)]
        rows = kernel.rows(others)
        likeness = kernel.gram(1.0, rows[:1], rows)[0]
        np.testing.assert_allclose(likeness, likeness[1] ** np.array([0, 1, 2, 4]))

    def test_isomorphic_architectures_have_one_number(self) -> None:
        kernel = kernel_for(chain, (1,))
        assert isinstance(kernel, WeisfeilerLehman)
        one = Architecture({"op0": "conv", "op1": "pool", "op2": "skip"})
        other = Architecture({"op0": "pool", "op1": "conv", "op2": "skip"})
        assert kernel.rows([one, other, one]).tolist() == [0, 0, 0]
        assert isinstance(kernel_for(SPACES["tiny"], (1,)), Hamming)

    def test_settings_are_checked(self) -> None:
        with pytest.raises(InvalidSettings, match="iterations"):
            WeisfeilerLehman(chain, ())
        with pytest.raises(InvalidSettings, match="more than 0"):
            Hamming(chain, (0.0,))


class TestGaussianProcesses:
    def setup_method(self) -> None:
        random = Random(3)
        self.kernel = Hamming(SPACES["conditional"])
        drawn = [sample(SPACES["conditional"], random) for _ in range(30)]
        self.rows = self.kernel.rows(drawn)
        self.target = np.array([Landscape().score(a) for a in drawn])
        self.new = self.kernel.rows(sample(SPACES["conditional"], random) for _ in range(20))

    def test_posterior_is_that_of_the_textbook(self) -> None:
        (found,) = condition(self.kernel, self.rows, [self.target])
        mean, deviation = found.predict(self.new)
        gram = self.kernel.gram(found.setting, self.rows, self.rows)
        across = self.kernel.gram(found.setting, self.new, self.rows)
        noisy = gram + found.noise * np.eye(len(gram))
        inverse = np.linalg.inv(noisy)
        expected = self.target.mean() + across @ inverse @ (self.target - self.target.mean())
        variance = found.amplitude * (1 - np.sum(across @ inverse * across, axis=1))
        np.testing.assert_allclose(mean, expected)
        np.testing.assert_allclose(deviation**2, variance, rtol=1e-5, atol=1e-9)

    def test_settings_are_the_likeliest(self) -> None:
        from scipy.stats import multivariate_normal

        (found,) = condition(self.kernel, self.rows, [self.target])
        standard = (self.target - self.target.mean()) / self.target.std()

        def likelihood(setting: float, noise: float, amplitude: float) -> float:
            gram = self.kernel.gram(setting, self.rows, self.rows)
            cov = amplitude * (gram + noise * np.eye(len(gram)))
            return float(multivariate_normal(cov=cov).logpdf(standard))

        amplitude = found.amplitude / self.target.var()
        best = likelihood(found.setting, found.noise, amplitude)
        assert found.likelihood == pytest.approx(best)
        for setting, noise in itertools.product(self.kernel.settings, NOISES):
            for factor in (0.5, 1.0, 2.0):
                assert likelihood(setting, noise, factor * amplitude) <= best + 1e-6

    def test_several_targets_are_learned_as_if_alone(self) -> None:
        both = condition(self.kernel, self.rows, [self.target, -3 * self.target + 1])
        means = [posterior.predict(self.new)[0] for posterior in both]
        np.testing.assert_allclose(means[1], -3 * means[0] + 1)

    def test_repeats_and_equal_targets_are_survived(self) -> None:
        rows = np.concatenate([self.rows, self.rows])
        for target in (np.concatenate([self.target, self.target + 1]), np.full(len(rows), 7.0)):
            (found,) = condition(self.kernel, rows, [target])
            mean, deviation = found.predict(self.new)
            assert np.isfinite(mean).all()
            assert (deviation > 0).all()

    def test_one_trial_is_enough(self) -> None:
        (found,) = condition(self.kernel, self.rows[:1], [np.array([2.0])])
        mean, _ = found.predict(self.new)
        np.testing.assert_allclose(mean, 2)

    def test_noise_is_found(self) -> None:
        noise = np.random.default_rng(0).normal(size=len(self.target))
        (clean,) = condition(self.kernel, self.rows, [self.target])
        (noisy,) = condition(self.kernel, self.rows, [noise])
        assert noisy.noise > clean.noise


class TestNetworks:
    @pytest.mark.parametrize("loss", ["absolute", "squared"])
    def test_gradient_is_that_of_finite_differences(self, loss: str) -> None:
        rng = np.random.default_rng(0)
        widths, members = (4, 5, 3, 1), 2
        count = 4 * 5 + 5 + 5 * 3 + 3 + 3 + 1
        parameters = rng.normal(size=(members, count))
        inputs, targets = rng.normal(size=(members, 6, 4)), rng.normal(size=(members, 6))
        _, gradient = loss_and_gradient(parameters, widths, inputs, targets, loss)
        for place in range(count):
            step = np.zeros((members, count))
            step[:, place] = 1e-6
            up, _ = loss_and_gradient(parameters + step, widths, inputs, targets, loss)
            down, _ = loss_and_gradient(parameters - step, widths, inputs, targets, loss)
            np.testing.assert_allclose(gradient[:, place], (up - down) / 2e-6, atol=1e-6)

    def test_members_do_not_meet(self) -> None:
        rng = np.random.default_rng(1)
        widths, count = (3, 4, 1), 3 * 4 + 4 + 4 + 1
        parameters = rng.normal(size=(3, count))
        inputs, targets = rng.normal(size=(3, 5, 3)), rng.normal(size=(3, 5))
        _, together = loss_and_gradient(parameters, widths, inputs, targets, "squared")
        for member in range(3):
            one = slice(member, member + 1)
            _, alone = loss_and_gradient(
                parameters[one], widths, inputs[one], targets[one], "squared"
            )
            np.testing.assert_allclose(alone[0], together[member])

    @pytest.mark.parametrize("cosine", [False, True])
    def test_learn_what_can_be_learned(self, cosine: bool) -> None:
        rng = np.random.default_rng(2)
        inputs = rng.integers(0, 2, size=(120, 8)).astype(np.float32)
        targets = 90 + inputs @ np.arange(8.0)
        how = Training((20, 20), 3, "absolute", 100, 32, 0.01, cosine=cosine)
        ensemble = train(inputs[:100], targets[:100], how, rng)
        error = np.abs(ensemble.predict(inputs[100:]).mean(axis=0) - targets[100:]).mean()
        assert error < 0.3 * targets.std()
        starts = ensemble.predict(inputs[100:])
        assert starts.shape == (3, 20)
        assert starts.std(axis=0).min() > 0

    def test_equal_seeds_train_equal_networks(self) -> None:
        inputs = np.eye(6, dtype=np.float32)
        how = Training((5,), 2, "squared", 4, 2, 0.01, decay=1e-3)
        one, two = (
            train(inputs, np.arange(6.0), how, np.random.default_rng(5)).predict(inputs)
            for _ in range(2)
        )
        np.testing.assert_array_equal(one, two)

    @pytest.mark.parametrize("wrong", [{"members": 0}, {"hidden": (0,)}, {"rate": 0.0}])
    def test_sizes_are_checked(self, wrong: dict[str, object]) -> None:
        right = {"hidden": (5,), "members": 1, "loss": "squared", "epochs": 1, "batch": 1}
        with pytest.raises(InvalidSettings, match="positive"):
            Training(**{**right, "rate": 0.1, **wrong})


class TestTargets:
    def test_what_breaks_a_constraint_is_worse_than_all_that_do_not(self) -> None:
        study = Study("x", (Objective("e", "min"),), (Constraint("ms", at_most=10),))
        cell = Architecture({"letter": "a"})
        trials = [
            measured(0, cell, e=1.0, ms=5),
            measured(1, cell, e=3.0, ms=9),
            measured(2, cell, e=0.0, ms=12),
            Trial(3, Proposal(cell), State.REJECTED, (Measurement({"ms": 15}),)),
            Trial(4, Proposal(cell), State.REJECTED, (Measurement({"ms": 1000}),)),
            Trial(5, Proposal(cell), State.FAILED, (Measurement({"ms": 5}),)),
            measured(6, cell, ms=5),
        ]
        learned, losses = penalized(study, trials)
        assert [trial.number for trial in learned] == [0, 1, 2, 3, 4]
        np.testing.assert_allclose(losses, [1, 3, 3 + 0.2 * 2, 3 + 0.5 * 2, 3 + 1 * 2])

    def test_nothing_allowed_is_still_ordered(self) -> None:
        study = Study("x", (Objective("e", "min"),), (Constraint("ms", at_most=10),))
        cell = Architecture({"letter": "a"})
        trials = [measured(0, cell, e=1.0, ms=15), measured(1, cell, e=3.0, ms=11)]
        _, losses = penalized(study, trials)
        np.testing.assert_allclose(losses, [0.5, 0.1])

    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
    def test_transformed_losses_keep_their_order(self, losses: list[float]) -> None:
        table = np.array(losses)[:, None]
        for changed in (LogRegret.of(table)(table), clipped(table)):
            assert np.isfinite(changed).all()
            order = np.argsort(table[:, 0], kind="stable")
            assert (np.diff(changed[order, 0]) >= 0).all()

    def test_best_and_median_are_the_scale(self) -> None:
        table = np.array([[1.0], [2.0], [3.0], [90.0], [2.5], [np.inf]])
        np.testing.assert_allclose(LogRegret.of(table)(table)[[0, 4], 0], [0, math.log(2)])
        np.testing.assert_allclose(clipped(table)[:, 0], [1, 2, 3, 4, 2.5, np.inf])


class TestCandidates:
    def test_are_distinct_up_to_isomorphism(self) -> None:
        drawn = samples(chain, Random(0), fidelity=3)
        found = distinct(chain, drawn, frozenset(), 100, patience=200)
        forms = {sorted_branches(proposal.architecture) for proposal in found}
        assert len(forms) == len(found) == 18
        assert {proposal.fidelity for proposal in found} == {3}

    def test_pool_of_a_small_space_is_what_is_left_of_it(self) -> None:
        known = frozenset({sorted_branches(m).fingerprint for m in list(architectures(chain))[:5]})
        pool = Pool(chain, size=4, listed=27, fidelity=None)
        assert len(pool.draw([], known, Random(0))) == 18 - len(known)

    def test_pool_of_a_large_space_is_half_mutants(self) -> None:
        random = Random(0)
        parents = [measured(n, sample(SPACES["wide"], random)) for n in range(3)]
        found = Pool(SPACES["wide"], size=30, listed=100, fidelity=None).draw(
            parents, frozenset(), random
        )
        assert [p.parents for p in found[:6]] == [(0,), (1,), (2,)] * 2
        assert [len(p.parents) for p in found] == [1] * 15 + [0] * 15
        for proposal in found[:15]:
            parent = parents[proposal.parents[0]].architecture
            assert distance(parent, proposal.architecture) == 1

    def test_size_is_checked(self) -> None:
        with pytest.raises(InvalidSettings, match="pool"):
            Pool(chain, size=0, listed=0, fidelity=None)


class TestRounds:
    def play(self, told: list[State], *, batch: int = 2) -> list[Round]:
        """Tell ended trials of the given states, asking before each; the rounds that began."""
        begun: list[Round] = []

        def ranking(round_: Round) -> list[Proposal]:
            begun.append(round_)
            return []

        rounds = Rounds(SPACES["wide"], toy_study(), ranking, first=2, batch=batch, fidelity=None)
        for number, state in enumerate(told):
            proposal = rounds.ask()
            assert proposal is not None
            score = (Measurement({"score": 1.0}),) if state is State.DONE else ()
            rounds.tell(Trial(number, proposal, state, score))
        return begun

    def test_begin_when_enough_was_measured(self) -> None:
        ended = [State.DONE, State.FAILED, State.DONE] + [State.DONE] * 5
        assert [len(begun.trials) for begun in self.play(ended)] == [3, 5, 7]

    def test_end_without_success_after_a_while(self) -> None:
        begun = self.play([State.DONE] * 2 + [State.REJECTED] * 25, batch=1)
        assert [len(each.trials) for each in begun] == [2, 12, 22]

    def test_rank_by_what_had_ended_when_they_began(self) -> None:
        """What ends or runs in the middle of a round does not change its ranking."""
        study = toy_study()
        trials = search(toy_study(trials=12), RandomSearch(SPACES["wide"], study), Landscape())
        strategies = [GaussianProcess(SPACES["wide"], study, first=10, pool=20) for _ in range(2)]
        for strategy in strategies:
            for trial in trials[:10]:
                strategy.tell(trial)
        before = strategies[0].ask()
        for strategy in strategies:
            for trial in trials[10:]:
                strategy.tell(trial)
        assert before == strategies[0].ask() == strategies[1].ask()

    def test_sizes_are_checked(self) -> None:
        with pytest.raises(InvalidSettings, match="at least 1"):
            GaussianProcess(SPACES["tiny"], toy_study(), first=0)


def best_of(strategy: type, seed: int, trials: int, **settings: object) -> float:
    study = toy_study(trials=trials, seed=seed)
    found = search(study, strategy(SPACES["wide"], study, **settings), Landscape(seed))
    return min(trial.metrics["score"] for trial in found)


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [
        (GaussianProcess, {}),
        (Bananas, {"epochs": 60}),
        (Npenas, {"epochs": 60}),
    ],
)
def test_models_beat_random_search(strategy: type, settings: dict[str, object]) -> None:
    seeds = range(3)
    found = [best_of(strategy, seed, 90, **settings) for seed in seeds]
    random = [best_of(RandomSearch, seed, 90) for seed in seeds]
    assert max(np.subtract(found, random)) < -0.01
    assert np.mean(np.subtract(found, random)) < -0.03


class TestFactsOfTheGaussianProcess:
    @pytest.mark.parametrize("listed", [0, 1000])
    def test_it_finds_the_best_of_a_small_space_soon(self, listed: int) -> None:
        """Random search would need half of the space, 101 trials."""
        scores = [Landscape(4).score(a) for a in architectures(SPACES["recursive"])]
        assert len(scores) == 202
        needed = []
        for seed in range(4):
            study = toy_study(trials=100, seed=seed)
            strategy = GaussianProcess(SPACES["recursive"], study, listed=listed)
            trials = search(study, strategy, Landscape(4))
            losses = [trial.metrics["score"] for trial in trials]
            needed.append(losses.index(min(scores)) if min(scores) in losses else 100)
        assert np.median(needed) < 40

    def test_constraints_are_learned(self) -> None:
        study = toy_study(trials=40, at_most=12)
        trials = search(study, GaussianProcess(SPACES["conditional"], study), Landscape())
        kept = [study.feasible(trial) for trial in trials[10:]]
        assert sum(kept) > 0.9 * len(kept)

    def test_settings_are_checked(self) -> None:
        with pytest.raises(InvalidSettings, match="parents"):
            GaussianProcess(SPACES["tiny"], toy_study(), parents=0)


class TestFactsOfBananas:
    def test_each_candidate_has_its_own_draw(self) -> None:
        """Members agree on the order, but independent draws do not keep to it."""
        predictions = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
        rng = np.random.default_rng(0)
        draws = np.array([thompson(predictions, rng) for _ in range(4000)])
        assert abs(np.corrcoef(draws.T)[0, 1]) < 0.05
        np.testing.assert_allclose(draws.mean(axis=0), 1, atol=0.05)
        np.testing.assert_allclose(draws.std(axis=0), math.sqrt(2 / 3), atol=0.05)

    def test_without_disagreement_the_draw_is_the_mean(self) -> None:
        draws = thompson(np.array([[3.0, 1.0]] * 5), np.random.default_rng(0))
        assert draws.tolist() == [3, 1]

    @pytest.fixture
    def trainings(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Counts of examples, one for each training of an ensemble."""
        counts: list[int] = []

        def counted(inputs: np.ndarray, *rest: object) -> networks.Ensemble:
            counts.append(len(inputs))
            return train(inputs, *rest)

        monkeypatch.setattr("parti.strategies.bananas.train", counted)
        return counts

    def test_ensemble_is_trained_once_a_batch(self, trainings: list[int]) -> None:
        study = toy_study(trials=40)
        search(study, Bananas(SPACES["wide"], study, epochs=2), Landscape())
        assert trainings == [10, 20, 30]

    def test_candidates_are_mutants_of_the_best(self) -> None:
        study = toy_study(trials=30)
        trials = search(study, Bananas(SPACES["wide"], study, epochs=2), Landscape())
        assert not any(trial.proposal.parents for trial in trials[:10])
        for start in (10, 20):
            ranked = sorted(trials[:start], key=lambda trial: trial.metrics["score"])
            for trial in trials[start : start + 10]:
                (number,) = trial.proposal.parents
                assert trials[number] in ranked[:5]
                assert distance(trial.architecture, trials[number].architecture) == 1

    def test_encoding_keeps_the_most_frequent_paths(self) -> None:
        three = Bananas(chain, toy_study(), paths=3).features
        every = Bananas(chain, toy_study(), paths=100).features
        assert three == every[:3]
        assert len(every) == 9  # an operation, then another: three of each
        assert all(path.startswith("input > ") for path in every)

    def test_decisions_are_all_kept(self) -> None:
        assert len(Bananas(SPACES["wide"], toy_study(), paths=3).features) == 40 * 6

    def test_settings_are_checked(self) -> None:
        with pytest.raises(InvalidSettings, match="at least 1"):
            Bananas(SPACES["tiny"], toy_study(), candidates=0)


class TestFactsOfNpenas:
    def test_mutants_of_the_lowest_prediction_are_trained(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        judged: list[float] = []

        class First:
            """Predicts the first number of its input, so the first feature should be rare."""

            def predict(self, inputs: np.ndarray) -> np.ndarray:
                judged.extend(inputs[:, 0])
                return inputs[None, :, 0]

        monkeypatch.setattr("parti.strategies.npenas.train", lambda *_: First())
        study = toy_study(trials=20)
        trials = search(study, Npenas(SPACES["wide"], study), Landscape())
        assert len(judged) == 100
        assert 10 <= judged.count(0) < 100
        first = "digit0", 0  # the features are sorted by name
        assert all(trial.architecture[first[0]] != first[1] for trial in trials[10:])

    def test_an_exhausted_parent_gives_way_to_the_next(self) -> None:
        study = toy_study(trials=16)
        strategy = Npenas(SPACES["conditional"], study, first=10, candidates=60, epochs=2)
        trials = search(study, strategy, Landscape())
        assert len({trial.proposal.parents for trial in trials[10:]}) >= 2

    def test_settings_are_checked(self) -> None:
        with pytest.raises(InvalidSettings, match="width"):
            Npenas(SPACES["tiny"], toy_study(), width=1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_kernel_of_mixed_spaces_never_exceeds_one(seed: int) -> None:
    random = Random(seed)
    kernel = Hamming(SPACES["recursive"])
    rows = kernel.rows(sample(SPACES["recursive"], random) for _ in range(5))
    gram = kernel.gram(1.0, rows, rows)
    assert gram.max() <= 1 + 1e-12
    assert gram.min() >= 0
