"""Whole campaigns, small ones: real workers and clients, every kind of fault, and the judge at the end."""

import asyncio
import os
import random
from pathlib import Path

import psycopg
import pytest

from dsa110_contimg.absurd import setup
from dsa110_contimg.chaos.campaign import NotEmptyError, Plan, run_campaign
from dsa110_contimg.chaos.checker import check
from dsa110_contimg.chaos.faults import FAULTS, KINDS, schedule
from dsa110_contimg.chaos.figures import figures
from dsa110_contimg.chaos.report import as_text


def seed() -> int:
    """Return the seed of this run: DSA110_TEST_SEED, or a random one; it is printed either way."""
    chosen = int(os.environ.get("DSA110_TEST_SEED", random.randrange(2**31)))
    print(f"DSA110_TEST_SEED={chosen}")
    return chosen


def assert_held(plan: Plan, tested: set[int]) -> None:
    """Run a campaign: nothing may be violated, and these invariants must have been put to the test."""
    evidence = run_campaign(plan, print)
    verdicts = check(evidence)
    print(as_text(figures(evidence, verdicts), verdicts))
    violations = [violation for verdict in verdicts for violation in verdict.violations]
    print(*(f"{violation.what}: {violation.shown_by}" for violation in violations), sep="\n")
    assert [violation.what for violation in violations] == []
    assert tested <= {verdict.number for verdict in verdicts if verdict.held}


def test_a_seed_gives_the_same_schedule_with_every_kind_in_it() -> None:
    first, second, other = (schedule(random.Random(n), KINDS, 20, 60.0) for n in (1, 1, 2))
    assert first == second != other
    assert {kind for _, kind in first} == set(FAULTS)
    assert sum(kind == "kill" for _, kind in first) == 20
    assert all(0.0 <= moment_s <= 60.0 for moment_s, _ in first)


def test_a_short_campaign_of_kills_and_cut_commits_loses_nothing(postgres_database: str, tmp_path: Path) -> None:
    plan = Plan(
        tmp_path, seed(), tasks=60, kills=2, kinds=("kill", "commit"), duration_s=2.0, workers=2, clients=1,
        lease_s=2.0, wakes=0, schedulers=0, database_url=postgres_database,
    )  # fmt: skip
    assert_held(plan, {1, 3, 4, 5, 6})


async def test_a_database_in_use_is_left_alone(postgres_database: str, tmp_path: Path) -> None:
    await setup.init(postgres_database)
    async with await psycopg.AsyncConnection.connect(postgres_database) as connection:
        await connection.execute("select absurd.spawn_task('science', 'imaging')")
    with pytest.raises(NotEmptyError, match="holds 1 tasks"):
        await asyncio.to_thread(run_campaign, Plan(tmp_path, 1, database_url=postgres_database), print)


@pytest.mark.slow
def test_a_campaign_of_all_faults_loses_nothing(tmp_path: Path) -> None:
    assert_held(Plan(tmp_path, seed(), tasks=600, kills=8, duration_s=14.0, wakes=3), set(range(1, 16)))


@pytest.mark.slow
def test_a_planted_bug_is_found_by_a_campaign(postgres_database: str, tmp_path: Path) -> None:
    """Progress is taken from anybody: the history shows it, though every task ends well."""

    def plant(_line: str) -> None:
        with psycopg.connect(postgres_database) as connection:
            found = connection.execute("select pg_get_functiondef('absurd.report_progress'::regproc)").fetchone()
            assert found is not None and "and claim = p_claim" in found[0]
            connection.execute(found[0].replace("return false", "return true"))

    plan = Plan(
        tmp_path, seed(), tasks=60, kills=128, kinds=("commit",), duration_s=3.0, workers=2, clients=1, lease_s=2.0,
        wakes=0, schedulers=0, database_url=postgres_database,
    )  # fmt: skip  # sixteen commits are cut: the bug is planted at the first, and one alone may come too late
    violated = {verdict.number for verdict in check(run_campaign(plan, plant)) if verdict.violations}
    assert violated == {4}
