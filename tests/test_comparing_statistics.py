"""The statistics of comparisons, against answers that are known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parti.comparing.statistics import (
    bootstrap_interval,
    holm,
    interval_ranks,
    median,
    ranks,
    signed_rank_test,
)
from parti.core.errors import InvalidSettings


def test_the_median_of_censored_counts():
    assert median([3, 1, math.inf]) == 3
    assert median([1, 2, 3, math.inf]) == 2.5
    assert median([1, math.inf, math.inf]) == math.inf
    assert median([1, 2, math.inf, math.inf]) == math.inf
    assert median([math.inf, math.inf]) == math.inf
    np.testing.assert_array_equal(median([[1, math.inf], [3, 4]]), [2, math.inf])
    with pytest.raises(InvalidSettings, match="at least one"):
        median([])


@pytest.mark.parametrize(
    ("count", "places"), [(5, (0, 4)), (6, (0, 5)), (9, (1, 7)), (10, (1, 8)), (100, (39, 60))]
)
def test_the_interval_of_the_median_is_that_of_the_tables(count, places):
    assert interval_ranks(count) == places


@given(st.integers(6, 2000), st.sampled_from([0.8, 0.9, 0.95]))
def test_the_interval_holds_the_median_as_often_as_promised(count, confidence):
    low, high = interval_ranks(count, confidence)
    assert low + high == count - 1
    covered = sum(math.comb(count, k) for k in range(low + 1, high + 1))
    assert covered / 2**count >= confidence
    narrower = covered - math.comb(count, low + 1) - math.comb(count, high)
    assert narrower / 2**count < confidence


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(InvalidSettings, match="at least one"):
        interval_ranks(0)


def test_equal_values_share_their_mean_rank():
    assert ranks([30, 10, 20, 10]).tolist() == [4, 1.5, 3, 1.5]
    assert ranks([(math.inf, 1), (math.inf, 0), (5, 9)]).tolist() == [3, 2, 1]
    assert ranks([]).tolist() == []


def test_holm_corrects_as_in_the_textbook():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_signed_rank_test_sees_differences_and_only_those():
    values = np.arange(20.0)
    assert signed_rank_test(values, values) == 1.0
    assert signed_rank_test(values, values + 1) < 0.001
    assert signed_rank_test(values, values[::-1]) > 0.5


def test_the_bootstrap_keeps_blocks_apart():
    constant = [np.tile([1.0, 2.0], (30, 1)), np.tile([3.0, 0.0], (9, 1))]
    low, high = bootstrap_interval(constant)
    np.testing.assert_allclose([low, high], [[2, 1], [2, 1]])
    rows = np.random.default_rng(0).normal(5, 2, (400, 1))
    low, high = bootstrap_interval([rows])
    assert low[0] < rows.mean() < high[0]
    assert high[0] - low[0] == pytest.approx(2 * 1.96 * rows.std() / 20, rel=0.1)
