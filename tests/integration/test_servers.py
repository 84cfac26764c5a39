"""PostgreSQL and Redis out of wheels, really started."""

import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from dsa110_contimg.up.servers import EmbeddedPostgres, EmbeddedRedis, EmbeddedServer, ServerError


def ask(url: str, statement: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def modes(path: Path) -> dict[Path, int]:
    return {parent: parent.stat().st_mode for parent in path.parents}


def test_a_directory_deeper_than_a_socket_path_may_be_works_and_its_parents_keep_their_permissions(
    tmp_path: Path,
) -> None:
    deep = tmp_path.joinpath(*["a-directory-with-a-long-name-0123456789"] * 5)
    deep.mkdir(parents=True)
    deep.chmod(0o700)
    before = modes(deep / "postgres")
    with EmbeddedPostgres(deep / "postgres") as postgres, EmbeddedRedis(deep / "redis") as server:
        assert ask(postgres.url, "select 6 * 7") == 42
        assert redis.Redis.from_url(server.url).ping()
        assert modes(deep / "postgres") == before
        assert listening(postgres) == {"127.0.0.1"}
        assert listening(server) == {"127.0.0.1"}


def listening(server: EmbeddedServer) -> set[str]:
    connections = psutil.net_connections("inet")
    return {
        link.laddr.ip for link in connections if link.status == psutil.CONN_LISTEN and link.laddr.port == server.port
    }


def test_data_is_kept_between_runs_and_after_kill_9(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as postgres:
        ask(postgres.url, "create table kept (x int)")
        ask(postgres.url, "insert into kept values (1)")
    killed = EmbeddedPostgres(tmp_path / "postgres")
    killed.start()
    ask(killed.url, "insert into kept values (2)")
    assert killed._process is not None
    os.kill(killed._process.pid, signal.SIGKILL)
    killed.stop()
    with EmbeddedPostgres(tmp_path / "postgres") as again:
        assert ask(again.url, "select count(*) from kept") == 2


def test_redis_keeps_what_it_was_given_after_kill_9(tmp_path: Path) -> None:
    first = EmbeddedRedis(tmp_path)
    first.start()
    redis.Redis.from_url(first.url).set("kept", "yes")
    assert first._process is not None
    first._process.send_signal(signal.SIGKILL)
    first.stop()
    with EmbeddedRedis(tmp_path) as again:
        assert redis.Redis.from_url(again.url).get("kept") == b"yes"


def test_the_servers_refuse_who_has_no_password(postgres: EmbeddedPostgres, redis_server: EmbeddedRedis) -> None:
    stranger = postgres.url.replace(postgres.password, "guess")
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(stranger, "select 1")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=redis_server.port).get("anything")


def test_secrets_are_readable_by_their_owner_alone(postgres: EmbeddedPostgres, redis_server: EmbeddedRedis) -> None:
    for path in (postgres.home / "password", redis_server.home / "password", redis_server.home / "redis.conf"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_server_that_cannot_start_says_what_it_said(tmp_path: Path) -> None:
    sick = EmbeddedPostgres(tmp_path, settings={"shared_buffers": "nonsense"})
    sick.start_attempts = 1
    with pytest.raises(ServerError, match=r'PostgreSQL did not start.*invalid value for parameter "shared_buffers"'):
        sick.start()


def test_a_half_made_cluster_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(tmp_path) as postgres:
        assert ask(postgres.url, "select 1") == 1
