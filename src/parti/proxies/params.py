"""Number of parameters: the baseline that every proxy should beat, and few do.

C. White, M. Khodak, R. Tu, S. Shah, S. Bubeck and D. Dey. A Deeper Look at Zero-Cost Proxies
for Lightweight NAS. ICLR Blog Track 2022.
"""

from __future__ import annotations

from typing import Literal

from parti.proxies.probe import Need, Probe

__all__ = ["Params"]


class Params:
    """Counts parameters; shared ones once."""

    needs: frozenset[Need] = frozenset()
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the number of parameters."""
        return float(sum(parameter.numel() for parameter in probe.network.parameters()))
