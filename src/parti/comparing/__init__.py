"""Comparing strategies: who finds what, after how many evaluations, and how sure that is.

    comparison = compare(["random", "evolution"], ["nasbench201/cifar10"], seeds=20, workers=2)
    table = standings(comparison)

An evaluation is a *distinct canonical* architecture: what is proposed again is known, and costs
nothing. A search sees what the problem's evaluator gives, one noisy run, say; its incumbent is what
looks best to it; reported is that incumbent's truth, mean test accuracy, say.
"""

from __future__ import annotations

from parti.comparing.comparison import Comparison, compare
from parti.comparing.run import Settings
from parti.comparing.standings import standings

__all__ = ["Comparison", "Settings", "compare", "standings"]
