"""A store that lives and dies with its process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

from parti.core.errors import Conflict, StoreError
from parti.core.protocols import Lease
from parti.core.study import Study
from parti.core.trial import Measurement, State, Trial

__all__ = ["MemoryStore"]


@dataclass
class _Kept:
    study: Study
    trials: list[Trial] = field(default_factory=list)
    changes: dict[int, int] = field(default_factory=dict)
    """Number of the last change of each trial, in the order of the changes."""
    leases: dict[int, Lease] = field(default_factory=dict)
    last_change: int = 0
    spent: float = 0.0

    def changed(self, number: int) -> None:
        self.last_change += 1
        self.changes.pop(number, None)
        self.changes[number] = self.last_change


class MemoryStore:
    """Keeps everything in dicts; any number of threads may use it."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._lock = Lock()

    def create(self, study: Study) -> Study:
        """Keep a new study; of one that exists, return what is kept, unchanged."""
        with self._lock:
            return self._kept.setdefault(study.name, _Kept(study)).study

    def study(self, name: str) -> Study:
        """Return the study of that name, or raise StoreError."""
        return self._of(name).study

    def studies(self) -> list[str]:
        """Names of all studies, oldest first."""
        return list(self._kept)

    def add(self, study: str, trial: Trial, lease: Lease) -> None:
        """Keep a new running trial under the next free number, or raise Conflict."""
        with self._lock:
            kept = self._of(study)
            if trial.number != len(kept.trials):
                raise Conflict(
                    f"study {study!r}: the next trial is number {len(kept.trials)}, "
                    f"not {trial.number}"
                )
            kept.trials.append(trial)
            kept.leases[trial.number] = lease
            kept.changed(trial.number)

    def record(self, study: str, number: int, measurement: Measurement) -> None:
        """Add a measurement to a running trial."""
        with self._lock:
            trials = self._of(study).trials
            trial = trials[number]
            trials[number] = replace(trial, measurements=(*trial.measurements, measurement))

    def finish(
        self,
        study: str,
        number: int,
        state: State,
        *,
        owner: str,
        error: str | None = None,
        measurements: Sequence[Measurement] = (),
    ) -> Trial:
        """End a trial and return it, or raise Conflict."""
        with self._lock:
            kept = self._of(study)
            lease = kept.leases.get(number)
            if lease is None or lease.owner != owner:
                raise Conflict(
                    f"study {study!r}: trial {number} is not running under {owner!r} any more"
                )
            trial = kept.trials[number]
            ended = replace(
                trial,
                state=state,
                error=error,
                measurements=(*trial.measurements, *measurements),
            )
            kept.trials[number] = ended
            del kept.leases[number]
            kept.changed(number)
            return ended

    def trials(self, study: str, since: int = 0) -> tuple[list[Trial], int]:
        """Trials added or ended after change `since`, in the order of their last change."""
        with self._lock:
            kept = self._of(study)
            news = [kept.trials[n] for n, change in kept.changes.items() if change > since]
            return news, kept.last_change

    def leases(self, study: str) -> list[Lease]:
        """The leases of all running trials."""
        with self._lock:
            return list(self._of(study).leases.values())

    def claim(self, study: str, lease: Lease, previous: str) -> bool:
        """Take over a running trial, or renew one's own lease; False when too late."""
        with self._lock:
            kept = self._of(study)
            held = kept.leases.get(lease.number)
            if held is None or held.owner != previous:
                return False
            kept.leases[lease.number] = lease
            if lease.owner != previous:
                trial = kept.trials[lease.number]
                kept.trials[lease.number] = replace(trial, measurements=())
            return True

    def spend(self, study: str, seconds: float) -> float:
        """Add searching time to a study and return the total so far."""
        with self._lock:
            kept = self._of(study)
            kept.spent += seconds
            return kept.spent

    def _of(self, name: str) -> _Kept:
        try:
            return self._kept[name]
        except KeyError:
            known = ", ".join(self._kept) or "none"
            raise StoreError(f"no study {name!r} in this store; there are: {known}") from None
