"""Secrets: from files that only their owner reads, never those that everybody knows, and in no line of a log."""

import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dsa110_contimg import logs
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.config import ConfigError as QueueConfigError
from dsa110_contimg.api.__main__ import main
from dsa110_contimg.api.config import APIConfig, ConfigError, reset_config
from dsa110_contimg.api.credentials import create_key
from dsa110_contimg.secret_files import read_secret

CANARY = "Canary-7fZ!q/9@x"
KEY = create_key("canary", [], 0.0, None)[0]


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    file = write(tmp_path / "keys", f"{KEY}\n")
    assert APIConfig.from_env({"DSA110_API_KEYS_FILE": str(file)}).auth.api_keys == (KEY,)
    file = write(tmp_path / "redis", f"redis://:{CANARY}@host:1/0")
    with pytest.raises(ConfigError, match=r"REDIS_URL_FILE='.*redis' cannot be used"):
        APIConfig.from_env({"REDIS_URL_FILE": str(file)})  # a slash and an at sign must be encoded in an address
    file = write(tmp_path / "queue", "postgresql://queue:pw@host/db\n", 0o400)
    assert (
        AbsurdConfig.from_env({"ABSURD_DATABASE_URL_FILE": str(file)}).database_url == "postgresql://queue:pw@host/db"
    )


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602, 0o777])
def test_a_file_that_others_may_read_or_write_stops_the_start(tmp_path: Path, mode: int) -> None:
    file = write(tmp_path / "keys", KEY, mode)
    with pytest.raises(ConfigError, match="chmod 600") as refused:
        APIConfig.from_env({"DSA110_API_KEYS_FILE": str(file)})
    assert KEY not in str(refused.value)
    with pytest.raises(QueueConfigError, match="chmod 600"):
        AbsurdConfig.from_env({"ABSURD_DATABASE_URL_FILE": str(file)})


