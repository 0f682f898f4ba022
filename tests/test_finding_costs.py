"""What options cost in a search: measured as its latency is, kept, and counted in the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import parti
import parti.finding.option_costs as option_costs
import parti.recipes.fbnet as fbnet
from device_makers import device
from parti.core.errors import InvalidSettings, TrialError
from parti.evaluators.latency import Latency, measure_latency
from parti.finding import Silent
from parti.finding.devices import search_latency
from parti.finding.files import read_json, write_json
from parti.finding.settings import settings_of
from parti.finding.sharing import Sharing, recipe_of
from parti.loop import Progress
from parti.recipes.costs import beyond_call, latency_ms, within
from recipe_makers import planted
from test_finding import stripes
from training_makers import toy_data

CELL = f"{Path(__file__).with_name('tiny_cell.py')}:tiny_cell"
AWAY = "http://127.0.0.1:9"
CALL = 5.0
"""Milliseconds of an empty module, as `Fake` has it."""


class Fake:
    """Stands for `measure_latency`: a module takes a call, and a millisecond for each weight.

    Args:
        unable: runtimes that do not run anything.
    """

    def __init__(self, *unable: str) -> None:
        self.unable = unable
        self.asked: list[dict[str, object]] = []

    def __call__(self, model: nn.Module, shape: tuple[int, ...], **how: object) -> object:
        self.asked.append(how)
        if how["runtime"] in self.unable:
            raise TrialError(f"{how['runtime']} has no such operation")
        return SimpleNamespace(median_ms=CALL + sum(p.numel() for p in model.parameters()))


def shared_in(folder: Path, recipe: str = "fbnet", **asked: object) -> Sharing:
    """The supernet of a search in the space `planted`."""
    settings = settings_of(**{"data": "toy", "recipe": recipe, "trials": 1, **asked})
    return Sharing(
        recipe_of(recipe), settings, toy_data(), lambda sizes: planted(1, 2), None, folder, 2, 1
    )  # fmt: skip


@pytest.fixture
def shared(tmp_path: Path, monkeypatch) -> Callable[..., Sharing]:
    def made(**asked: object) -> Sharing:
        found = shared_in(tmp_path, **asked)
        found.__dict__["recipe"] = found.asked  # without a rehearsal
        return found

    return made


def told(found: Sharing) -> dict[str, object]:
    return read_json(found.costs_file)["measured"]


def summed(kept: dict, weights: dict[str, Tensor]) -> float:
    """The expected cost by costs.json, term by term."""
    return sum(
        cost * math.prod(float(weights[name][places].sum()) for name, places in path)
        for path, cost in kept["table"]
    )


# --- with what it is measured ---


@pytest.mark.parametrize(
    ("recipe", "runtime"), [("fbnet", "onnxruntime"), ("proxylessnas", "torch")]
)
def test_options_are_timed_as_networks_are(shared, monkeypatch, recipe: str, runtime: str) -> None:
    fake = Fake()
    monkeypatch.setattr(option_costs, "measure_latency", fake)
    found = shared(recipe=recipe, at_most={"latency_ms": 1.0}, runtime=runtime)
    found._costs()
    latency = search_latency(found.settings, found.space, found.data, found.folder, 0)
    assert isinstance(latency, Latency)
    same = {
        "runtime": latency.runtime,
        "precision": latency.setting.precision,
        "threads": latency.setting.threads,
    }
    assert all(same.items() <= how.items() for how in fake.asked)
    assert {**same, "device": "this machine", "instead_of": []}.items() <= told(found).items()
    started = "latency of the options was measured with "
    assert found.costs_in_words == started + told(found)["conditions"]


def test_a_call_is_counted_once_and_every_option_without(shared, monkeypatch) -> None:
    monkeypatch.setattr(option_costs, "measure_latency", Fake())
    costs = shared()._costs()
    deepest = {cost for path, cost in costs.table.items() if len(path) == 2}
    assert deepest == {0.0, 4 * 4 * 9 + 2 * 4}  # a convolution; the others have no weights
    first = {name: torch.eye(size)[0] for name, size in costs.sizes.items()}  # what is decided
    whole = option_costs.supernet(planted(1, 2))
    assert float(costs(first)) == CALL + sum(each.numel() for each in whole.parameters())


def test_a_runtime_that_cannot_time_options_is_named_and_pytorch_does_it(
    shared, monkeypatch
) -> None:
    fake = Fake("onnxruntime")
    monkeypatch.setattr(option_costs, "measure_latency", fake)
    found = shared()
    found._costs()
    assert told(found)["runtime"] == "torch"
    assert "NOT with onnxruntime (onnxruntime has no such operation), but with PyTorch" in (
        found.costs_in_words
    )
    monkeypatch.setattr(option_costs, "measure_latency", Fake("onnxruntime", "torch"))
    found.costs_file.unlink()
    with pytest.raises(TrialError, match="torch has no such operation"):
        found._costs()
    assert found.costs_in_words is None


def test_a_runtime_that_is_too_slow_is_given_up(shared, monkeypatch) -> None:
    monkeypatch.setattr(option_costs, "measure_latency", Fake())
    monkeypatch.setattr(option_costs, "COSTS_SECONDS", -1.0)
    found = shared()
    found._costs()
    assert told(found)["runtime"] == "torch"
    assert "timing all options takes more than" in told(found)["instead_of"][0]


def test_what_is_begun_in_time_is_measured() -> None:
    assert within(lambda module, shape: 1.0, 60)(nn.Identity(), (1,)) == 1.0
    with pytest.raises(TrialError, match="takes more than -1 s"):
        within(lambda module, shape: 1.0, -1)(nn.Identity(), (1,))


def test_without_the_calls_costs_add_up() -> None:
    cost = beyond_call(lambda module, shape: CALL + 2.0 * len(list(module.modules())[1:]))
    parts = [nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU(), nn.Tanh())]
    whole = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.Tanh())
    assert sum(cost(part, (1, 2, 2)) for part in parts) == cost(whole, (1, 2, 2)) == 6.0
    assert cost(nn.Identity(), (1, 2, 2)) == 0.0


def test_in_onnxruntime_a_chain_takes_about_the_sum_of_its_layers() -> None:
    layers = [nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()) for _ in range(8)]
    cost = latency_ms(runtime="onnxruntime")
    total = sum(cost(layer, (16, 32, 32)) for layer in layers)
    whole = measure_latency(nn.Sequential(*layers), (16, 32, 32)).median_ms
    assert 0.3 < total / whole < 3.0


# --- on devices ---


def test_a_device_times_options(shared) -> None:
    with device("--name", "bench") as url:
        found = shared(devices=[f"one={url}", f"two={AWAY}"], at_most={"latency_ms@one": 9.0})
        costs = found._costs()
    assert told(found)["device"] == f"one={url}"  # the other is not asked for
    assert told(found)["instead_of"] == []
    assert "device bench" in found.costs_in_words
    assert costs.table[()] > 0
    assert all(cost >= 0 for cost in costs.table.values())


def test_where_no_device_answers_options_are_timed_here(shared, monkeypatch) -> None:
    monkeypatch.setattr(option_costs, "measure_latency", Fake())
    found = shared(devices=[AWAY])
    found._costs()
    assert (told(found)["runtime"], told(found)["device"]) == ("onnxruntime", "this machine")
    assert f"NOT with the devices (device {AWAY} does not answer" in found.costs_in_words


# --- what is kept ---


def test_costs_of_an_older_version_are_read(shared, monkeypatch) -> None:
    monkeypatch.setattr(option_costs, "measure_latency", None)  # nothing is measured
    found = shared()
    path = [["inputs=seeing/operation", [0]]]
    old = {"sizes": {"inputs=seeing/operation": 3}, "table": [[[], 2.0], [path, 3.0]]}
    write_json(found.costs_file, old)
    costs = found._costs()
    assert float(costs({"inputs=seeing/operation": torch.tensor([0.5, 0.25, 0.25])})) == 3.5
    assert "older version" in found.costs_in_words
    assert read_json(found.costs_file) == old


def test_an_option_that_is_none_of_one_image_is_refused(tmp_path: Path) -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    class Twice(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.stem, self.module = nn.Conv2d(1, 2, 1), module

        def forward(self, x: Tensor) -> Tensor:
            return self.module(self.stem(x), x)

    @parti.space
    def pairs() -> nn.Module:
        return Twice(parti.one_of("op", {"one": Both, "other": Both}))

    found = shared_in(tmp_path)
    found.__dict__ |= {"recipe": found.asked, "space": pairs()}
    with pytest.raises(InvalidSettings, match="takes 2 inputs"):
        found._costs()


# --- in a search ---


class Stop(Silent):
    """Interrupts after the third epoch of the supernet."""

    def progress(self, progress: Progress) -> None:
        """Look at what was measured."""
        supernet = progress.study.name.endswith("/supernet")
        if supernet and progress.latest and progress.latest[1].step == 3:
            raise KeyboardInterrupt


def test_a_search_counts_the_costs_that_it_keeps_and_goes_on_with_them(
    tmp_path: Path, monkeypatch
) -> None:
    counted: list[tuple[dict[str, Tensor], float]] = []
    factor = fbnet.latency_factor

    def noted(loss: Tensor, weights: dict[str, Tensor], relaxation, bench, progress, **more):
        if bench.costs is not None:  # as it is in a rehearsal
            found = {name: each.detach().clone() for name, each in weights.items()}
            counted.append((found, float(bench.costs(weights).detach())))
        return factor(loss, weights, relaxation, bench, progress, **more)

    def search(watcher: Silent) -> parti.finding.Found:
        return parti.find(
            stripes(120), space=CELL, recipe="fbnet", supernet_epochs=5, trials=1, epochs=1,
            final_epochs=1, finalists=1, seeds=1, baselines=False, at_most={"latency_ms": 1000.0},
            store=f"sqlite:///{tmp_path}/s.db", study="one", watcher=watcher,
        )  # fmt: skip

    monkeypatch.setattr(fbnet, "latency_factor", noted)
    with pytest.raises(KeyboardInterrupt):
        search(Stop())
    file = tmp_path / "one/costs.json"
    before, kept = file.read_bytes(), read_json(file)
    assert kept["measured"]["runtime"] == "onnxruntime"
    assert kept["measured"]["instead_of"] == []
    assert any(cost > 0 for path, cost in kept["table"] if path)
    monkeypatch.setattr(option_costs, "measure_latency", None)  # options are not timed again
    assert search(Silent()).best["latency_ms"] > 0
    assert file.read_bytes() == before
    assert counted
    for weights, cost in counted:
        for name, each in weights.items():
            assert float(each.sum()) == pytest.approx(1, abs=1e-5), name
        assert cost == pytest.approx(summed(kept, weights), rel=1e-4)
