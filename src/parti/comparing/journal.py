"""Finished runs, a line of JSON each, so that a comparison that was killed goes on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from parti.comparing.run import Run
from parti.comparing.runs import Task
from parti.core.errors import StoreError

__all__ = ["Journal"]


class Journal:
    """Keeps runs in a file, or in memory alone.

    A run is found again under all that its numbers depend on: contender, problem, seed, settings
    and code. A last line that was cut off is dropped.

    Args:
        file: where; None for memory alone.

    Raises:
        StoreError: the file holds something else.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._runs: dict[str, Run] = {}
        if file is not None and file.exists():
            self._read(file)

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, task: Task, code: str) -> Run | None:
        """Return the run of a task with this code, if it is known."""
        return self._runs.get(_key(_of(task, code)))

    def keep(self, task: Task, code: str, run: Run) -> None:
        """Add a run, durably; one that ended in an error is remembered, but not kept."""
        of = _of(task, code)
        self._runs[_key(of)] = run
        if self._file is not None and run.error is None:
            line = json.dumps({"of": of, "run": run.to_dict()}, separators=(",", ":"))
            with self._file.open("a") as stream:
                stream.write(line + "\n")

    def _read(self, file: Path) -> None:
        text = file.read_text()
        whole, _, cut = text.rpartition("\n")
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                data = json.loads(line)
                self._runs[_key(data["of"])] = Run.from_dict(data["run"])
            except (ValueError, TypeError, KeyError) as error:
                raise StoreError(
                    f"{file}, line {number} is not a run ({type(error).__name__}: {error}); "
                    "remove the line, or name another folder"
                ) from error
        if cut:  # the process was killed while it wrote: that run is made again
            file.write_text(whole + "\n" if whole else "")


def _of(task: Task, code: str) -> dict[str, Any]:
    return {
        "contender": task.contender,
        "problem": task.problem,
        "seed": task.seed,
        "settings": asdict(task.settings),
        "code": code,
    }


def _key(of: dict[str, Any]) -> str:
    return json.dumps(of, sort_keys=True)
