"""How requests are classed and counted, with a clock of our own."""

import time
from ipaddress import ip_address

import orjson
import pytest

from dsa110_contimg.api.access_settings import RateLimitConfig
from dsa110_contimg.api.config import APIConfig, ConfigError
from dsa110_contimg.api.middleware.error_body import error_body
from dsa110_contimg.api.rate_limit import Allowance, RateClass, RateLimitedError, bucket_of, class_of
from dsa110_contimg.api.readings import Rate, rate
from dsa110_contimg.api.services.rate_limiter import RateLimiter
from dsa110_contimg.api.services.rate_windows import MemoryWindows


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("100", Rate(100, 60)),
        ("100 per minute", Rate(100, 60)),
        ("100/minute", Rate(100, 60)),
        ("100 / 1 Minute", Rate(100, 60)),
        ("5 per 2 hours", Rate(5, 7200)),
        ("1000 per hour", Rate(1000, 3600)),
        ("3/second", Rate(3, 1)),
        ("9 per day", Rate(9, 86400)),
        ("0", Rate(0, 60)),
    ],
)
def test_a_rate_is_a_number_or_says_its_time(text: str, read: Rate) -> None:
    """The earlier backend read the same variables as numbers in one place and as texts in another."""
    assert rate("minute")(text) == read


@pytest.mark.parametrize("text", ["", "many", "-1", "1.5", "5 per fortnight", "100 per minute; 5 per hour", "1e3"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number of requests per minute"):
        rate("minute")(text)


@pytest.mark.parametrize(
    ("given", "told"),
    [(Rate(5), "5 per minute"), (Rate(5, 7200), "5 per 2 hours"), (Rate(5, 90), "5 per 90 seconds"), (Rate(0), "0")],
)
def test_a_rate_is_told_in_words(given: Rate, told: str) -> None:
    assert str(given) == told


def test_a_plain_number_means_the_unit_of_its_variable() -> None:
    read = APIConfig.from_env({"DSA110_RATE_LIMIT_HOUR": "1000", "DSA110_RATE_LIMIT_MINUTE": "50/minute"}).rates
    assert (read.hour, read.minute) == (Rate(1000, 3600), Rate(50, 60))
    with pytest.raises(ConfigError, match="DSA110_RATE_LIMIT_WRITE='often'"):
        APIConfig.from_env({"DSA110_RATE_LIMIT_WRITE": "often"})


def test_the_classes_have_the_numbers_of_the_contract() -> None:
    usual = RateLimitConfig()
    amounts = {"high": 1000, "minute": 100, "write": 30, "heavy": 10, "batch": 5}
    assert {name: getattr(usual, name) for name in amounts} == {name: Rate(n) for name, n in amounts.items()}


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/api/v1/images", RateClass.STANDARD),
        ("HEAD", "/api/sources/7", RateClass.STANDARD),
        ("GET", "/no/such/path", RateClass.STANDARD),
        ("GET", "/", RateClass.HIGH),
        ("GET", "/web/app.js", RateClass.HIGH),
        ("GET", "/api/docs", RateClass.HIGH),
        ("GET", "/absurd/tasks", RateClass.HIGH),
        ("GET", "/api/absurd/tasks", RateClass.HIGH),
        ("GET", "/api/v1/jobs", RateClass.HIGH),
        ("GET", "/api/v1/images/7/thumbnail", RateClass.HIGH),
        ("GET", "/api/v1/images/7/fits", RateClass.HIGH),
        ("OPTIONS", "/api/v1/images", RateClass.HIGH),
        ("GET", "/api/v1/sources/export", RateClass.HEAVY),
        ("GET", "/api/v1/images/7/cutout", RateClass.HEAVY),
        ("GET", "/api/v1/jobs/export", RateClass.HEAVY),
        ("GET", "/api/v1/ms//data/jobs/x.ms/download", RateClass.HEAVY),
        ("GET", "/api/v1/ms//data/jobs/x.ms", RateClass.STANDARD),
        ("POST", "/api/v1/images/7/reimage", RateClass.HEAVY),
        ("POST", "/api/v1/jobs/bulk-rerun", RateClass.BATCH),
        ("POST", "/api/v1/images/bulk-download", RateClass.BATCH),
        ("POST", "/api/v1/jobs/batch/7/cancel", RateClass.BATCH),
        ("POST", "/absurd/tasks", RateClass.WRITE),
        ("DELETE", "/api/v1/images/7", RateClass.WRITE),
        ("POST", "/api/v1/absurd/workers/w-1/heartbeat", RateClass.HIGH),
        ("QUERY", "/api/v1/images", RateClass.WRITE),
    ],
)
def test_each_request_has_a_class(method: str, path: str, found: RateClass) -> None:
    assert class_of(method, path) is found


@pytest.mark.parametrize(
    ("address", "bucket"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
    ],
)
def test_an_ipv6_client_is_counted_by_its_network(address: str, bucket: str) -> None:
    assert bucket_of(ip_address(address)) == bucket


# --- windows ----------------------------------------------------------------------------------------------------------


