"""Live progress on standard error: a panel that is redrawn on a terminal, else plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from parti.core.study import Objective, Study, best, pareto_front
from parti.core.trial import State, Trial
from parti.finding.watch import Watcher
from parti.loop import Progress

__all__ = ["Lines", "Panel", "standard_error", "terminal_watcher"]

SECONDS_BETWEEN_LINES = 10.0
FRONT_ROWS = 5


@contextmanager
def terminal_watcher(study: str) -> Iterator[Watcher]:
    """Give the watcher that suits standard error."""
    if not sys.stderr.isatty():
        yield standard_error()
        return
    console = Console(stderr=True, highlight=False, markup=False)
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield Panel(console, live, study)


def standard_error() -> Lines:
    """Lines on standard error."""
    return Lines(Console(stderr=True, highlight=False, markup=False))


class Lines:
    """Prints a line when there is something new, not too often.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.printed = 0.0
        self.best: int | None = None

    def understood(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print what is known before anything runs."""
        for what, value in rows:
            self.console.print(f"{what:>12}  {value}", soft_wrap=True)

    def stage(self, title: str) -> None:
        """Print the stage."""
        self.console.print(f"• {title}", soft_wrap=True)
        self.printed, self.best = 0.0, None

    def progress(self, progress: Progress) -> None:
        """Print how far it is, at every new best and every few seconds."""
        top = best(progress.study, list(progress.trials.values()))
        new_best = top is not None and top.number != self.best
        if not new_best and time.monotonic() - self.printed < SECONDS_BETWEEN_LINES:
            return
        self.printed = time.monotonic()
        self.best = top.number if top is not None else None
        self.console.print(f"  {progress_line(progress)}", soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, soft_wrap=True)


class Panel(Lines):
    """Redraws trials, the best so far, the front and the time left.

    Args:
        console: for what stays.
        live: the part that is redrawn.
        study: its name.
    """

    def __init__(self, console: Console, live: Live, study: str) -> None:
        super().__init__(console)
        self.live = live
        self.study = study

    def progress(self, progress: Progress) -> None:
        """Redraw."""
        self.live.update(
            Group(Text(progress_line(progress), style="bold"), front_table(progress), *self._tip())
        )

    def stage(self, title: str) -> None:
        """Print the stage and clear the panel."""
        super().stage(title)
        self.live.update(Text(""))

    def _tip(self) -> list[Text]:
        return [Text(f"Ctrl-C stops and keeps everything; parti resume {self.study}", style="dim")]


def progress_line(progress: Progress) -> str:
    """Where a stage stands, in one line."""
    trials = list(progress.trials.values())
    count = sum(trial.state not in (State.REJECTED, State.RUNNING) for trial in trials)
    budget = progress.study.budget
    parts = [f"{count} of {budget.trials} trials" if budget.trials else f"{count} trials"]
    for state in (State.FAILED, State.REJECTED):
        if number := sum(trial.state is state for trial in trials):
            parts.append(f"{number} {state.value}")
    if (top := best(progress.study, trials)) is not None:
        parts.append(f"best {_metrics(progress.study, top)} (trial {top.number})")
    if progress.latest is not None:
        number, measured = progress.latest
        parts.append(f"trial {number} at epoch {measured.step}")
    if (left := _seconds_left(progress, count)) is not None:
        parts.append(f"{_clock(left)} left")
    else:
        parts.append(f"{_clock(progress.seconds)} so far")
    return " · ".join(parts)


def front_table(progress: Progress) -> Table:
    """The Pareto front so far of what is optimized against the number of parameters."""
    objectives = progress.study.objectives
    if all(objective.metric != "params" for objective in objectives):
        objectives = (*objectives, Objective("params", "min"))
    against_size = replace(progress.study, objectives=objectives)
    front = pareto_front(against_size, progress.trials.values())[:FRONT_ROWS]
    shown = [objective.metric for objective in objectives]
    shown += [metric for metric in ("macs", "latency_ms") if metric not in shown]
    shown = [metric for metric in shown if any(metric in trial.metrics for trial in front)]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("trial", *shown):
        table.add_column(name, justify="right")
    for trial in front:
        table.add_row(str(trial.number), *(_number(trial.metric(metric)) for metric in shown))
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _metrics(study: Study, trial: Trial) -> str:
    return ", ".join(f"{o.metric} {trial.metric(o.metric):.4g}" for o in study.objectives)


def _seconds_left(progress: Progress, count: int) -> float | None:
    budget = progress.study.budget
    left: list[float] = []
    if budget.seconds is not None:
        left.append(budget.seconds - progress.seconds)
    if budget.trials is not None and count:
        left.append(progress.seconds / count * (budget.trials - count))
    return max(0.0, min(left)) if left else None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
