"""Starting from another study: architectures, weights, splits, and what is refused."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import parti
from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, StoreError
from parti.core.study import Objective, Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.core.walks import sample, validate
from parti.finding.settings import settings_of
from parti.finding.transfer import Initialized, Source, mapped
from parti.spaces.catalogue import load_space
from parti.stores import open_store
from parti.strategies.random_search import RandomSearch
from tiny_space import tiny

TINY = f"{Path(__file__).with_name('tiny_space.py')}:tiny"


def stripes(n: int, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images whose class is where their stripes lie."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    images = random.integers(0, 60, (n, 10, 12, 3), dtype=np.uint8)
    for i, label in enumerate(labels):
        images[i, :, label :: classes + 1] += 150
    return images, labels


class Said(parti.finding.Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def say(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a finished study, "one"."""
    url = f"sqlite:///{tmp_path_factory.mktemp('transfer')}/s.db"
    parti.find(
        stripes(160), trials=4, epochs=1, final_epochs=3, finalists=1, space=TINY,
        baselines=False, study="one", store=url, watcher=parti.finding.Silent(),
    )  # fmt: skip
    return url


def start(
    store: str, data: Any, *, baselines: bool = False, **more: Any
) -> tuple[parti.finding.Found, Said]:
    said = Said()
    found = parti.find(
        data, epochs=1, final_epochs=2, finalists=1, baselines=baselines, init="one", store=store,
        watcher=said, **more,
    )  # fmt: skip
    return found, said


def test_a_search_starts_from_another_of_other_data(store: str) -> None:
    found, said = start(store, stripes(120, classes=3, seed=1), trials=3, study="two")
    result, other = found.to_dict(), open_store(store)
    first = {t.architecture for t in other.trials("one")[0]}
    assert found.trials[0].architecture in first
    assert result["space"]["name"] == TINY  # as in the study it starts from
    assert result["init"]["study"] == "one"
    assert result["init"]["same_data"] is False
    assert 0 < result["init"]["tensors"] < result["init"]["of_tensors"]  # the head is fresh
    assert result["test_openings"] == 1
    assert any("starting from the 1 best architectures of one" in text for text in said.texts)
    kept = settings_of(**other.study("two").settings)
    assert kept.init == "one"  # so that `parti resume` needs no option


def test_the_same_data_keeps_its_splits_and_counts_openings(store: str, tmp_path: Path) -> None:
    found, _ = start(store, stripes(160), trials=2, study="same", seed=7)
    with (
        np.load(found.folder / "splits.npz") as own,
        np.load(found.folder.parent / "one" / "splits.npz") as other,
    ):
        assert (own["test"] == other["test"]).all()
    result = found.to_dict()
    assert result["init"]["same_data"] is True
    assert result["test_openings"] == 2


def test_a_network_that_is_kept_is_tuned_and_not_searched(store: str) -> None:
    found, said = start(
        store, stripes(120, classes=3, seed=1), keep_architecture=True, study="kept", trials=9
    )
    one = open_store(store).trials("one")[0]
    assert len(found.trials) == 1
    assert found.architecture in {t.architecture for t in one}
    assert any("fine-tuning the network of one" in text for text in said.texts)
    assert found.to_dict()["init"]["values"] > 0


def test_what_the_weights_brought_is_shown_beside_the_same_network_from_scratch(store: str) -> None:
    found, _ = start(
        store, stripes(120, classes=3, seed=1), keep_architecture=True, baselines=True,
        study="beside", seeds=2,
    )  # fmt: skip
    result = found.to_dict()
    best, scratch = result["best"], result["baselines"][-1]
    assert scratch["name"] == "winner from scratch"
    assert scratch["architecture"] == best["architecture"]
    assert scratch["seeds"] == best["seeds"] == 2
    # The same seed and the same images: only the weights it began with can tell them apart.
    assert scratch["curves"][0] != best["curves"][0]


def test_what_cannot_be_is_refused_before_anything_is_trained(store: str) -> None:
    with pytest.raises(StoreError, match="there are: "):
        parti.find(stripes(60), init="none", store=store, watcher=parti.finding.Silent())
    with pytest.raises(InvalidSettings, match="leave one of them out"):
        settings_of(data="digits", init="one", recipe="single-path")
    with pytest.raises(InvalidSettings, match="--init STUDY"):
        settings_of(data="digits", keep_architecture=True)
    with pytest.raises(InvalidSettings, match="nothing to do for strategy 'tpe'"):
        settings_of(data="digits", init="one", keep_architecture=True, strategy="tpe")
    with pytest.raises(InvalidSettings, match="no member"):
        start(store, stripes(60), space="chain", keep_architecture=True, study="unfit")


# --- weights ---


