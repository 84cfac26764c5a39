"""Settings: what is in force, what is refused, and what is shown of them."""

import dataclasses
from ipaddress import ip_network
from pathlib import Path

import pytest

from dsa110_contimg.api.config import (
    APIConfig,
    ConfigError,
    DatabaseConfig,
    TimeoutConfig,
    declared_settings,
    get_config,
    reset_config,
)
from dsa110_contimg.api.database import _get_default_db_path
from dsa110_contimg.secret_files import masked


def test_timeouts_are_those_of_the_specification() -> None:
    timeouts = APIConfig.from_env({}).timeouts
    assert timeouts.db_connection == 30.0
    assert timeouts.websocket_ping == 30.0
    assert timeouts.health_check == 2.0
    assert timeouts.redis_socket == 2.0


def test_defaults_are_those_of_the_specification() -> None:
    config = APIConfig.from_env({})
    assert config.database.backend == "sqlite"
    assert config.redis.url == "redis://localhost:6379/0"
    assert config.queue.name == "dsa110-pipeline"
    assert config.log.level == "INFO"


def test_defaults_of_the_dataclasses_are_those_of_an_empty_environment() -> None:
    assert TimeoutConfig() == APIConfig.from_env({}).timeouts
    from_env = APIConfig.from_env({}).database
    assert dataclasses.replace(DatabaseConfig(), products_path=from_env.products_path) == from_env


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        APIConfig.from_env({}).timeouts.db_connection = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("kept", ["the state", "the database", "a secret", "the database behind a link"])
def test_no_directory_is_served_in_which_the_database_or_a_secret_lies(tmp_path: Path, kept: str) -> None:
    """A row with the path of the database would send all that is in it, keys of others with the rest."""
    data, keys = tmp_path / "data", tmp_path / "data" / "keys"
    (data / "state").mkdir(parents=True)
    keys.write_text("k" * 30 + "abcdefgh")
    keys.chmod(0o600)
    (tmp_path / "link").symlink_to(data)
    environ = {"DSA110_STATE_DIR": str(tmp_path / "state"), "DSA110_DATA_ROOTS": f"{tmp_path}/images:{data}"} | {
        "the state": {"DSA110_STATE_DIR": str(data), "DSA110_DB_BACKEND": "postgresql"},
        "the database": {"PRODUCTS_DB_PATH": str(data / "state" / "products.sqlite3")},
        "a secret": {"DSA110_API_KEYS_FILE": str(keys)},
        "the database behind a link": {"PIPELINE_PRODUCTS_DB": str(tmp_path / "link" / "products.sqlite3")},
    }[kept]
    with pytest.raises(ConfigError, match=f"DSA110_DATA_ROOTS='{data}' cannot be used: .* lies in it"):
        APIConfig.from_env(environ)
    with pytest.raises(ConfigError, match="DSA110_PRODUCTS_DIR="):
        APIConfig.from_env(environ | {"DSA110_DATA_ROOTS": "", "DSA110_PRODUCTS_DIR": str(data)})
    APIConfig.from_env(environ | {"DSA110_DATA_ROOTS": f"{data}/images:{tmp_path}/images"})


def test_everything_lies_below_the_state_directory_unless_told_otherwise(tmp_path: Path) -> None:
    config = APIConfig.from_env({"DSA110_STATE_DIR": str(tmp_path)})
    assert config.database.products_path == tmp_path / "products.sqlite3"
    assert config.log.directory == tmp_path / "logs"
    assert config.paths.products_dir == tmp_path / "products"
    assert config.paths.served_roots == (tmp_path / "products",)
    elsewhere = APIConfig.from_env({"DSA110_STATE_DIR": str(tmp_path), "DSA110_DATA_ROOTS": "/a:/b"})
    assert elsewhere.paths.served_roots == (tmp_path / "products", Path("/a"), Path("/b"))


def test_the_newer_name_of_the_database_variable_wins() -> None:
    older = {"PIPELINE_PRODUCTS_DB": "/old.sqlite3"}
    assert APIConfig.from_env(older).database.products_path == Path("/old.sqlite3")
    both = {**older, "PRODUCTS_DB_PATH": "/new.sqlite3"}
    assert APIConfig.from_env(both).database.products_path == Path("/new.sqlite3")


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_counts_as_not_set(text: str) -> None:
    config = APIConfig.from_env({"DSA110_PORT": text, "DSA110_STATE_DIR": text})
    assert (config.server.port, config.log.directory) == (8000, Path("state/logs").absolute())


