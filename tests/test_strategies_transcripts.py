"""What every built-in strategy proposes, so that it does not change by accident.

`tests/transcripts.json` keeps the proposals of short searches of toy spaces. After a change that
is meant to alter what a strategy proposes, write its transcripts again, read the difference, and
say in CHANGELOG.md that it searches otherwise now:

    python tests/test_strategies_transcripts.py --write [NAME ...]
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from parti.core.plugins import load
from parti.core.protocols import Space, Strategy
from parti.core.study import Budget, Objective, Study
from parti.core.trial import Proposal
from parti.loop import search
from parti.strategies import STRATEGIES
from parti.testing import SPACES, Landscape, StrategySuite

FILE = Path(__file__).with_name("transcripts.json")
NAMES = [name for name in STRATEGIES if name != "list"]


@dataclass(frozen=True)
class Case:
    """A search whose proposals are kept.

    Strategies with models in floating-point numbers get few trials: what another build of BLAS, or
    another processor, rounds otherwise may tip the scales between two candidates, and after that
    every proposal is another.
    """

    space: str
    """The toy space that is searched beside `conditional`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Small enough that the strategy comes to what it is about within its trials."""
    trials: int = 30
    objectives: tuple[str, ...] = ("score",)


RUNGS = {"fidelities": (1, 3, 9)}
NETWORKS = {"first": 4, "batch": 4, "candidates": 20, "epochs": 5}
BOTH = ("score", "cost")
CASES = {
    "auto": Case("wide", {"first": 4, "candidates": 20, "listed": 100}, trials=12),
    "random": Case("dynamic"),
    "exhaustive": Case("recursive", {"order": "random"}),
    "local-search": Case("wide", {"initial": 3}),
    "annealing": Case("recursive", {"melting": 5}),
    "genetic": Case("wide", {"population": 6}),
    "evolution": Case("wide", {"population": 6, "tournament": 3}),
    "nsga2": Case("wide", {"population": 8}, objectives=BOTH),
    "reinforce": Case("recursive", trials=12),
    "ppo": Case("recursive", {"batch": 4, "epochs": 3, "hidden": 8}, trials=12),
    "metaqnn": Case("dynamic", {"models": 20}),
    "tpe": Case("wide", {"startup": 6}, trials=12),
    "gp": Case("recursive", {"first": 5, "batch": 2, "pool": 30}, trials=12),
    "bananas": Case("wide", {**NETWORKS, "parents": 2}, trials=12),
    "npenas": Case("dynamic", {**NETWORKS, "parents": 3}, trials=12),
    "successive-halving": Case("wide", RUNGS),
    "hyperband": Case("recursive", RUNGS),
    "asha": Case("wide", {**RUNGS, "eta": 3}),
    "bohb": Case("wide", {**RUNGS, "points": 4}, trials=20),
    "ehvi": Case("wide", {"first": 5, "pool": 30, "listed": 100}, trials=12, objectives=BOTH),
    "parego": Case("wide", {"first": 5, "pool": 30, "listed": 100}, trials=12, objectives=BOTH),
}
SEARCHES = [(name, space) for name, case in CASES.items() for space in ("conditional", case.space)]


def transcript(name: str, space: str) -> list[str]:
    """What a built-in strategy proposes on a toy space, some of whose members fail."""
    case = CASES[name]
    objectives = tuple(Objective(metric, "min") for metric in case.objectives)
    study = Study("toy", objectives, budget=Budget(trials=case.trials))
    strategy = load("strategy", name, STRATEGIES)(SPACES[space], study, **case.settings)
    return [brief(trial.proposal) for trial in search(study, strategy, Landscape(fails=0.1))]


def brief(proposal: Proposal) -> str:
    """The beginning of the fingerprint, with @fidelity and <the trial that it goes on from."""
    fidelity = "" if proposal.fidelity is None else f"@{proposal.fidelity}"
    continues = "" if proposal.continues is None else f"<{proposal.continues}"
    return f"{proposal.architecture.fingerprint[:6]}{fidelity}{continues}"


def kept() -> dict[str, dict[str, str]]:
    """The transcripts of the file, by strategy and space."""
    found: dict[str, dict[str, str]] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return found


class BuiltIn(StrategySuite):
    """A built-in strategy by name."""

    def __init__(self, name: str, trials: int, settings: Mapping[str, Any]) -> None:
        self.kind = load("strategy", name, STRATEGIES)
        self.trials = trials
        self.settings = settings

    def make(self, space: Space, study: Study) -> Strategy:
        made: Strategy = self.kind(space, study, **self.settings)
        return made


def test_every_built_in_has_its_transcripts() -> None:
    assert list(CASES) == NAMES
    assert [(name, space) for name in kept() for space in kept()[name]] == SEARCHES


@pytest.mark.parametrize(("name", "space"), SEARCHES)
def test_proposals_are_those_of_the_transcript(name: str, space: str) -> None:
    assert transcript(name, space) == kept()[name][space].split(), (
        f"{name!r} proposes something else than it did. If that is meant, run `python "
        f"tests/{Path(__file__).name} --write {name}` and say so in CHANGELOG.md. If nothing was "
        "changed, this machine may round other than those before: see `Case`"
    )


@pytest.mark.parametrize("defaults", [True, False], ids=["defaults", "small"])
@pytest.mark.parametrize("name", NAMES)
def test_every_built_in_is_a_fold_over_trials(name: str, defaults: bool) -> None:
    case = CASES[name]
    suite = BuiltIn(name, 12, {}) if defaults else BuiltIn(name, case.trials, case.settings)
    suite.test_is_a_fold_over_trials("conditional")
    suite.test_a_kill_during_a_trial_changes_nothing("conditional")


def write(names: list[str]) -> None:
    """Write the transcripts of some strategies again, or of all."""
    if unknown := set(names) - set(CASES):
        sys.exit(f"no transcripts for {sorted(unknown)}; choose of {list(CASES)}")
    before = kept()
    after: dict[str, dict[str, str]] = {name: {} for name in CASES}
    for name, space in SEARCHES:
        old = before.get(name, {}).get(space)
        again = old is None or not names or name in names
        after[name][space] = " ".join(transcript(name, space)) if again else old
    FILE.write_text(json.dumps(after, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] != ["--write"]:
        sys.exit(__doc__)
    write(sys.argv[2:])
