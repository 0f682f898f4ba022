"""Strategies of other libraries as contenders: same tables, same seeds, same counting.

Each module adapts one library, imports it when a strategy is made, and is needed by nothing else.
"""

from __future__ import annotations

from importlib.util import find_spec

PEERS = {
    "optuna": ("OptunaTPE", "OptunaIndependentTPE", "OptunaGP", "OptunaNSGAII"),
    "pymoo": ("PymooGA",),
    "nevergrad": ("NevergradNGOpt", "NevergradDiscrete"),
    "syne_tune": ("SyneTuneKDE", "SyneTuneCQR"),
}
"""Libraries, and their strategies that are adapted in `benchmarks.peers.<library>_peers`."""

PACKAGES = {
    "optuna": "optuna",
    "pymoo": "pymoo",
    "nevergrad": "nevergrad",
    "syne_tune": "syne-tune",
}
"""What to install for each."""


SLOW = frozenset({"OptunaGP", "SyneTuneCQR"})
"""These take a third of a second and more for each proposal."""


def contenders(*, slow: bool = False) -> tuple[list[str], list[str]]:
    """Return the contenders whose library is installed, and the packages that are not.

    Args:
        slow: the slow ones too.
    """
    there = [library for library in PEERS if find_spec(library) is not None]
    specs = [
        f"benchmarks.peers.{library}_peers:{name}"
        for library in there
        for name in PEERS[library]
        if slow or name not in SLOW
    ]
    return specs, [PACKAGES[library] for library in PEERS if library not in there]
