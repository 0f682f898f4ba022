"""What every strategy must do."""

from __future__ import annotations

from random import Random

import pytest

from parti.core.architecture import Architecture
from parti.core.protocols import Space, Strategy
from parti.core.study import Study
from parti.core.trial import Job, Proposal, State, Trial
from parti.core.walks import canonical, size, validate
from parti.executors import run_job
from parti.loop import search
from parti.testing.toys import SPACES, Landscape, toy_study

__all__ = ["StrategySuite"]


@pytest.mark.parametrize("name", sorted(SPACES))
class StrategySuite:
    """Subclass it and override `make`."""

    trials = 25
    """How many trials each test runs."""

    fidelities: tuple[int, ...] = ()
    """For a strategy of several fidelities, those it may propose, lowest first. Then a trial may
    go on from one of the same architecture, at a higher fidelity: a promotion."""

    def make(self, space: Space, study: Study) -> Strategy:
        """Return a new strategy."""
        raise NotImplementedError

    def run(self, name: str, *, fails: float = 0.0, at_most: float | None = None) -> list[Trial]:
        """Search a toy space."""
        study = toy_study(trials=self.trials, at_most=at_most)
        return search(study, self.make(SPACES[name], study), Landscape(fails=fails))

    def test_proposals_are_members(self, name: str) -> None:
        """Whatever is proposed belongs to the space."""
        for trial in self.run(name):
            assert validate(SPACES[name], trial.architecture) == trial.architecture

    def test_nothing_is_measured_twice(self, name: str) -> None:
        """Isomorphic architectures are measured once; a promotion takes one of them further."""
        begun: set[Architecture] = set()
        known: dict[int, Trial] = {}
        for trial in self.run(name):
            proposal = trial.proposal
            if self.fidelities:
                assert proposal.fidelity in self.fidelities
            if self.fidelities and proposal.continues is not None:
                before = known[proposal.continues]
                assert before.state is State.DONE
                assert before.architecture == trial.architecture
                assert (before.proposal.fidelity or 0) < (proposal.fidelity or 0)
                assert all(t.proposal.continues != before.number for t in known.values())
            else:
                assert proposal.continues is None
                form = canonical(SPACES[name], trial.architecture)
                assert form not in begun
                begun.add(form)
            known[trial.number] = trial

    def test_is_a_fold_over_trials(self, name: str) -> None:
        """A new strategy that is told the first n trials goes on as the old one did."""
        trials = self.run(name)
        study = toy_study(trials=self.trials)
        for cut in range(0, len(trials), 5):
            fresh = self.make(SPACES[name], study)
            for trial in trials[:cut]:
                fresh.tell(trial)
            assert fresh.ask() == trials[cut].proposal

    def test_a_kill_during_a_trial_changes_nothing(self, name: str) -> None:
        """A trial found running, which is run again and ends, counts as if never interrupted."""
        trials = self.run(name, fails=0.2)
        study = toy_study(trials=self.trials)
        for cut in range(0, len(trials) - 1, 6):
            fresh = self.make(SPACES[name], study)
            for trial in [*trials[:cut], Trial(cut, trials[cut].proposal), trials[cut]]:
                fresh.tell(trial)
            assert fresh.ask() == trials[cut + 1].proposal

    def test_asking_changes_nothing(self, name: str) -> None:
        """Asking twice without telling gives the same proposal."""
        study = toy_study()
        strategy = self.make(SPACES[name], study)
        assert strategy.ask() == strategy.ask()

    def test_parallel_asks_do_not_repeat(self, name: str) -> None:
        """What is running is not proposed again while the space has anything else."""
        study = toy_study()
        strategy = self.make(SPACES[name], study)
        asked: list[Proposal] = []
        for number in range(8):
            proposal = strategy.ask()
            if proposal is None:
                break
            asked.append(proposal)
            strategy.tell(Trial(number, proposal))
        forms = {canonical(SPACES[name], proposal.architecture) for proposal in asked}
        assert len(forms) == len(asked)
        assert len(asked) == min(8, size(SPACES[name]) or 8)

    def test_a_finite_space_ends(self, name: str) -> None:
        """A space of three members is searched in three trials, and their promotions."""
        trials = self.run(name)
        begun = sum(trial.proposal.continues is None for trial in trials)
        members = size(SPACES[name]) or self.trials
        if members * max(1, len(self.fidelities)) < self.trials:
            assert begun == members
        else:
            assert len(trials) == self.trials

    def test_failed_and_rejected_trials_are_survived(self, name: str) -> None:
        """The search goes on beside trials that fail or break a constraint."""
        trials = self.run(name, fails=0.3, at_most=12)
        done = [trial for trial in trials if trial.state is State.DONE]
        failed = [trial for trial in trials if trial.state is State.FAILED]
        assert done
        if name != "tiny":
            assert failed

    def test_any_order_of_finishing_is_accepted(self, name: str) -> None:
        """Trials may end in another order than they began."""
        study = toy_study()
        strategy = self.make(SPACES[name], study)
        evaluator, random = Landscape(), Random(0)
        running: list[Trial] = []
        number = begun = 0
        for _ in range(40):
            proposal = strategy.ask() if len(running) < 4 else None
            if proposal is not None:
                running.append(Trial(number, proposal))
                strategy.tell(running[-1])
                number += 1
                begun += proposal.continues is None
            elif running:
                strategy.tell(_ended(running.pop(random.randrange(len(running))), evaluator))
        assert begun == min(begun, size(SPACES[name]) or begun)


def _ended(trial: Trial, evaluator: Landscape) -> Trial:
    outcome = run_job(evaluator, Job(trial.architecture, trial.proposal.fidelity))
    return Trial(trial.number, trial.proposal, outcome.state, outcome.measurements, outcome.error)
