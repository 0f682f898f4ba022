"""Directions of improvement, each from evidence in the result and with the command to run next.

A rule looks at the evidence and says nothing unless a difference is larger than chance makes it,
or a prediction is better than its error. `rules_result` and `rules_search` hold them.
"""

from __future__ import annotations

from parti.explaining.evidence import Direction, Evidence
from parti.explaining.rules_result import RESULT_RULES
from parti.explaining.rules_search import SEARCH_RULES

__all__ = ["RULES", "Direction", "Evidence", "directions"]

RULES = (*RESULT_RULES[:3], *SEARCH_RULES, *RESULT_RULES[3:])
"""All rules: whether the result may be believed and the winner was trained well come first, then
the search, then what would refine it."""


def directions(evidence: Evidence) -> list[Direction]:
    """Return every direction for which there is evidence, the most urgent first.

    Args:
        evidence: a study, its result, and what was made of them.
    """
    found = (rule(evidence) for rule in RULES)
    return [direction for direction in found if direction is not None]
