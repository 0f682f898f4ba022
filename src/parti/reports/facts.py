"""What a report is written from, and the few questions that every part of it asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from parti.core.study import Study
from parti.core.trial import Trial
from parti.reports.analysis import Summary, summarize
from parti.reports.formats import finite
from parti.tasks.intervals import wilson

__all__ = ["Facts", "Rival", "look_up", "records"]


def look_up(data: object, *path: str) -> Any:
    """Follow keys through nested mappings; None when one of them is missing."""
    for key in path:
        if not isinstance(data, Mapping):
            return None
        data = data.get(key)
    return data


def records(data: object, *path: str) -> list[Mapping[str, Any]]:
    """Return the mappings in the list at the end of a path; empty when there is none."""
    found = look_up(data, *path)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [item for item in found if isinstance(item, Mapping)]


@dataclass(frozen=True, slots=True)
class Rival:
    """The winner or a baseline, as they are set side by side.

    Args:
        name: what to call it.
        note: what it is, or under which conditions it ran.
        accuracy: on the test split, from 0 to 1.
        seeds: the same for every seed, where known.
        interval: 95 % bounds of the accuracy, where the number of test samples is known.
        record: the part of the result that it was read from.
        winner: whether it is the network that the search found.
    """

    name: str
    note: str
    accuracy: float | None
    seeds: tuple[float, ...]
    interval: tuple[float, float] | None
    record: Mapping[str, Any]
    winner: bool = False


@dataclass(frozen=True)
class Facts:
    """A study, its trials, and the result as far as there is one.

    Args:
        result: JSON values, as the search writes them; any part may be missing.
        study: what was asked.
        trials: all there are, in any order.
        written: when the report is made.
    """

    result: Mapping[str, Any]
    study: Study
    trials: Sequence[Trial]
    written: datetime

    def get(self, *path: str) -> Any:
        """Follow keys into the result; None when one of them is missing."""
        return look_up(self.result, *path)

    @cached_property
    def summary(self) -> Summary:
        """The trials in numbers."""
        return summarize(self.study, self.trials)

    @cached_property
    def best(self) -> Mapping[str, Any]:
        """The part of the result on the winner; empty before there is one."""
        found = self.get("best")
        return found if isinstance(found, Mapping) else {}

    @property
    def finished(self) -> bool:
        """Whether nothing more is to come."""
        return bool(self.get("status") == "done")

    @property
    def inherits(self) -> bool:
        """Whether the search measured networks with weights of a supernet, without training."""
        return bool(self.get("supernet", "inherits"))

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes; empty when the task has none."""
        found = self.get("data", "classes")
        return [str(name) for name in found] if isinstance(found, Sequence) else []

    @cached_property
    def tested(self) -> int | None:
        """How many samples the test accuracy was measured on."""
        for n in (look_up(self.best, "metrics", "n"), self.get("data", "splits", "test")):
            if (number := finite(n)) and number > 0:
                return int(number)
        return None

    @cached_property
    def rivals(self) -> list[Rival]:
        """The winner, if there is one, then the baselines."""
        found = [self._rival(self.best, "Found by parti", True)] if self.best else []
        for record in records(self.result, "baselines"):
            found.append(self._rival(record, str(record.get("name", "baseline")), False))
        return found

    def _rival(self, record: Mapping[str, Any], name: str, winner: bool) -> Rival:
        accuracy = finite(record.get("test_accuracy"))
        listed = record.get("test_accuracies")
        listed = listed if isinstance(listed, Sequence) and not isinstance(listed, str) else ()
        seeds = tuple(number for value in listed if (number := finite(value)) is not None)
        interval = None
        if accuracy is not None and 0 <= accuracy <= 1 and self.tested:
            interval = wilson(accuracy * self.tested, self.tested)
        note = f"trial {record['trial']}" if winner and "trial" in record else ""
        return Rival(
            name, note or str(record.get("note") or ""), accuracy, seeds, interval, record, winner
        )
