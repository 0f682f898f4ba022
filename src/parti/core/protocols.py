"""What a third party may write: four narrow protocols, none of which needs an ancestor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.study import Study
from parti.core.trial import Job, Measurement, Proposal, State, Trial

__all__ = ["Builder", "Evaluator", "Lease", "Pick", "Space", "Store", "Strategy"]

Pick = Callable[[Choice], Option]
"""Answers a choice with one of its options."""


@runtime_checkable
class Space(Protocol):
    """A set of architectures."""

    def walk(self, pick: Pick) -> Architecture:
        """Ask `pick` for every decision that comes up, in order, and return what was decided."""
        ...


@runtime_checkable
class Builder(Protocol):
    """A space as those need it who train and measure: something that builds networks."""

    def build(self, architecture: Architecture) -> Any:
        """Return the network of an architecture, an `nn.Module` with fresh weights."""
        ...


@runtime_checkable
class Strategy(Protocol):
    """Decides what to measure next: a fold over trials.

    Its state is a function of its arguments and of what it was told; its random numbers of
    its seed and of how many trials it knows. So telling it the same trials again, in the same
    order, restores it.
    """

    def ask(self) -> Proposal | None:
        """Return the next proposal, or None when there is nothing to propose for now.

        None while no trial is running ends the search.
        """
        ...

    def tell(self, trial: Trial) -> None:
        """Learn of a trial: once when it starts (state RUNNING), once when it has ended."""
        ...


@runtime_checkable
class Evaluator(Protocol):
    """Measures an architecture."""

    @property
    def provides(self) -> frozenset[str]:
        """Names of the metrics it can measure."""
        ...

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield measurements as they come; the last value of a metric counts.

        Raises:
            Rejected: a constraint is broken.
            TrialError: anything that went wrong with this architecture alone.
        """
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """Who works on a running trial, and until when that holds (seconds since the epoch)."""

    number: int
    owner: str
    expires: float


@runtime_checkable
class Store(Protocol):
    """Keeps studies and their trials, durably, for any number of processes at once."""

    def create(self, study: Study) -> Study:
        """Keep a new study; of one that exists, return what is kept, unchanged."""
        ...

    def study(self, name: str) -> Study:
        """Return the study of that name.

        Raises:
            StoreError: there is none; the message lists those there are.
        """
        ...

    def studies(self) -> list[str]:
        """Names of all studies, oldest first."""
        ...

    def add(self, study: str, trial: Trial, lease: Lease) -> None:
        """Keep a new running trial under the next free number.

        Raises:
            Conflict: the trial's number is not the next one: somebody else took it.
        """
        ...

    def record(self, study: str, number: int, measurement: Measurement) -> None:
        """Add a measurement to a running trial."""
        ...

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
        """End a trial, adding last measurements, in one durable step, and return it.

        Raises:
            Conflict: the trial is not running, or somebody else has taken it over.
        """
        ...

    def trials(self, study: str, since: int = 0) -> tuple[list[Trial], int]:
        """Trials that were added or ended after change number `since`, in the order it happened.

        Returns them and the newest change number, to be passed as `since` next time. With 0:
        all trials; ended ones first in the order they ended, then the running ones.
        """
        ...

    def leases(self, study: str) -> list[Lease]:
        """The leases of all running trials."""
        ...

    def claim(self, study: str, lease: Lease, previous: str) -> bool:
        """Take over a running trial from its previous owner, or renew one's own lease.

        The measurements recorded so far are dropped when the owner changes. False when
        somebody else was faster.
        """
        ...

    def spend(self, study: str, seconds: float) -> float:
        """Add searching time to a study and return the total of all processes so far."""
        ...