@pytest.mark.parametrize(
    ("variable", "value", "right"),
    [
        ("DSA110_DB_BACKEND", "mysql", "one of sqlite, postgresql"),
        ("DSA110_PORT", "http", "a whole number from 0 to 65535"),
        ("DSA110_PORT", "65536", "a whole number from 0 to 65535"),
        ("DSA110_TIMEOUT_HEALTH_CHECK", "nan", "a number from 0.1 to 60"),
        ("DSA110_TIMEOUT_HEALTH_CHECK", "soon", "a number from 0.1 to 60"),
        ("DSA110_LOG_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("DSA110_ALLOWED_IPS", "10.0.0.0/8,control-room", "networks or addresses"),
        ("DSA110_ALLOWED_IPS", "10.0.0.1/8", "networks or addresses"),
        ("DSA110_DB_PG_SSL", "maybe", "true or false"),
        ("DSA110_CORS_ORIGINS", "http://[:::::]", "origins with commas between"),
        ("DSA110_LOG_DIR", "~nobody-of-that-name/log", "a path"),
        ("DSA110_STATE_DIR", "~nobody-of-that-name", "a path"),
    ],
)
def test_a_wrong_value_names_the_variable_the_value_and_what_would_be_right(
    variable: str, value: str, right: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        APIConfig.from_env({variable: value})
    [problem] = caught.value.problems
    assert problem.startswith(f"{variable}={value!r} cannot be used: it must be {right}")


def test_all_wrong_values_are_told_at_once() -> None:
    wrong = {"DSA110_PORT": "x", "DSA110_DB_BACKEND": "y", "REDIS_URL": "z"}
    with pytest.raises(ConfigError) as caught:
        APIConfig.from_env(wrong)
    assert len(caught.value.problems) == 3
    assert all(variable in str(caught.value) for variable in wrong)


@pytest.mark.parametrize("variable", ["REDIS_URL", "DSA110_DB_PG_URL"])
@pytest.mark.parametrize("url", ["ftp://user:hunter2@host/x", "hunter2", "redis://user:hunter2@host:port"])
def test_a_wrong_secret_is_refused_without_being_shown(variable: str, url: str) -> None:
    with pytest.raises(ConfigError, match=variable) as caught:
        APIConfig.from_env({variable: url})
    assert "hunter2" not in str(caught.value)


def test_the_whole_internet_must_be_let_in_twice() -> None:
    with pytest.raises(ConfigError, match="DSA110_ALLOW_PUBLIC"):
        APIConfig.from_env({"DSA110_ALLOWED_IPS": "10.0.0.0/8,::/0"})
    config = APIConfig.from_env({"DSA110_ALLOWED_IPS": "0.0.0.0/0", "DSA110_ALLOW_PUBLIC": "yes"})
    assert config.access.allowed_ips == (ip_network("0.0.0.0/0"),)


def test_pool_sizes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most DSA110_DB_PG_POOL_MAX=2"):
        APIConfig.from_env({"DSA110_DB_PG_POOL_MIN": "3", "DSA110_DB_PG_POOL_MAX": "2"})


def test_the_address_of_postgresql_is_put_together_from_its_parts() -> None:
    environ = {"DSA110_DB_PG_USER": "a@b", "DSA110_DB_PG_PASSWORD": "p/w:?#", "DSA110_DB_PG_HOST": "::1"}
    database = APIConfig.from_env({**environ, "DSA110_DB_BACKEND": "postgresql"}).database
    assert database.postgresql_url == "postgresql://a%40b:p%2Fw%3A%3F%23@[::1]:5432/dsa110"
    assert database.display_name == "postgresql://a%40b:***@[::1]:5432/dsa110"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hunter2@host:1/0", "redis://:***@host:1/0"),
        ("postgresql://u:hunter2@h/d?sslmode=require", "postgresql://u:***@h/d?sslmode=require"),
        ("postgresql://u@h/d?password=hunter2&a=b", "postgresql://u@h/d?password=***&a=b"),
        ("redis://host/0", "redis://host/0"),
    ],
)
def test_addresses_are_shown_without_their_password(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_what_is_shown_holds_every_setting_once_and_no_secret() -> None:
    secrets = {
        "REDIS_URL": "redis://:canary1@host/0",
        "DSA110_DB_PG_URL": "postgresql://u:canary2@host/db",
        "DSA110_DB_PG_PASSWORD": "canary3",
    }
    rows = APIConfig.from_env({**secrets, "DSA110_PORT": "9000"}).describe()
    assert len({row.variable for row in rows}) == len(rows) == len(list(declared_settings()))
    assert not [row for row in rows if "canary" in row.value]
    assert {row.variable for row in rows if not row.is_default} == {*secrets, "DSA110_PORT"}
    assert all(row.meaning for row in rows)


def test_no_variable_belongs_to_two_settings() -> None:
    variables = [name for _, item in declared_settings() for name in item.metadata["variables"]]
    assert len(variables) == len(set(variables))


def test_the_environment_is_read_when_first_asked_and_then_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PRODUCTS_DB_PATH", str(tmp_path / "one.sqlite3"))
    reset_config()
    try:
        assert _get_default_db_path() == str(tmp_path / "one.sqlite3")
        monkeypatch.setenv("PRODUCTS_DB_PATH", str(tmp_path / "two.sqlite3"))
        assert get_config().database.products_path == tmp_path / "one.sqlite3"
        reset_config()
        assert _get_default_db_path() == str(tmp_path / "two.sqlite3")
    finally:
        reset_config()
