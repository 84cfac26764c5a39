"""Quantiles of waiting and running times, from the counts that the queue keeps by powers of √2.

Bucket *i* counts the times from ``FIRST_S`` · √2^i up to ``FIRST_S`` · √2^(i+1); the first one also holds all shorter
times, the last one all longer ones.

A quantile is the time of the ⌈q·n⌉-th shortest of n tasks. The bucket that holds it is known exactly; within it the
times are taken as evenly spread in the logarithm. The error is therefore less than one bucket: the value given is
between 1/√2 and √2 times the true one; in the first bucket it is off by less than √2 · ``FIRST_S``; for the last bucket
its lower edge is given, which says "at least".
"""

import math
from collections.abc import Sequence

BUCKETS = 48
FIRST_S = 0.001
#: Largest ratio between a quantile that is given and the true one.
ERROR_RATIO = math.sqrt(2.0)


def bucket_of(time_s: float) -> int:
    """Return the bucket that counts a time; the same rule stands in ``absurd.bucket``."""
    if time_s <= FIRST_S:
        return 0
    return min(math.floor(2.0 * math.log2(time_s / FIRST_S)), BUCKETS - 1)


def lower_edge_s(bucket: int) -> float:
    """Return the shortest time that a bucket counts, in seconds; 0 for the first."""
    return 0.0 if bucket == 0 else FIRST_S * math.exp2(bucket / 2.0)


def quantile_s(counts: Sequence[int], q: float) -> float | None:
    """Return the time that a share ``q`` (0 < q ≤ 1) of the tasks did not exceed; None when there was none."""
    total = sum(counts)
    if total <= 0:
        return None
    wanted, below = q * total, 0
    for bucket, count in enumerate(counts):
        if count > 0 and below + count >= wanted:
            return _within(bucket, (wanted - below) / count, last=bucket == len(counts) - 1)
        below += count
    raise AssertionError(f"a share of {q} of the counts {list(counts)} lies in no bucket; give 0 < q <= 1")


def _within(bucket: int, fraction: float, *, last: bool) -> float:
    low_s, high_s = lower_edge_s(bucket), FIRST_S * math.exp2((bucket + 1) / 2.0)
    if last:
        return low_s
    return fraction * high_s if bucket == 0 else low_s * math.pow(high_s / low_s, fraction)


def summed(histograms: Sequence[Sequence[int]]) -> list[int]:
    """Return the sum of histograms, bucket by bucket; negative counts (tasks run again) become 0."""
    return [max(sum(column), 0) for column in zip(*histograms, strict=True)] or [0] * BUCKETS
