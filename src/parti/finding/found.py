"""What a search has found, as a user holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parti.core.architecture import Architecture
from parti.core.protocols import Space, Store
from parti.core.trial import Trial

if TYPE_CHECKING:
    from parti.deploy.model import DeployedModel

__all__ = ["Found"]


class Found:
    """The result of a search; in a notebook it shows itself.

    Args:
        result: everything that was written down, as JSON values.
        folder: of the study.
        store: keeps its trials.
        space: what was searched, if it was given as an object.
    """

    def __init__(
        self, result: Mapping[str, Any], folder: Path, store: Store, space: str | Space = "auto"
    ) -> None:
        self._result = result
        self._store = store
        self._space = space
        self.folder = folder

    @property
    def study(self) -> str:
        """The study's name."""
        return str(self._result["study"])

    @property
    def best(self) -> Mapping[str, Any]:
        """All that is known of the winner: accuracies, params, macs, latency_ms, curves."""
        return dict(self._result["best"])

    @property
    def baselines(self) -> list[Mapping[str, Any]]:
        """The same for random search and the fixed network."""
        return list(self._result["baselines"])

    @property
    def architecture(self) -> Architecture:
        """The winner."""
        return Architecture.from_json(json.dumps(self._result["best"]["architecture"]))

    @property
    def test_accuracy(self) -> float:
        """Share of test images that the exported model gets right."""
        return float(self._result["best"]["test_accuracy"])

    @property
    def trials(self) -> list[Trial]:
        """All trials of the search, by number."""
        trials, _ = self._store.trials(self.study)
        return sorted(trials, key=lambda trial: trial.number)

    @property
    def report(self) -> Path:
        """The report page."""
        return self.folder / "report.html"

    @property
    def model(self) -> DeployedModel:
        """The trained model in PyTorch: raw pixels [n, channels, height, width] to logits."""
        from parti.deploy.model import load_model
        from parti.spaces.catalogue import load_space

        described = self._result["space"]
        own: str | Space = described["name"] if isinstance(self._space, str) else self._space
        space: Any = load_space(own, **described["arguments"])
        return load_model(self.folder / "model", space)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return dict(self._result)

    def summary(self) -> dict[str, Any]:
        """What `parti search --json` prints."""
        best = ("architecture", "val_accuracy", "test_accuracy", "test_accuracies", "params")
        more = ("macs", "latency_ms", "latency_p95_ms", "latency_conditions")
        shown = ("name", "kind", "trials", "val_accuracy", "test_accuracy", "test_accuracies")
        return {
            "study": self.study,
            "best": {name: self._result["best"][name] for name in (*best, *more)},
            "baselines": [
                {name: baseline[name] for name in (*shown, "params", "macs", "latency_ms")}
                for baseline in self._result["baselines"]
            ],
            "cost": self._result["cost"],
            "files": self._result["files"],
        }

    def __repr__(self) -> str:
        best = self._result["best"]
        return (
            f"Found({self.study}: test accuracy {best['test_accuracy']:.4f}, "
            f"{best['params']:,} params, {best['latency_ms']:.2f} ms; {self.report})"
        )

    def _repr_html_(self) -> str:
        from parti.reports.notebook import html_summary

        return html_summary(self._result)