def test_files_that_are_no_secrets_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    large = write(tmp_path / "large", "x" * 70_000)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "bytes").chmod(0o600)
    for path, words in (
        (tmp_path / "nothing", "No such file"), (tmp_path / "fifo", "regular"), (tmp_path, "regular|directory"),
        (large, "at most"), (tmp_path / "bytes", "UTF-8"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            read_secret(path)


def test_a_secret_is_given_once(tmp_path: Path) -> None:
    file = write(tmp_path / "keys", KEY)
    with pytest.raises(ConfigError, match="both set"):
        APIConfig.from_env({"DSA110_API_KEYS_FILE": str(file), "DSA110_API_KEYS": KEY})


# --- start-up ---------------------------------------------------------------------------------------------------------

BARE = """
import asyncio
from fastapi import APIRouter
from dsa110_contimg.api import app
from dsa110_contimg.api.__main__ import main
router = APIRouter(prefix="/api/v1")
router.add_api_route("/bare", lambda: None, methods=["POST"])
app._ROUTERS = (*app._ROUTERS, router)
raise SystemExit(main([]))
"""


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"DSA110_API_KEYS": "change-me-change-me-change-me-change-me"}, "stands in examples"),
        ({"DSA110_API_KEYS": "short"}, "at least 32 characters"),
        ({"DSA110_ALLOWED_IPS": "10.0.0.0/8,control-room"}, "DSA110_ALLOWED_IPS"),
        ({"DSA110_AUTH_DISABLED": "true", "DSA110_ENV": "testing", "DSA110_HOST": "0.0.0.0"}, "DSA110_AUTH_DIS"),
        ({"DSA110_API_KEYS_FILE": "keys"}, "chmod 600"),
    ],
    ids=["example", "short", "network", "no authentication", "readable by all"],
)
def test_the_server_does_not_start_unsafe(
    tmp_path: Path, environ: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    write(tmp_path / "keys", KEY, 0o644)
    monkeypatch.chdir(tmp_path)
    reset_config()
    request.addfinalizer(reset_config)
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that a server that does start ends
        port = str(taken.getsockname()[1])
        for name, value in {"DSA110_STATE_DIR": str(tmp_path), "DSA110_PORT": port, **environ}.items():
            monkeypatch.setenv(name, value)
        assert main([]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert KEY not in said


def test_the_server_does_not_start_with_a_route_that_changes_things_for_everybody(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", BARE], cwd=tmp_path, capture_output=True, text=True,
        env={"DSA110_STATE_DIR": str(tmp_path), "DSA110_PORT": "0"}, timeout=60,
    )  # fmt: skip
    assert ended.returncode not in (0, None)
    assert "declare no scope: POST /api/v1/bare" in ended.stderr


@pytest.mark.parametrize(
    "environ",
    [
        {"DSA110_API_KEYS": "x" * 40},
        {"DSA110_API_KEYS": "your-secret-key-goes-here-0123456789ab"},
        {"DSA110_DB_PG_PASSWORD": "postgres"},
        {"DSA110_DB_PG_URL": "postgresql://dsa110:changeme@db/dsa110"},
        {"REDIS_URL": "redis://:password@cache:6379/0"},
    ],
)
def test_a_secret_that_everybody_knows_is_refused_in_production_only(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="cannot be used in production") as refused:
        APIConfig.from_env(environ)
    assert not any(secret in str(refused.value) for secret in ("x" * 40, "postgres", "changeme", "your-secret"))
    APIConfig.from_env({**environ, "DSA110_ENV": "staging"})


def test_made_keys_are_never_taken_for_examples() -> None:
    for _ in range(200):
        APIConfig.from_env({"DSA110_API_KEYS": create_key("x", [], 0.0, None)[0]})


def test_pages_without_tls_may_call_outside_production_only() -> None:
    with pytest.raises(ConfigError, match="origin with https"):
        APIConfig.from_env({"DSA110_CORS_ORIGINS": "https://a.example,http://b.example"})
    for environ in ({"DSA110_ENV": "testing", "DSA110_CORS_ORIGINS": "http://b.example"},
                    {"DSA110_CORS_ORIGINS": "http://localhost:3000,http://127.0.0.1:3000"}):  # fmt: skip
        assert APIConfig.from_env(environ).access.allowed_origins
    for odd in ("*", "https://*.example.org", "pages.example.org", "https://a.example/", "null"):
        with pytest.raises(ConfigError, match="no path, no pattern"):
            APIConfig.from_env({"DSA110_CORS_ORIGINS": odd})


# --- logs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> io.StringIO:
    """What is logged at DEBUG, by a process that knows its secrets; the root logger is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    request.addfinalizer(lambda: (setattr(root, "handlers", handlers), root.setLevel(level)))
    text = io.StringIO()
    logs.setup("test", "DEBUG", text, secrets=[CANARY, "pw"])
    return text


@pytest.mark.parametrize(
    "event",
    [
        "plain {secret}",
        "postgresql://user:{quoted}@host/db is away",
        "redis://:{quoted}@host:6379/0 is away",
        '{{"password": "{secret}"}}',
        "password={quoted} host=db",
        "header X-API-Key: {key}",
        "Authorization: Bearer {key}",
        "Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
        "postgresql://user:unknownpassword1@host/db",
        "connect(password='unknownpassword1')",
    ],
)
def test_no_line_of_a_log_holds_a_secret(stream: io.StringIO, event: str) -> None:
    text = event.format(secret=CANARY, quoted="Canary-7fZ%21q%2F9%40x", key=KEY)
    log = logging.getLogger("test")
    log.info(text)
    log.info("argument: %s", text)
    log.info("given", extra={"address": text, "many": [text]})
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("failed")
    said = stream.getvalue()
    for secret in (CANARY, "Canary", KEY[-43:], "eyJhbGci", "unknownpassword1"):
        assert secret not in said
    lines = [json.loads(line) for line in said.splitlines()]
    assert len(lines) == 4
    assert all("***" in json.dumps(line) for line in lines)


def test_ordinary_words_are_left_alone(stream: io.StringIO) -> None:
    told = "GET /api/v1/images 200: the password is wrong; token 7; http://host:80/a@b; pw; user@host"
    logging.getLogger("test").info(told)
    assert json.loads(stream.getvalue())["message"] == told


def test_settings_know_their_secrets() -> None:
    config = APIConfig.from_env(
        {"DSA110_API_KEYS": KEY, "REDIS_URL": "redis://:Xy7q2m9z@h/0", "DSA110_DB_PG_PASSWORD": "Zq8x1k3v"}
    )
    assert set(config.secrets()) == {KEY, "Xy7q2m9z", "Zq8x1k3v"}
    assert not re.search("Xy7q2m9z|Zq8x1k3v", str(config.describe()))
    assert APIConfig.from_env({"DSA110_DB_PG_URL": "postgresql://h/d?password=Zq8x1k3v&a=b"}).secrets() == ["Zq8x1k3v"]


@pytest.mark.parametrize("password", ["Xy7://q2m9z", "Xy7://[q2m9z"])
def test_a_password_that_looks_like_an_address_is_a_secret_as_a_whole(password: str) -> None:
    config = APIConfig.from_env({"DSA110_DB_PG_PASSWORD": password})
    assert config.secrets() == [password]
    assert password not in str(config.describe())
