"""The evaluator of training-free proxies."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from parti.core.architecture import Architecture
from parti.core.errors import InvalidData, InvalidSettings, Rejected, TrialError
from parti.core.study import Constraint
from parti.core.trial import Job
from parti.evaluators.complexity import Complexity
from parti.evaluators.staged import Staged
from parti.evaluators.theory.roofline import Machine
from parti.evaluators.training_free import TrainingFree, metric_name
from parti.proxies.swap import Swap
from parti.testing.evaluators import EvaluatorSuite
from training_makers import Always, Broken, ToySpace, small_network, toy_data

JOB = Job(Architecture({"width": 4}), seed=3)


def measured(evaluator: TrainingFree, job: Job = JOB) -> dict[str, float]:
    (found,) = evaluator(job)
    return dict(found.metrics)


class TestTrainingFree(EvaluatorSuite):
    def make(self) -> TrainingFree:
        names = ["params", "naswot", "jacov", "macs", "snip"]
        return TrainingFree(ToySpace(), toy_data(), names, batch=16, device="cpu", threads=1)

    def job(self) -> Job:
        return JOB


def test_names_and_directions():
    evaluator = TrainingFree(ToySpace(), toy_data(), {"ntk": Ntk(), "my.module:Own": Ntk()})
    assert evaluator.provides == {"proxy_ntk", "proxy_Own"}
    assert evaluator.goals == {"proxy_ntk": "min", "proxy_Own": "min"}
    assert [metric_name(name) for name in ("params", "naswot")] == ["params", "proxy_naswot"]


class Ntk:
    needs = frozenset()
    goal = "min"

    def __call__(self, probe: object) -> float:
        return 1.0


class Batches:
    """Remembers what it was given."""

    needs = frozenset()
    goal = "max"

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.weights: list[Tensor] = []

    def __call__(self, probe) -> float:
        self.seen.append((probe.images, probe.labels))
        self.weights.append(next(probe.network.parameters()).detach().clone())
        return 0.0


def test_every_architecture_meets_the_same_normalised_batch():
    proxy, data = Batches(), toy_data()
    evaluator = TrainingFree(ToySpace(), data, {"b": proxy}, batch=32, device="cpu")
    for width, seed in ((4, 0), (4, 1), (4, 0), (8, 0)):
        measured(evaluator, Job(Architecture({"width": width}), seed=seed))
    (images, labels), *others = proxy.seen
    assert images.shape == (32, 1, 8, 8)
    for more, same in others:
        assert torch.equal(images, more)
        assert torch.equal(labels, same)
    raw = (data.train_images.astype(np.float64) - data.mean) / data.std
    given = {tuple(np.round(row, 4)) for row in raw.reshape(len(raw), -1)}
    assert {tuple(np.round(row, 4)) for row in images.flatten(1).double().numpy()} <= given
    first, other, again, _ = proxy.weights
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_smaller_data_set_gives_all_of_it_and_another_seed_another_batch():
    proxy = Batches()
    for seed in (0, 1):
        evaluator = TrainingFree(
            ToySpace(), toy_data(train=40), {"b": proxy}, batch=64, seed=seed, device="cpu"
        )
        measured(evaluator)
    (one, _), (other, _) = proxy.seen
    assert len(one) == len(other) == 40
    assert not torch.equal(one, other)


def test_a_ready_batch_of_another_task():
    # Twelve units tell eight inputs apart; of too few, NASWOT is undefined.
    inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    space = Always(lambda: nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 1)))
    evaluator = TrainingFree(
        space, (inputs, inputs.sum(1, keepdim=True)), ["snip", "naswot"], loss=nn.MSELoss()
    )
    assert measured(evaluator).keys() == {"proxy_snip", "proxy_naswot"}


def test_what_is_undefined_is_left_out():
    space = Always(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 2)))
    evaluator = TrainingFree(space, toy_data(), ["params", "naswot"], device="cpu")
    assert evaluator.provides == {"params", "proxy_naswot"}
    assert measured(evaluator) == {"params": 130}


class Viewing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = small_network()[:3], nn.Linear(512, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        return self.head(h.view(len(h), -1))


def test_networks_that_view_feature_maps_are_scored_too():
    evaluator = TrainingFree(Always(Viewing), toy_data(), ["naswot", "macs"], device="cpu")
    assert measured(evaluator)["macs"] == 8 * 8 * 8 * 9 + 512 * 2


def test_it_rejects_before_a_dearer_stage():
    constraints = [Constraint("proxy_swap", at_least=1e9)]
    scoring = TrainingFree(ToySpace(), toy_data(), {"swap": Swap()}, device="cpu")
    staged = Staged([scoring, Complexity(ToySpace(), (1, 8, 8))], constraints)
    with pytest.raises(Rejected, match="proxy_swap"):
        list(staged(JOB))


def test_a_network_that_fails_fails_the_trial():
    space = Always(lambda: Broken(ValueError("no such thing")))
    with pytest.raises(TrialError, match="ValueError: no such thing"):
        measured(TrainingFree(space, toy_data(), ["naswot"], device="cpu"))


def test_bad_settings_are_told():
    with pytest.raises(InvalidSettings, match="batch=1"):
        TrainingFree(ToySpace(), toy_data(), batch=1)
    with pytest.raises(InvalidSettings, match="no proxy 'accuracy'"):
        TrainingFree(ToySpace(), toy_data(), ["accuracy"])
    with pytest.raises(InvalidSettings, match="alike after the colon"):
        TrainingFree(ToySpace(), toy_data(), {"swap": Swap(), "own:swap": Swap()})
    with pytest.raises(InvalidSettings, match="name at least one"):
        TrainingFree(ToySpace(), toy_data(), {})
    with pytest.raises(InvalidData, match="8 inputs and 3 targets"):
        TrainingFree(ToySpace(), (torch.rand(8, 3), torch.rand(3)))


@pytest.mark.shared_data
def test_proxies_rank_cells_of_nas_bench_201():
    """A few cells, small images: the order is rough, but no wrong sign would pass."""
    from benchmarks.bench_proxies import Cells, correlation, read_batch, score_all

    cells = Cells(16, seed=1)
    images, labels = read_batch(8)
    small = torch.nn.functional.avg_pool2d(images, 4)
    scores = score_all(cells, ["naswot", "params", "macs"], (small, labels))
    assert correlation(scores["params"], cells.theirs["params"]) == 1
    assert correlation(scores["macs"], cells.theirs["macs"]) > 0.98  # theirs count pooling too
    assert correlation(scores["naswot"], cells.accuracy) > 0.3


@pytest.mark.shared_data
def test_the_floor_of_their_time_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch):
    from benchmarks import bench_proxies

    machine = Machine(2e9, {1: 5e9, 10**9: 1e9}, 1)
    monkeypatch.setattr(bench_proxies, "measured_machine", lambda: machine)
    cells, batch = bench_proxies.Cells(1, seed=0), bench_proxies.read_batch(2)
    bench_proxies.print_floor(cells, batch, [bench_proxies.Small(2)])
    said = capsys.readouterr().out
    assert "2 GFLOP/s, 1.0 GB/s" in said
    _, flop, moved, arithmetic, memory, *_ = map(float, said.splitlines()[-1].split())
    # At 2 GFLOP/s and 1 GB/s: half as many seconds as GFLOP, as many milliseconds as MB.
    assert arithmetic == pytest.approx(500 * flop, abs=3)
    assert memory == pytest.approx(moved, abs=1)
