"""Quantiles of times that were only counted by bucket, against the exact ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.absurd.histograms import (
    BUCKETS,
    ERROR_RATIO,
    FIRST_S,
    bucket_of,
    lower_edge_s,
    quantile_s,
    summed,
)

LAST_EDGE_S = lower_edge_s(BUCKETS - 1)


def counted(times_s: list[float]) -> list[int]:
    counts = [0] * BUCKETS
    for time_s in times_s:
        counts[bucket_of(time_s)] += 1
    return counts


@given(
    times_s=st.lists(st.floats(0.0, 2.0 * LAST_EDGE_S), min_size=1, max_size=200),
    q=st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]),
)
def test_a_quantile_is_within_the_stated_error_of_the_exact_one(times_s: list[float], q: float) -> None:
    exact_s = sorted(times_s)[math.ceil(q * len(times_s)) - 1]
    given_s = quantile_s(counted(times_s), q)
    assert given_s is not None
    if exact_s >= LAST_EDGE_S:
        assert given_s == LAST_EDGE_S
    elif exact_s < FIRST_S * ERROR_RATIO:
        assert abs(given_s - exact_s) <= FIRST_S * ERROR_RATIO
    else:
        assert exact_s / ERROR_RATIO <= given_s * (1 + 1e-9)
        assert given_s <= exact_s * ERROR_RATIO * (1 + 1e-9)


def test_the_quantiles_of_many_times_of_one_law_are_close_to_the_exact_ones() -> None:
    times_s = np.random.default_rng(1).lognormal(mean=3.0, sigma=1.0, size=20_000)
    counts = counted(times_s.tolist())
    for q in (0.5, 0.95, 0.99):
        assert quantile_s(counts, q) == pytest.approx(np.quantile(times_s, q), rel=0.03)


def test_of_no_task_there_is_no_quantile() -> None:
    assert quantile_s([0] * BUCKETS, 0.5) is None


@pytest.mark.parametrize(
    ("time_s", "bucket"),
    [(0.0, 0), (0.001, 0), (0.00141, 0), (0.00142, 1), (0.00199, 1), (0.002, 2), (1.0, 19), (3600.0, 43), (1e9, 47)],
)
def test_each_time_is_counted_where_its_bucket_says(time_s: float, bucket: int) -> None:
    assert bucket_of(time_s) == bucket
    assert lower_edge_s(bucket) <= max(time_s, 0.0)


def test_the_last_bucket_begins_beyond_three_hours() -> None:
    assert LAST_EDGE_S > 3 * 3600


def test_histograms_add_up_and_never_count_below_nothing() -> None:
    assert summed([[1, 2, 0], [3, -5, 1]]) == [4, 0, 1]
    assert summed([]) == [0] * BUCKETS