def test_a_window_moves_so_that_no_edge_lets_twice_as_many_in() -> None:
    clock = Clock()
    windows = MemoryWindows(clock=clock)
    passed: list[float] = []
    for tick in range(300):  # three times the limit, spread over the edge of any minute
        clock.now_s = 1050.0 + tick * 0.1
        if windows.acquire_entry("a", 100, 60):
            passed.append(clock.now_s)
    assert len(passed) == 100
    clock.now_s = 1110.0 + 0.05
    assert windows.acquire_entry("a", 100, 60)  # the first has left the window
    assert not windows.acquire_entry("a", 100, 60)


def test_a_window_tells_its_oldest_request_and_how_many_there_are() -> None:
    clock = Clock()
    windows = MemoryWindows(clock=clock)
    assert windows.get_moving_window("a", 5, 60)[1] == 0
    for clock.now_s in (1000.0, 1010.0, 1020.0):
        windows.acquire_entry("a", 5, 60)
    oldest, count = windows.get_moving_window("a", 5, 60)
    assert count == 3
    assert oldest == pytest.approx(time.time() - 20.0, abs=1.0)
    clock.now_s = 1065.0
    assert windows.get_moving_window("a", 5, 60)[1] == 2
    windows.clear("a")
    assert (windows.get_moving_window("a", 5, 60)[1], windows.entries) == (0, 0)


def test_the_memory_of_windows_is_bounded_and_forgets_the_longest_silent() -> None:
    windows = MemoryWindows(most_entries=100)
    for number in range(1000):
        windows.acquire_entry(str(number), 5, 60)
    assert windows.entries == 100
    assert windows.get_moving_window("899", 5, 60)[1] == 0
    assert windows.get_moving_window("900", 5, 60)[1] == 1


# --- the limiter ------------------------------------------------------------------------------------------------------


def limiter(clock: Clock, **given: Rate) -> RateLimiter:
    return RateLimiter(RateLimitConfig(store="memory", **given), "", clock)


async def test_every_request_is_told_what_remains() -> None:
    counting = limiter(Clock(), minute=Rate(3))
    told = [await counting.hit(RateClass.STANDARD, "a") for _ in range(4)]
    assert [(item.limit, item.remaining, item.passed) for item in told if item] == [
        (3, 2, True), (3, 1, True), (3, 0, True), (3, 0, False),
    ]  # fmt: skip
    last = told[-1]
    assert last is not None and last.reset_in_s == pytest.approx(60.0, abs=1.0)


async def test_clients_and_classes_are_counted_apart() -> None:
    counting = limiter(Clock(), minute=Rate(1), high=Rate(1))
    for rate_class in (RateClass.STANDARD, RateClass.HIGH):
        for bucket in ("a", "b"):
            allowance = await counting.hit(rate_class, bucket)
            assert allowance is not None and allowance.passed


async def test_of_two_limits_the_tighter_one_is_told() -> None:
    clock = Clock()
    counting = limiter(clock, minute=Rate(2), hour=Rate(3, 3600))
    seen = []
    for clock.now_s in (0.0, 1.0, 2.0, 70.0, 71.0):
        allowance = await counting.hit(RateClass.STANDARD, "a")
        assert allowance is not None
        seen.append((allowance.rule, allowance.passed))
    assert seen == [
        ("2 per minute", True), ("2 per minute", True), ("2 per minute", False), ("3 per hour", True),
        ("3 per hour", False),
    ]  # fmt: skip


async def test_a_refusal_ends_when_the_oldest_request_leaves_the_window() -> None:
    clock = Clock()
    counting = limiter(clock, minute=Rate(1))
    await counting.hit(RateClass.STANDARD, "a")
    for clock.now_s in (1001.0, 1030.0, 1059.0):
        refused = await counting.hit(RateClass.STANDARD, "a")
        assert refused is not None and not refused.passed
    clock.now_s = 1061.5
    again = await counting.hit(RateClass.STANDARD, "a")
    assert again is not None and again.passed


async def test_zero_is_no_limit_and_a_switched_off_limiter_limits_nobody() -> None:
    assert await limiter(Clock(), minute=Rate(0)).hit(RateClass.STANDARD, "a") is None
    off = RateLimiter(RateLimitConfig(disabled=True), "redis://nowhere.invalid")
    assert [await off.hit(RateClass.BATCH, "a") for _ in range(20)] == [None] * 20
    assert off.exhausted(RateClass.BATCH, "a") is None
    await off.close()


async def test_remembered_refusals_are_bounded() -> None:
    counting = limiter(Clock(), minute=Rate(1))
    for number in range(10_100):
        for _ in range(2):
            await counting.hit(RateClass.STANDARD, str(number))
    assert len(counting._refused) <= 10_000


def test_the_refusal_says_when_to_come_back_in_header_and_body() -> None:
    error = RateLimitedError(Allowance("100 per minute", 100, 0, time.time() + 41.2, passed=False))
    body = orjson.loads(orjson.dumps(error_body(error, "r-1")))
    assert (body["error"], body["code"], body["http_status"]) == ("rate_limit_exceeded", "RATE_LIMITED", 429)
    assert body["message"] == "Too many requests. 100 per minute"
    assert body["retry_after"] == 42
    assert error.headers["Retry-After"] == "42"
    assert (error.headers["X-RateLimit-Limit"], error.headers["X-RateLimit-Remaining"]) == ("100", "0")
    assert abs(int(error.headers["X-RateLimit-Reset"]) - time.time() - 41.2) < 2
