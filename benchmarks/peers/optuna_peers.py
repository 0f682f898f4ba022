"""Optuna's samplers, define-by-run: each choice met on the walk is suggested in turn.

Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019. Samplers
with their defaults. Scales are integers, other choices categorical. Constraints go to the sampler.
"""

from __future__ import annotations

import warnings
from typing import Any

from benchmarks.peers.waiting import Waiting, needed
from parti import Architecture, Choice, Study
from parti.core.protocols import Space

FAR = 1e9
"""How far a failed trial is said to be outside the constraints."""


class Optuna(Waiting):
    """Suggest with a sampler."""

    sampler = ""
    arguments: dict[str, Any] = {}  # noqa: RUF012 - never written to

    def __init__(self, space: Space, study: Study, *, fidelity: int | None = None) -> None:
        super().__init__(space, study, fidelity)
        optuna = needed("optuna", "optuna scipy torch")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        given = dict(self.arguments)
        if study.constraints:
            given["constraints_func"] = lambda trial: (trial.user_attrs.get("violated", FAR),)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental features
            sampler = getattr(optuna.samplers, self.sampler)(seed=study.seed, **given)
        self._failed = optuna.trial.TrialState.FAIL
        self._optuna = optuna.create_study(
            directions=["minimize"] * len(study.objectives), sampler=sampler
        )
        self._trial: Any = None

    def next_architecture(self) -> Architecture:
        self._trial = self._optuna.ask()
        return self.space.walk(self._suggest)

    def learn(self, losses: list[float] | None, violated: float) -> None:
        if losses is None:
            self._optuna.tell(self._trial, state=self._failed)
            return
        self._trial.set_user_attr("violated", violated)
        self._optuna.tell(self._trial, losses)

    def _suggest(self, choice: Choice) -> Any:
        count = len(choice.options)
        if choice.ordered:
            return choice.options[self._trial.suggest_int(choice.name, 0, count - 1)]
        return choice.options[self._trial.suggest_categorical(choice.name, range(count))]


class OptunaTPE(Optuna):
    """TPE with Optuna's defaults."""

    sampler = "TPESampler"


class OptunaIndependentTPE(Optuna):
    """TPE, each choice by itself, as in the paper of Bergstra et al."""

    sampler = "TPESampler"
    arguments = {"multivariate": False}  # noqa: RUF012


class OptunaGP(Optuna):
    """A Gaussian process; several objectives by hypervolume improvement."""

    sampler = "GPSampler"
    arguments = {"warn_independent_sampling": False}  # noqa: RUF012


class OptunaNSGAII(Optuna):
    """NSGA-II with 50 in the population."""

    sampler = "NSGAIISampler"
