"""Multiply-accumulates of one image: the other baseline (FLOPs = 2 × MACs).

    X. Ning, C. Tang, W. Li, Z. Zhou, S. Liang, H. Yang and Y. Wang. Evaluating Efficient
    Performance Estimators of Neural Architectures. NeurIPS 2021.

Counted as `evaluators.complexity` does: convolutions and products of matrices, in modules or not.
"""

from __future__ import annotations

from typing import Literal

from parti.proxies.probe import Need, Probe

__all__ = ["Macs"]


class Macs:
    """Counts multiply-accumulates."""

    needs: frozenset[Need] = frozenset({Need.MACS})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the multiply-accumulates of one image."""
        return float(probe.macs)
