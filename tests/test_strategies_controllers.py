from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from random import Random
from statistics import mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.program import space
from parti.core.protocols import Space, Strategy
from parti.core.study import Constraint, Objective, Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.core.walks import architectures, sample
from parti.core.words import choose
from parti.loop import search
from parti.strategies.lstm import LstmPolicy
from parti.strategies.metaqnn import SCHEDULE, MetaQNN, QTable, epsilon_after
from parti.strategies.policies import Adam, LogitsPolicy, Policy, Step, roll_out, steps_of
from parti.strategies.ppo import PPO, clipped_weights
from parti.strategies.random_search import RandomSearch
from parti.strategies.reinforce import Reinforce
from parti.strategies.rewards import Baseline, Rewards
from parti.testing import SPACES, Landscape, StrategySuite, toy_study

Make = Callable[[Space, Study], Strategy]


class TestReinforceWithLogits(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return Reinforce(space, study)


class TestReinforceWithLstm(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return Reinforce(space, study, policy="lstm", hidden=8)


class TestPPOWithLstm(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return PPO(space, study, batch=6, epochs=3, hidden=8)


class TestPPOWithLogits(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return PPO(space, study, policy="logits", batch=6)


class TestMetaQNN(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return MetaQNN(space, study)


@space
def shrinking() -> tuple[int, int]:
    """The options of `second` depend on what `first` was: one name, three choices."""
    first = choose("first", [1, 2, 3])
    return first, choose("second", list(range(first)))


def done(number: int, architecture: Architecture, **metrics: float) -> Trial:
    return Trial(number, Proposal(architecture), State.DONE, (Measurement(metrics),))


def lstm() -> LstmPolicy:
    return LstmPolicy(3, layers=2, hidden=3, initial=0.8)


def batch_of(searched: Space, n: int = 5) -> list[tuple[Step, ...]]:
    random = Random(1)
    return [steps_of(searched, sample(searched, random)) for _ in range(n)]


def shaken(policy: Policy) -> None:
    """Give every parameter that exists another value."""
    draw = np.random.default_rng(0)
    for value in policy.parameters.values():
        value += draw.normal(0.0, 0.5, value.shape)


class TestPolicies:
    @pytest.mark.parametrize("make", [LogitsPolicy, lstm])
    @pytest.mark.parametrize("name", ["conditional", "dynamic", "shrinking"])
    def test_gradients_are_those_of_finite_differences(
        self, make: Callable[[], Policy], name: str
    ) -> None:
        policy = make()
        batch = batch_of({**SPACES, "shrinking": shrinking}[name])
        shape = policy.trace(batch).log_probs.shape
        shaken(policy)
        weights = np.random.default_rng(1).normal(size=shape)

        def value() -> float:
            trace = policy.trace(batch)
            return float((weights * trace.log_probs).sum() + 0.3 * trace.entropies.sum())

        gradient = policy.trace(batch).gradient(weights, entropy=0.3)
        for parameter, slopes in gradient.items():
            flat, numeric = policy.parameters[parameter].reshape(-1), []
            for place in range(len(flat)):
                kept, around = flat[place], []
                for near in (kept + 1e-5, kept - 1e-5):
                    flat[place] = near
                    around.append(value())
                flat[place] = kept
                numeric.append((around[0] - around[1]) / 2e-5)
            np.testing.assert_allclose(slopes.reshape(-1), numeric, rtol=1e-6, atol=1e-8)
        assert gradient.keys() == policy.parameters.keys()

    @pytest.mark.parametrize("make", [LogitsPolicy, lstm])
    @pytest.mark.parametrize("name", ["conditional", "recursive", "dynamic", "shrinking"])
    def test_probabilities_of_all_members_sum_to_one(
        self, make: Callable[[], Policy], name: str
    ) -> None:
        policy = make()
        searched = {**SPACES, "shrinking": shrinking}[name]
        batch = [steps_of(searched, each) for each in architectures(searched)]
        policy.trace(batch)
        shaken(policy)
        total = np.exp(policy.trace(batch).log_probs.sum(axis=1)).sum()
        assert total == pytest.approx(1.0, abs=1e-12)

    @pytest.mark.parametrize("make", [LogitsPolicy, lstm])
    def test_what_is_rolled_out_is_what_is_traced(self, make: Callable[[], Policy]) -> None:
        policy = make()
        batch = batch_of(SPACES["conditional"])
        policy.trace(batch)
        shaken(policy)
        logs = policy.trace(batch).log_probs
        for row, steps in enumerate(batch):
            roll = policy.roll()
            for time, step in enumerate(steps):
                probability = roll.probabilities(step.choice)[step.place]
                assert np.log(probability) == pytest.approx(logs[row, time], abs=1e-12)
                roll.take(step)

    def test_draws_have_the_probabilities_of_the_policy(self) -> None:
        policy, tiny = LogitsPolicy(), SPACES["tiny"]
        (step,) = steps_of(tiny, Architecture({"letter": "a"}))
        policy.logits(step.choice)[:] = np.log([0.7, 0.2, 0.1])
        random = Random(0)
        drawn = [roll_out(policy, tiny, random)["letter"] for _ in range(4000)]
        shares = [drawn.count(letter) / len(drawn) for letter in "abc"]
        assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.02)

    def test_an_untrained_logits_policy_picks_uniformly(self) -> None:
        trace = LogitsPolicy().trace(batch_of(SPACES["wide"]))
        np.testing.assert_allclose(trace.log_probs, -np.log(6))
        np.testing.assert_allclose(trace.entropies, np.log(6))

    def test_only_the_lstm_lets_decisions_depend_on_those_before(self) -> None:
        searched = SPACES["wide"]
        some = sample(searched, Random(0))
        batch = [steps_of(searched, some.replacing({"digit0": digit})) for digit in (0, 1)]
        for policy, depends in ((LogitsPolicy(), False), (lstm(), True)):
            logs = policy.trace(batch).log_probs[:, 1:]
            assert np.allclose(logs[0], logs[1], atol=1e-9) is not depends

    def test_parameters_do_not_depend_on_the_order_in_which_choices_are_met(self) -> None:
        batch = batch_of(SPACES["recursive"], 12)
        forth, back = (LstmPolicy(3, hidden=4) for _ in range(2))
        forth.trace(batch)
        for steps in reversed(batch):
            back.trace([steps])
        assert forth.parameters.keys() == back.parameters.keys()
        for name, value in forth.parameters.items():
            np.testing.assert_array_equal(value, back.parameters[name])
        other = LstmPolicy(4, hidden=4)
        assert not np.array_equal(other.start(), forth.start())

    def test_the_recurrent_layers_are_those_of_torch(self) -> None:
        torch = pytest.importorskip("torch")
        policy = LstmPolicy(0, layers=2, hidden=4, initial=0.7)
        batch = batch_of(SPACES["wide"], 3)
        logs = policy.trace(batch).log_probs
        theirs = torch.nn.LSTM(4, 4, num_layers=2, dtype=torch.float64)
        into, keep, out, candidate = np.arange(16).reshape(4, 4)
        order = np.concatenate((into, keep, candidate, out))  # torch's order of gates
        with torch.no_grad():
            for layer in range(2):
                by_inputs, by_outputs, bias = policy.cells(layer)
                for name, value in (("weight_ih", by_inputs.T), ("weight_hh", by_outputs.T)):
                    getattr(theirs, f"{name}_l{layer}").copy_(torch.tensor(value[order]))
                getattr(theirs, f"bias_ih_l{layer}").copy_(torch.tensor(bias[order]))
                getattr(theirs, f"bias_hh_l{layer}").zero_()
            for row, steps in enumerate(batch):
                read = [policy.embedding(step.choice)[step.place] for step in steps[:-1]]
                hidden, _ = theirs(torch.tensor(np.stack([policy.start(), *read])))
                for time, step in enumerate(steps):
                    weights, bias = policy.head(step.choice)
                    logits = hidden[time] @ torch.tensor(weights) + torch.tensor(bias)
                    found = torch.log_softmax(logits, 0)[step.place]
                    assert float(found) == pytest.approx(logs[row, time], abs=1e-12)

    def test_adam_is_that_of_torch(self) -> None:
        torch = pytest.importorskip("torch")
        draw = np.random.default_rng(0)
        ours = {"a": np.ones(3), "unmoved": np.ones(2)}
        theirs = torch.ones(3, dtype=torch.float64, requires_grad=True)
        adam = Adam(0.05)
        optimizer = torch.optim.Adam([theirs], lr=0.05, maximize=True)
        for _ in range(20):
            slope = draw.normal(size=3)
            adam.ascend(ours, {"a": slope})
            theirs.grad = torch.tensor(slope)
            optimizer.step()
        np.testing.assert_allclose(ours["a"], theirs.detach().numpy(), rtol=1e-12)
        np.testing.assert_array_equal(ours["unmoved"], np.ones(2))


class TestRewards:
    study = Study("a", (Objective("accuracy", "max"),), (Constraint("latency_ms", at_most=10.0),))

    def reward(self, study: Study, penalty: float = 1.0, **metrics: float) -> float | None:
        return Rewards(study, penalty).of(done(0, Architecture(), **metrics))

    def test_a_broken_constraint_costs_what_it_does_in_mnasnet(self) -> None:
        assert self.reward(self.study, accuracy=0.8, latency_ms=9.0) == 0.8
        # ACC * (LAT / T)^-1 when the latency is above its target, T = 10.
        assert self.reward(self.study, accuracy=0.8, latency_ms=16.0) == pytest.approx(0.5)
        soft = self.reward(self.study, 0.07, accuracy=0.8, latency_ms=20.0)
        assert soft == pytest.approx(0.8 * 2**-0.07)
        assert self.reward(self.study, 0.0, accuracy=0.8, latency_ms=20.0) == 0.8

    def test_a_metric_to_be_small_is_negated_and_grows_when_constraints_are_broken(self) -> None:
        study = Study("a", (Objective("error", "min"),), (Constraint("latency_ms", at_most=10.0),))
        assert self.reward(study, error=0.2, latency_ms=10.0) == -0.2
        assert self.reward(study, error=0.2, latency_ms=15.0) == pytest.approx(-0.3)

    def test_failures_get_the_worst_reward_known(self) -> None:
        rewards = Rewards(self.study)
        failed = Trial(1, Proposal(Architecture()), State.FAILED, error="NaN")
        assert rewards.of(failed) is None
        for accuracy in (0.7, 0.4, 0.9):
            rewards.of(done(0, Architecture(), accuracy=accuracy, latency_ms=1.0))
        unusable = done(2, Architecture(), accuracy=float("nan"), latency_ms=1.0)
        unmeasured = done(3, Architecture(), accuracy=0.95)
        rejected = Trial(4, Proposal(Architecture()), State.REJECTED)
        assert [rewards.of(t) for t in (failed, unusable, unmeasured, rejected)] == [0.4] * 4
        assert rewards.of(Trial(5, Proposal(Architecture()))) is None

    def test_the_baseline_is_an_unbiased_moving_average_that_has_seen_the_reward(self) -> None:
        baseline = Baseline(0.9)
        assert baseline.update(5.0) == 5.0
        assert baseline.update(1.0) == pytest.approx((0.9 * 5.0 + 1.0) / 1.9)
        last = [baseline.update(3.0) for _ in range(300)][-1]
        assert last == pytest.approx(3.0)


def probability(strategy: Reinforce | PPO, searched: Space, architecture: Architecture) -> float:
    logs = strategy.policy.trace([steps_of(searched, architecture)]).log_probs
    return float(np.exp(logs.sum()))


class TestControllers:
    study = Study("bandit", (Objective("accuracy", "max"),))

    @pytest.mark.parametrize(
        "make",
        [
            partial(Reinforce, learning_rate=0.05),
            partial(Reinforce, policy="lstm", learning_rate=0.01, hidden=8),
            partial(PPO, learning_rate=0.02, hidden=8),
            partial(PPO, policy="logits", learning_rate=0.02),
        ],
        ids=["reinforce-logits", "reinforce-lstm", "ppo-lstm", "ppo-logits"],
    )
    def test_they_come_to_choose_the_better_arm(self, make: Callable[..., Reinforce]) -> None:
        tiny, arms = SPACES["tiny"], {"a": 0.6, "b": 0.7, "c": 0.5}
        strategy, noise = make(tiny, self.study, distinct=False), Random(0)
        for number in range(400):
            proposal = strategy.ask()
            accuracy = arms[proposal.architecture["letter"]] + noise.gauss(0.0, 0.03)
            strategy.tell(done(number, proposal.architecture, accuracy=accuracy))
        assert probability(strategy, tiny, Architecture({"letter": "b"})) > 0.9

    def test_the_unit_of_the_reward_does_not_matter(self) -> None:
        learned = []
        for unit in (1.0, 100.0):
            strategy, random = Reinforce(SPACES["wide"], self.study), Random(0)
            for number in range(12):
                drawn = sample(SPACES["wide"], random)
                strategy.tell(done(number, drawn, accuracy=unit * random.random() + unit))
            learned.append(strategy.policy.parameters)
        for name, value in learned[0].items():
            assert np.abs(value).max() > 0.01
            np.testing.assert_allclose(value, learned[1][name], atol=1e-6)

    def test_the_first_reward_is_its_own_baseline(self) -> None:
        strategy = Reinforce(SPACES["wide"], self.study)
        strategy.tell(done(0, sample(SPACES["wide"], Random(0)), accuracy=0.9))
        assert not any(value.any() for value in strategy.policy.parameters.values())

    def test_what_was_better_becomes_likelier_and_what_was_worse_less_likely(self) -> None:
        searched, random = SPACES["conditional"], Random(0)
        first, second = (sample(searched, random) for _ in range(2))
        for accuracy, sign in ((0.9, 1), (0.1, -1)):
            strategy = Reinforce(searched, self.study)
            strategy.tell(done(0, first, accuracy=0.5))
            before = probability(strategy, searched, second)
            strategy.tell(done(1, second, accuracy=accuracy))
            assert sign * (probability(strategy, searched, second) - before) > 0

    @pytest.mark.parametrize(
        ("make", "batch"), [(partial(Reinforce, policy="lstm"), 8), (PPO, 20)], ids=["lstm", "ppo"]
    )
    def test_the_papers_batch_makes_one_update(
        self, make: Callable[..., Reinforce], batch: int
    ) -> None:
        strategy, random = make(SPACES["dynamic"], self.study), Random(0)
        learned = []
        for number in range(batch):
            drawn = sample(SPACES["dynamic"], random)
            strategy.tell(done(number, drawn, accuracy=random.random()))
            learned.append(strategy.policy.parameters.get("start", np.zeros(1)).copy())
        assert all(np.array_equal(a, b) for a, b in pairwise(learned[:-1]))
        assert not np.array_equal(learned[-1], learned[-2])

    def test_a_trial_that_runs_teaches_nothing(self) -> None:
        trials = [Trial(n, Proposal(sample(SPACES["wide"], Random(n)))) for n in range(4)]
        quiet, parallel = (Reinforce(SPACES["wide"], self.study) for _ in range(2))
        for trial in trials:
            parallel.tell(trial)
        for trial in trials:
            for strategy in (quiet, parallel):
                strategy.tell(done(trial.number, trial.architecture, accuracy=trial.number / 4))
        assert quiet.ask() == parallel.ask()

    @pytest.mark.parametrize("policy", ["logits", "lstm"])
    def test_ppo_with_one_epoch_is_reinforce(self, policy: str) -> None:
        same = {
            "policy": policy, "learning_rate": 0.05, "baseline": 0.9, "batch": 4,
            "entropy": 0.01, "layers": 1, "hidden": 5, "initial": 0.1,
        }  # fmt: skip
        strategies = [
            Reinforce(SPACES["conditional"], self.study, **same),
            PPO(SPACES["conditional"], self.study, epochs=1, **same),
        ]
        random = Random(0)
        for number in range(12):
            drawn, accuracy = sample(SPACES["conditional"], random), random.random()
            for strategy in strategies:
                strategy.tell(done(number, drawn, accuracy=accuracy))
        ours, theirs = (strategy.policy.parameters for strategy in strategies)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            np.testing.assert_allclose(value, theirs[name], rtol=1e-12)

    def test_ppo_stops_where_the_ratio_is_beyond_the_clip(self) -> None:
        old = np.log(np.full((1, 4), 0.5))
        new = old + np.log([[1.3, 0.7, 1.1, 1.0]])
        good = clipped_weights(new, old, np.array([[2.0]]), 0.2)
        np.testing.assert_allclose(good, [[0.0, 1.4, 2.2, 2.0]])
        bad = clipped_weights(new, old, np.array([[-2.0]]), 0.2)
        np.testing.assert_allclose(bad, [[-2.6, 0.0, -2.2, -2.0]])

    @given(
        log_ratio=st.floats(-1.0, 1.0), advantage=st.floats(-3.0, 3.0), clip=st.floats(0.05, 0.5)
    )
    def test_ppo_climbs_the_clipped_objective(
        self, log_ratio: float, advantage: float, clip: float
    ) -> None:
        def objective(new: float) -> float:
            ratio = np.exp(new)
            return min(ratio * advantage, np.clip(ratio, 1 - clip, 1 + clip) * advantage)

        near = 1e-7
        if min(abs(np.exp(log_ratio) - 1 - clip), abs(np.exp(log_ratio) - 1 + clip)) < 1e-5:
            return  # at the kink there is no slope
        slope = (objective(log_ratio + near) - objective(log_ratio - near)) / (2 * near)
        found = clipped_weights(
            np.array([[log_ratio]]), np.zeros((1, 1)), np.array([[advantage]]), clip
        )
        assert float(found[0, 0]) == pytest.approx(slope, abs=1e-5)

    def test_ppo_keeps_nearer_to_the_old_policy_than_without_a_clip(self) -> None:
        moved = []
        for clip in (0.2, 1e9):
            strategy, random = (
                PPO(SPACES["wide"], self.study, policy="logits", clip=clip, epochs=30, entropy=0.0),
                Random(0),
            )
            drawn = [sample(SPACES["wide"], random) for _ in range(20)]
            for number, architecture in enumerate(drawn):
                strategy.tell(done(number, architecture, accuracy=random.random()))
            logs = strategy.policy.trace([steps_of(SPACES["wide"], each) for each in drawn])
            moved.append(np.abs(logs.log_probs + np.log(6)).max())
        assert moved[0] < 0.8 * moved[1]

    def test_proposals_repeat_only_where_they_may(self) -> None:
        for distinct, most in ((True, 3), (False, 10)):
            study = toy_study(trials=10)
            strategy = Reinforce(SPACES["tiny"], study, distinct=distinct)
            assert len(search(study, strategy, Landscape())) == most

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (partial(Reinforce, policy="gru"), "'logits', 'lstm'"),
            (partial(Reinforce, learning_rate=0.0), "learning rate 0.0"),
            (partial(Reinforce, batch=0), "at least 1"),
            (partial(Reinforce, baseline=1.0), "0 to below 1"),
            (partial(Reinforce, entropy=-1.0), "no bonus"),
            (partial(Reinforce, penalty=-1.0), "or more"),
            (partial(Reinforce, hidden=0), "more than 0"),
            (partial(PPO, clip=0.0), "clip 0.0"),
            (partial(PPO, epochs=0), "at least 1"),
        ],
    )
    def test_arguments_are_checked(self, wrong: Callable[..., Strategy], message: str) -> None:
        with pytest.raises(InvalidSettings, match=message):
            wrong(SPACES["tiny"], toy_study())


class TestFactsOfMetaQNN:
    study = Study("a", (Objective("accuracy", "max"),))

    def test_epsilon_follows_the_papers_schedule(self) -> None:
        assert sum(models for _, models in SCHEDULE) == 2700
        at = {0: 1.0, 1499: 1.0, 1500: 0.9, 1799: 0.7, 1800: 0.6, 2549: 0.2, 2550: 0.1, 9999: 0.1}
        assert {models: epsilon_after(models) for models in at} == at

    def test_the_schedule_is_stretched_to_a_budget(self) -> None:
        assert [epsilon_after(models, 270) for models in (149, 150, 255)] == [1.0, 0.9, 0.1]
        strategy = MetaQNN(SPACES["wide"], toy_study(trials=54))
        random = Random(0)
        for number in range(30):
            assert strategy.epsilon == 1.0
            strategy.tell(done(number, sample(SPACES["wide"], random), score=0.5))
        assert strategy.epsilon == 0.9
        assert MetaQNN(SPACES["wide"], toy_study(trials=54), models=2700).epsilon == 1.0

    def test_values_are_updated_as_in_equation_3_from_the_end(self) -> None:
        table = QTable(learning_rate=0.1, discount=0.9, initial=0.5)
        steps = steps_of(shrinking, Architecture({"first": 2, "second": 1}))
        first, second = (values for values, _ in table.path(steps))
        second[0] = 0.8
        table.learn(table.path(steps), reward=1.0)
        assert second == [0.8, pytest.approx(0.9 * 0.5 + 0.1 * 1.0)]
        # max over the next state's options; a reward comes only at the end.
        assert first == [0.5, pytest.approx(0.9 * 0.5 + 0.1 * 0.9 * 0.8), 0.5]
        table.learn(table.path(steps), reward=9.0)
        assert second[1] == pytest.approx(0.9 * 0.55 + 0.9)
        # The end is updated first, so the beginning already sees its new value.
        assert first[1] == pytest.approx(0.9 * 0.522 + 0.1 * 0.9 * second[1])

    def test_a_state_knows_the_decision_before_it(self) -> None:
        table = QTable(0.1, 1.0, 0.5)
        one, other = (
            steps_of(SPACES["wide"], sample(SPACES["wide"], Random(0)).replacing({"digit0": digit}))
            for digit in (0, 1)
        )
        paths = table.path(one), table.path(other)
        shared = [a is b for (a, _), (b, _) in zip(*paths, strict=True)]
        assert shared == [True, False] + [True] * 38

    def test_each_model_is_followed_by_a_hundred_replays(self) -> None:
        strategy = MetaQNN(SPACES["tiny"], self.study, rewards=(0.0, 100.0))
        architecture = Architecture({"letter": "b"})
        strategy.tell(done(0, architecture, accuracy=90.0))
        ((values, place),) = strategy.table.path(steps_of(SPACES["tiny"], architecture))
        assert values[place] == pytest.approx(0.9 + (0.5 - 0.9) * 0.99**100)

    def test_without_a_scale_the_worst_reward_is_0_and_the_best_1(self) -> None:
        strategy = MetaQNN(SPACES["tiny"], self.study, replay=3000)
        for number, (letter, accuracy) in enumerate({"a": -3.0, "b": 5.0, "c": 1.0}.items()):
            strategy.tell(done(number, Architecture({"letter": letter}), accuracy=accuracy))
        ((values, _),) = strategy.table.path(
            steps_of(SPACES["tiny"], Architecture({"letter": "a"}))
        )
        assert values == pytest.approx([0.0, 1.0, 0.5], abs=0.02)

    def test_a_greedy_model_takes_the_largest_values(self) -> None:
        strategy = MetaQNN(SPACES["wide"], self.study, models=1, replay=200)
        best = Architecture({f"digit{i}": 3 for i in range(40)})
        greedy = []
        for number in range(5):
            strategy.tell(done(number, sample(SPACES["wide"], Random(number)), accuracy=0.0))
        for values, place in strategy.table.path(steps_of(SPACES["wide"], best)):
            values[place] = 2.0
        for _ in range(20):
            proposal = strategy.ask()
            greedy.append(sum(option == 3 for option in proposal.architecture.values()))
            strategy.tell(Trial(5 + len(greedy), proposal))
        # Epsilon is 0.1: 9 in 10 decisions follow the values, until one has left their path.
        assert mean(greedy) > 15

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"models": 0}, "over 0 models"),
            ({"replay": 0}, "at least 1"),
            ({"learning_rate": 0.0}, "learning rate 0.0"),
            ({"discount": 1.5}, "discount 1.5"),
            ({"rewards": (1.0, 0.0)}, "what counts as 0"),
        ],
    )
    def test_arguments_are_checked(self, wrong: dict[str, object], message: str) -> None:
        with pytest.raises(InvalidSettings, match=message):
            MetaQNN(SPACES["tiny"], toy_study(), **wrong)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("wide", Reinforce),
        ("wide", partial(Reinforce, policy="lstm", learning_rate=0.005, batch=4, hidden=16)),
        ("wide", partial(PPO, learning_rate=0.004, epochs=4, hidden=16)),
        ("conditional", MetaQNN),
    ],
    ids=["reinforce-logits", "reinforce-lstm", "ppo", "metaqnn"],
)
def test_what_is_learned_beats_random_search(name: str, make: Make) -> None:
    def late(make: Make, seed: int) -> float:
        study = toy_study(trials=300, seed=seed)
        trials = search(study, make(SPACES[name], study), Landscape(seed))
        return mean(trial.metrics["score"] for trial in trials[-100:])

    gains = [late(RandomSearch, seed) - late(make, seed) for seed in range(2)]
    assert min(gains) > 0.01


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Reinforce, "d5475617df2c"),
        (partial(Reinforce, policy="lstm", hidden=8), "7e3d64087f38"),
        (partial(PPO, batch=10, hidden=8), "82cd98618c91"),
        (MetaQNN, "3f3a13ce398f"),
    ],
    ids=["reinforce-logits", "reinforce-lstm", "ppo", "metaqnn"],
)
def test_transcripts_do_not_change_by_accident(make: Make, expected: str) -> None:
    study = toy_study(trials=40)
    trials = search(study, make(SPACES["conditional"], study), Landscape())
    text = " ".join(trial.architecture.fingerprint for trial in trials)
    assert blake2b(text.encode(), digest_size=6).hexdigest() == expected
