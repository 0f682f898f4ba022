"""For tests, ours and yours: conformance suites and toy spaces.

Subclass a suite, say how to make the thing under test, and run pytest:

    from parti.testing import StrategySuite

    class TestMine(StrategySuite):
        def make(self, space, study):
            return Mine(space, study)
"""

from __future__ import annotations

from parti.testing.evaluators import EvaluatorSuite
from parti.testing.spaces import SpaceSuite
from parti.testing.stores import StoreSuite
from parti.testing.strategies import StrategySuite
from parti.testing.toys import SPACES, Landscape, toy_study

__all__ = [
    "SPACES",
    "EvaluatorSuite",
    "Landscape",
    "SpaceSuite",
    "StoreSuite",
    "StrategySuite",
    "toy_study",
]
