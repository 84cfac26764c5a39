"""Settings of the queue: what is read, what is refused, what is never shown."""

import logging

import pytest

from dsa110_contimg.absurd.__main__ import settings
from dsa110_contimg.absurd.config import AbsurdConfig, ConfigError
from dsa110_contimg.absurd.worker import AbsurdWorker
from dsa110_contimg.secret_files import masked


def test_the_defaults_are_those_of_the_specification() -> None:
    config = AbsurdConfig.from_env({})
    assert (config.enabled, config.queue_name, config.worker_concurrency) == (False, "dsa110-pipeline", 4)
    assert (config.worker_poll_interval_sec, config.task_timeout_sec, config.max_retries) == (1.0, 3600.0, 3)
    assert (config.dead_letter_enabled, config.dead_letter_queue_name) == (True, "dsa110-pipeline-dlq")


def test_each_variable_sets_its_field() -> None:
    config = AbsurdConfig.from_env(
        {
            "ABSURD_ENABLED": "Yes", "ABSURD_DATABASE_URL": "postgresql://h/db", "ABSURD_QUEUE_NAME": "night",
            "ABSURD_WORKER_CONCURRENCY": "2", "ABSURD_WORKER_POLL_INTERVAL": "0.5", "ABSURD_TASK_TIMEOUT": "60",
            "ABSURD_MAX_RETRIES": "0", "ABSURD_MAX_CRASHES": "5", "ABSURD_LEASE": "20",
            "ABSURD_HEARTBEAT_INTERVAL": "4", "ABSURD_STOP_GRACE": "1", "ABSURD_KILL_GRACE": "2",
            "ABSURD_CHILD_MEMORY_MB": "4096",
        }
    )  # fmt: skip
    expected = AbsurdConfig(
        enabled=True, database_url="postgresql://h/db", queue_name="night", worker_concurrency=2,
        worker_poll_interval_sec=0.5, task_timeout_sec=60.0, max_retries=0, max_crashes=5, lease_sec=20.0,
        heartbeat_interval_sec=4.0, stop_grace_sec=1.0, kill_grace_sec=2.0, child_memory_mb=4096,
    )  # fmt: skip
    assert config == expected
    assert config.dead_letter_queue_name == "night-dlq"


def test_a_worker_serves_the_queue_of_the_specification_unless_it_is_given_others() -> None:
    assert AbsurdConfig.from_env({"ABSURD_QUEUE_NAME": "night"}).queues == ("night",)
    config = AbsurdConfig.from_env({"ABSURD_WORKER_QUEUES": "day, night,day", "ABSURD_WORKER_TASKS": "imaging"})
    assert (config.queues, config.worker_tasks) == (("day", "night"), ("imaging",))
    assert config.queue_name == "dsa110-pipeline", "what is spawned goes where it went"


def test_lists_are_shown_as_they_are_written() -> None:
    shown = {row[0]: row[1] for row in AbsurdConfig.from_env({"ABSURD_WORKER_QUEUES": "day,night"}).describe()}
    assert (shown["ABSURD_WORKER_QUEUES"], shown["ABSURD_WORKER_TASKS"]) == ("day,night", "")


def test_the_command_line_of_a_worker_overrides_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABSURD_WORKER_CONCURRENCY", "7")
    config = settings(["--queues", "day,night", "--tasks", "imaging", "--concurrency", "2"])
    assert (config.queues, config.worker_tasks, config.worker_concurrency) == (("day", "night"), ("imaging",), 2)
    with pytest.raises(ConfigError, match="ABSURD_WORKER_CONCURRENCY is '0'"):
        settings(["--concurrency", "0"])


def test_a_worker_that_is_to_take_tasks_it_does_not_know_says_which_it_knows() -> None:
    async def image(task: object, context: object) -> None:
        return None

    with pytest.raises(ConfigError, match=r"ABSURD_WORKER_TASKS names \['imagin'\]; this worker knows \['imaging'\]"):
        AbsurdWorker(AbsurdConfig(worker_tasks=("imagin",)), {"imaging": image})


@pytest.mark.parametrize("text", ["true", "1", "yes", "on", "TRUE"])
def test_enabled_has_several_words_for_yes(text: str) -> None:
    assert AbsurdConfig.from_env({"ABSURD_ENABLED": text}).enabled


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("ABSURD_ENABLED", "perhaps", "true or false"),
        ("ABSURD_DATABASE_URL", "mysql://h/db", "postgresql://"),
        ("ABSURD_QUEUE_NAME", " ", "not empty"),
        ("ABSURD_WORKER_QUEUES", "day,,night", "names separated by commas"),
        ("ABSURD_WORKER_TASKS", " , ", "names separated by commas"),
        ("ABSURD_WORKER_CONCURRENCY", "0", "at least 1"),
        ("ABSURD_WORKER_CONCURRENCY", "2.5", "whole number"),
        ("ABSURD_WORKER_POLL_INTERVAL", "0", "above 0"),
        ("ABSURD_WORKER_POLL_INTERVAL", "nan", "above 0"),
        ("ABSURD_TASK_TIMEOUT", "an hour", "seconds"),
        ("ABSURD_MAX_RETRIES", "-1", "at least 0"),
        ("ABSURD_MAX_CRASHES", "0", "at least 1"),
        ("ABSURD_CHILD_MEMORY_MB", "1", "at least 64"),
    ],
)
def test_a_wrong_value_is_refused_with_variable_value_and_remedy(variable: str, value: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AbsurdConfig.from_env({variable: value})
    assert variable in str(caught.value)
    assert repr(value) in str(caught.value)
    assert remedy in str(caught.value)


def test_a_lease_that_one_late_beat_would_cost_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ABSURD_HEARTBEAT_INTERVAL is 3 and ABSURD_LEASE is 5"):
        AbsurdConfig.from_env({"ABSURD_LEASE": "5"})


def test_a_variable_that_nothing_reads_is_named_with_the_one_it_resembles(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        AbsurdConfig.from_env({"ABSURD_WORKER_POLL_INTERVAL_SEC": "1"})
    assert "ABSURD_WORKER_POLL_INTERVAL_SEC; did you mean ABSURD_WORKER_POLL_INTERVAL?" in caplog.text


@pytest.mark.parametrize(
    "text", ["postgresql://me:geheim@host:5432/db", "mysql://me:geheim@host/db", "postgresql://host/db?password=geheim"]
)
def test_a_password_is_shown_in_no_text(text: str) -> None:
    try:
        config = AbsurdConfig.from_env({"ABSURD_DATABASE_URL": text})
    except ConfigError as error:
        assert "geheim" not in str(error)
    else:
        assert "geheim" not in repr(config) + str(config) + repr(config.describe())
    assert "geheim" not in masked(text)
    assert "host" in masked(text)


def test_an_address_that_cannot_be_read_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError, match=r"ABSURD_DATABASE_URL is .* give an address like postgresql://") as caught:
        AbsurdConfig.from_env({"ABSURD_DATABASE_URL": "postgresql://me:geh[eim@host/db"})
    assert "eim" not in str(caught.value)
