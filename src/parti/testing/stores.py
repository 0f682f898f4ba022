"""What every store must do."""

from __future__ import annotations

from threading import Barrier, Thread

import pytest

from parti.core.architecture import Architecture
from parti.core.errors import Conflict, StoreError
from parti.core.protocols import Lease, Store
from parti.core.study import Budget, Constraint, Objective, Study
from parti.core.trial import Measurement, Proposal, State, Trial

__all__ = ["StoreSuite"]


class StoreSuite:
    """Subclass it and override `store`, a pytest fixture that gives an empty store."""

    study = Study(
        "a study",
        (Objective("accuracy", "max"), Objective("latency_ms", "min")),
        (Constraint("params", at_most=1e6), Constraint("accuracy", at_least=0.5)),
        Budget(trials=10, seconds=3.5),
        seed=7,
        settings={"data": "digits", "nested": {"a": [1, 2.5, None, "x"]}},
    )

    @pytest.fixture
    def store(self) -> Store:
        """Return an empty store."""
        raise NotImplementedError

    def running(self, number: int = 0) -> Trial:
        """A trial whose proposal uses every kind of value."""
        architecture = Architecture(
            {"width": 16, "op=conv/rate": 0.5, "se": True, "in": ("a", "b")}
        )
        proposal = Proposal(architecture, fidelity=9, parents=(3, 1), continues=1)
        return Trial(number, proposal)

    def add(self, store: Store, number: int, owner: str = "me") -> Trial:
        """Add a running trial."""
        trial = self.running(number)
        store.add(self.study.name, trial, Lease(number, owner, 100.0))
        return trial

    def test_a_study_is_kept_as_it_was_made(self, store: Store) -> None:
        """What is read equals what was created; creating again changes nothing."""
        assert store.create(self.study) == self.study
        assert store.study(self.study.name) == self.study
        other = Study(self.study.name, (Objective("f1", "max"),))
        assert store.create(other) == self.study
        assert store.studies() == [self.study.name]

    def test_an_unknown_study_is_an_error_that_lists_the_known(self, store: Store) -> None:
        """The message helps to find the right name."""
        store.create(self.study)
        with pytest.raises(StoreError, match=self.study.name):
            store.study("nothing")
        with pytest.raises(StoreError, match="nothing"):
            store.trials("nothing")

    def test_a_trial_is_kept_as_it_was_added(self, store: Store) -> None:
        """Architecture, fidelity, parents and continuation come back, types included."""
        store.create(self.study)
        trial = self.add(store, 0)
        (kept,), _ = store.trials(self.study.name)
        assert kept == trial
        assert [type(o) for o in kept.architecture.values()] == [int, float, bool, tuple]

    def test_numbers_are_taken_once(self, store: Store) -> None:
        """Only the next number can be added."""
        store.create(self.study)
        self.add(store, 0)
        for wrong in (0, 2):
            with pytest.raises(Conflict):
                self.add(store, wrong)
        self.add(store, 1)
        assert [t.number for t in store.trials(self.study.name)[0]] == [0, 1]

    def test_measurements_add_up(self, store: Store) -> None:
        """Recorded and last measurements are kept in order."""
        store.create(self.study)
        self.add(store, 0)
        found = [Measurement({"accuracy": 0.1 * i}, step=i, seconds=0.5 * i) for i in range(4)]
        store.record(self.study.name, 0, found[0])
        store.record(self.study.name, 0, found[1])
        ended = store.finish(self.study.name, 0, State.DONE, owner="me", measurements=found[2:])
        assert ended.measurements == tuple(found)
        assert ended.state is State.DONE
        assert store.trials(self.study.name)[0] == [ended]

    def test_a_failure_keeps_its_reason(self, store: Store) -> None:
        """State and reason come back."""
        store.create(self.study)
        self.add(store, 0)
        ended = store.finish(self.study.name, 0, State.FAILED, owner="me", error="NaN at epoch 3")
        assert (ended.state, ended.error) == (State.FAILED, "NaN at epoch 3")

    def test_a_trial_ends_once_and_by_its_owner(self, store: Store) -> None:
        """Neither a stranger nor a second time can end it."""
        store.create(self.study)
        self.add(store, 0)
        with pytest.raises(Conflict):
            store.finish(self.study.name, 0, State.DONE, owner="stranger")
        store.finish(self.study.name, 0, State.DONE, owner="me")
        with pytest.raises(Conflict):
            store.finish(self.study.name, 0, State.FAILED, owner="me")
        assert store.trials(self.study.name)[0][0].state is State.DONE

    def test_news_come_in_the_order_in_which_they_happened(self, store: Store) -> None:
        """Each trial is news when it is added and when it ends, and only then."""
        store.create(self.study)
        for number in range(3):
            self.add(store, number)
        news, seen = store.trials(self.study.name)
        assert [t.number for t in news] == [0, 1, 2]
        for number in (2, 0):
            store.finish(self.study.name, number, State.DONE, owner="me")
        news, later = store.trials(self.study.name, seen)
        assert [t.number for t in news] == [2, 0]
        assert store.trials(self.study.name, later) == ([], later)
        assert [t.number for t in store.trials(self.study.name)[0]] == [1, 2, 0]

    def test_leases_are_renewed_and_taken_over(self, store: Store) -> None:
        """The right previous owner is needed, and a new owner starts from nothing."""
        store.create(self.study)
        self.add(store, 0)
        store.record(self.study.name, 0, Measurement({"accuracy": 0.5}, step=1))
        assert store.leases(self.study.name) == [Lease(0, "me", 100.0)]
        assert store.claim(self.study.name, Lease(0, "me", 200.0), "me")
        assert store.leases(self.study.name) == [Lease(0, "me", 200.0)]
        assert store.trials(self.study.name)[0][0].measurements
        assert store.claim(self.study.name, Lease(0, "you", 300.0), "me")
        assert not store.claim(self.study.name, Lease(0, "he", 300.0), "me")
        assert store.trials(self.study.name)[0][0].measurements == ()
        store.finish(self.study.name, 0, State.DONE, owner="you")
        assert store.leases(self.study.name) == []
        assert not store.claim(self.study.name, Lease(0, "he", 300.0), "you")

    def test_time_adds_up(self, store: Store) -> None:
        """Seconds of several sessions are summed."""
        store.create(self.study)
        assert store.spend(self.study.name, 0.0) == 0.0
        store.spend(self.study.name, 1.5)
        assert store.spend(self.study.name, 2.0) == pytest.approx(3.5)

    def test_studies_do_not_mix(self, store: Store) -> None:
        """Trials belong to their study."""
        other = Study("another", self.study.objectives)
        store.create(self.study)
        store.create(other)
        self.add(store, 0)
        assert store.trials("another") == ([], 0)
        assert store.studies() == [self.study.name, "another"]

    def test_threads_may_share_it(self, store: Store) -> None:
        """Of several that add the same number one wins; nothing is lost."""
        store.create(self.study)
        start, won = Barrier(4), []

        def race() -> None:
            start.wait()
            for number in range(20):
                try:
                    self.add(store, number)
                except Conflict:
                    continue
                won.append(number)

        threads = [Thread(target=race) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kept = sorted(t.number for t in store.trials(self.study.name)[0])
        assert sorted(won) == kept == list(range(len(kept)))
        assert kept