def test_weights_agree_by_name_and_shape(tmp_path: Path) -> None:
    narrow = Architecture({"width": 4, "depth": 1, "depth[0]/op": "conv"})
    source = tiny(in_channels=3, classes=2).build(narrow)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    same = Initialized(tiny(in_channels=3, classes=2), tmp_path / "w.safetensors", fresh_head=False)
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(same.build(narrow).eval()(images), source.eval()(images))
    assert same.matching(narrow).tensors == len(source.state_dict())

    other = Initialized(tiny(in_channels=3, classes=5), tmp_path / "w.safetensors", fresh_head=True)
    given = other.matching(narrow)
    assert given.of_tensors - given.tensors == 2  # weight and bias of the classifier
    pointwise = narrow.replacing({"depth[0]/op": "point"})
    assert given.tensors - other.matching(pointwise).tensors == 1
    wide = Architecture({"width": 8, "depth": 0})
    assert other.matching(wide).values <= 2  # counters of batches at most
    fresh = Initialized(tiny(in_channels=3, classes=2), tmp_path / "w.safetensors", fresh_head=True)
    assert not torch.equal(fresh.build(narrow)[-1].weight, source[-1].weight)
    again = pickle.loads(pickle.dumps(same))  # to be sent to workers
    assert torch.equal(again.build(narrow)[0].weight, source[0].weight)


@pytest.mark.parametrize(
    ("classes", "useful"), [(["cat", "dog"], True), (["dog", "cat"], False), (["cat"], False)]
)
def test_a_classifier_is_of_use_for_the_same_classes(classes: list[str], useful: bool) -> None:
    assert source_of([], {"data": {"classes": ["cat", "dog"]}}).tells_apart(classes) is useful


def test_numbers_are_no_names_of_classes() -> None:
    assert not source_of([], {"data": {"classes": ["0", "1"]}}).tells_apart(["0", "1"])


# --- architectures ---


@cache
def residual(channels: int, resolution: int, width: int) -> Any:
    return load_space(
        "residual", in_channels=channels, classes=10, resolution=resolution, width=width
    )


@given(seed=st.integers(0, 1000), resolution=st.sampled_from([8, 32]))
@settings(max_examples=15, deadline=None)
def test_what_is_mapped_is_a_member_and_keeps_what_it_can(seed: int, resolution: int) -> None:
    small, wide = residual(1, 8, 16), residual(3, resolution, 24)
    architecture = sample(small, Random(seed))
    found, share = mapped(wide, architecture)
    assert validate(wide, found) == found
    assert mapped(wide, architecture)[0] == found
    kinds = [name for name in found if name.endswith("kind")]
    assert all(found[name] == architecture[name] for name in kinds)
    assert mapped(small, architecture) == (architecture, 1.0)
    assert 0 < share <= 1


def test_a_scale_takes_the_nearest_option() -> None:
    space = tiny(in_channels=3, classes=2)
    assert mapped(space, {"width": 24, "depth": 0})[0]["width"] in (16, 32)
    assert dict(mapped(space, {"width": 1000, "depth": 0})[0]) == {"width": 32, "depth": 0}


def source_of(trials: list[Trial], result: dict[str, Any]) -> Source:
    study = Study("old", (Objective("val_accuracy", "max"),))
    return Source(study, trials, result, Path("nowhere"))


def trial(number: int, accuracy: float, **decisions: Any) -> Trial:
    measured = (Measurement({"val_accuracy": accuracy}),)
    return Trial(number, Proposal(Architecture(decisions)), State.DONE, measured)


def test_the_best_that_carry_over_are_proposed_first() -> None:
    trials = [
        trial(0, 0.5, width=4, depth=0),
        trial(1, 0.9, width=24, depth=0),  # the nearest width is taken
        trial(2, 0.7, width=8, depth=0),
        trial(3, 0.99, stem=3, head="wide"),  # of another space altogether
    ]
    space = tiny(in_channels=3, classes=2)
    study = Study("new", (Objective("val_accuracy", "max"),), budget=parti.Budget(trials=6))
    source = source_of(trials, {"space": {"name": "tiny"}})
    strategy, first = source.followed_by(RandomSearch(space, study), space, study, None)
    assert first == 2
    asked = []
    for number in range(3):
        proposal = strategy.ask()
        strategy.tell(Trial(number, proposal))
        asked.append(proposal.architecture)
    assert asked[0]["width"] in (16, 32)
    assert dict(asked[1]) == {"width": 8, "depth": 0}
    alien = source_of(trials[3:], {"space": {"name": "tiny"}})
    with pytest.raises(InvalidSettings, match="carries over"):
        alien.followed_by(RandomSearch(space, study), space, study, None)


def test_a_space_from_python_must_be_given_again() -> None:
    source = source_of([], {"space": {"name": "python:mine:12", "arguments": {}}})
    with pytest.raises(InvalidSettings, match="give it again"):
        _ = source.space_name
    sized = source_of([], {"space": {"name": "x", "arguments": {"classes": 2, "width": 8}}})
    assert sized.sizes({"classes": 3}) == {"width": 8}
