"""Searchers of Syne Tune, single-fidelity.

Salinas et al., "Syne Tune: A Library for Large Scale Hyperparameter Tuning and Reproducible
Research", AutoML 2022. Only the first objective is seen; what breaks a constraint or fails is told
as the worst loss seen so far.
"""

from __future__ import annotations

from typing import Any

from benchmarks.peers.waiting import Waiting, needed
from parti import Architecture, Study
from parti.core.protocols import Space

SEARCHERS = "syne_tune.optimizer.schedulers.searchers"


class SyneTune(Waiting):
    """Ask and tell a searcher."""

    module = ""
    searcher = ""

    def __init__(self, space: Space, study: Study, *, fidelity: int | None = None) -> None:
        super().__init__(space, study, fidelity)
        domains = needed("syne_tune.config_space", "syne-tune")
        module = needed(f"{SEARCHERS}.{self.module}", "syne-tune[basic]")
        self._searcher = getattr(module, self.searcher)(
            {
                name: domains.randint(0, len(choice.options) - 1)
                if choice.ordered
                else domains.choice(list(range(len(choice.options))))
                for name, choice in self.fixed_choices().items()
            },
            random_seed=study.seed,
        )
        self._config: dict[str, Any] = {}
        self._count = 0
        self._worst = 0.0

    def next_architecture(self) -> Architecture:
        self._config = self._searcher.suggest()
        return self.decided(self._config)

    def learn(self, losses: list[float] | None, violated: float) -> None:
        loss = self._worst if losses is None or violated else losses[0]
        self._worst = max(self._worst, loss) if self._count else loss
        self._searcher.on_trial_complete(self._count, self._config, loss)
        self._count += 1


class SyneTuneKDE(SyneTune):
    """The model of BOHB."""

    module = "kde.kde_searcher"
    searcher = "KernelDensityEstimator"


class SyneTuneCQR(SyneTune):
    """Conformal quantile regression: Syne Tune's recommendation for single-fidelity search."""

    module = "conformal.conformal_quantile_regression_searcher"
    searcher = "ConformalQuantileRegression"
