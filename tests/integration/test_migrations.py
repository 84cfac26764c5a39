"""Migrations on both databases: what they make is what tables.py describes."""

import asyncio
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from dsa110_contimg.api.async_repositories import AsyncImageRepository, AsyncProductRecorder, AsyncSchemaRepository
from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters import DatabaseBackend
from dsa110_contimg.api.exceptions import DatabaseBusyError, DatabaseConnectionError, DatabaseSchemaError
from dsa110_contimg.api.migrations import migrator
from dsa110_contimg.api.migrations.comparison import CONTEXT_OPTIONS
from dsa110_contimg.api.migrations.migrator import Migrator, directory_lock, upgrade
from dsa110_contimg.api.tables import SCHEMA_REVISION, metadata
from fixtures.observation import IMAGE_PATH, WHOLE

NEXT_REVISION = f"{int(SCHEMA_REVISION) + 1:04d}"
MIGRATE = Path(__file__).resolve().parents[2] / "scripts" / "ops" / "migrate.py"


@pytest.fixture
def config(unmigrated: DatabaseConfig) -> DatabaseConfig:
    """A database of each kind that was never migrated."""
    return unmigrated


def differences(config: DatabaseConfig) -> list[object]:
    """Return what differs between a database and tables.py."""

    def compare(connection: Connection) -> list[object]:
        options = {key: value for key, value in CONTEXT_OPTIONS.items() if key.startswith("compare")}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    return Migrator(config).inspect(compare)


def test_the_migrated_tables_are_those_of_the_registry(config: DatabaseConfig) -> None:
    upgrade(config)
    assert differences(config) == []


def test_a_difference_would_be_seen(config: DatabaseConfig) -> None:
    upgrade(config)
    Migrator(config).inspect(lambda connection: connection.exec_driver_sql("ALTER TABLE images DROP COLUMN qa_metrics"))
    assert "qa_metrics" in str(differences(config))


def test_a_step_counts_as_a_write_of_every_table(config: DatabaseConfig) -> None:
    def numbers(connection: Connection) -> dict[str, int]:
        return {name: value for name, value in connection.exec_driver_sql("SELECT name, value FROM table_generations")}

    upgrade(config)
    before = Migrator(config).inspect(numbers)
    Migrator(config).downgrade("0013")
    after = Migrator(config).inspect(numbers)
    assert "images" in before
    assert [name for name, number in before.items() if after[name] == number] == []


def test_the_newest_revision_is_the_one_that_the_tables_name(config: DatabaseConfig) -> None:
    assert Migrator(config).heads() == [SCHEMA_REVISION]


@pytest.fixture
def copied(config: DatabaseConfig, tmp_path: Path) -> Migrator:
    """A migrator of revisions that a test may add to."""
    directory = tmp_path / "100% migrations"
    shutil.copytree(Path(migrator.__file__).parent, directory)
    return Migrator(config, directory=directory)


def test_a_new_migration_holds_what_differs(copied: Migrator) -> None:
    copied.upgrade()
    copied.inspect(lambda connection: connection.exec_driver_sql("ALTER TABLE images DROP COLUMN qa_summary"))
    made = copied.create("Bring back the summary", autogenerate=True)
    assert made.name == f"{NEXT_REVISION}_bring_back_the_summary.py"
    assert "sa.Column('qa_summary', sa.Text(), nullable=True)" in made.read_text()
    copied.upgrade()
    assert copied.status() == copied.heads()[0] == NEXT_REVISION
    assert copied.create("Nothing differs now", autogenerate=True).read_text().count("pass") == 2


def test_a_new_migration_is_empty_unless_told_otherwise(copied: Migrator) -> None:
    made = copied.create("By hand")
    assert made.read_text().count("pass") == 2
    copied.upgrade()
    assert copied.status() == NEXT_REVISION
    copied.downgrade()
    assert copied.status() == SCHEMA_REVISION


def test_a_migration_that_fails_leaves_the_database_where_it_was(copied: Migrator) -> None:
    made = copied.create("Broken")
    broken = "op.drop_table('photometry')\n    op.drop_table('no_such_table')"
    made.write_text(made.read_text().replace("pass", broken, 1))
    with pytest.raises(DatabaseSchemaError, match="no_such_table"):
        copied.upgrade()
    assert copied.status() is None
    copied.upgrade(SCHEMA_REVISION)
    with pytest.raises(DatabaseSchemaError, match="no_such_table"):
        copied.upgrade()
    assert copied.status() == SCHEMA_REVISION
    copied.inspect(lambda connection: connection.exec_driver_sql("SELECT count(*) FROM photometry"))


def test_up_and_down_and_up_again_ends_where_it_began(config: DatabaseConfig) -> None:
    both_ways = Migrator(config)
    both_ways.upgrade()
    assert both_ways.status() == SCHEMA_REVISION
    both_ways.downgrade("base")
    assert both_ways.status() is None
    both_ways.upgrade()
    assert differences(config) == []


def test_failed_versions_of_images_count_as_such_in_a_database_that_was_there_before(config: DatabaseConfig) -> None:
    """Revision 0007 made the trigger, when there was no such stage."""
    Migrator(config).upgrade("0009")
    columns = "run_id, group_id, ms_path, created_at, params, status, error"
    runs = f"INSERT INTO jobs ({columns}) VALUES ('{{0}}', '', '', 1, '{{{{}}}}', 'failed', '{{1}}')"
    counted = "SELECT n FROM event_counts WHERE name = 'ms_processed' AND second_label = 'reimaged'"
    on_table = " ON jobs" if config.backend == "postgresql" else ""

    def as_before(connection: Connection) -> None:
        connection.exec_driver_sql(f"DROP TRIGGER jobs_insert_events{on_table}")
        connection.exec_driver_sql(runs.format("before", "reimaging: no"))

    def now(connection: Connection) -> int:
        connection.exec_driver_sql(runs.format("now", "reimaging: no"))
        return connection.exec_driver_sql(counted).scalar_one()

    Migrator(config).inspect(as_before)
    upgrade(config)
    assert Migrator(config).inspect(now) == 1


def test_the_id_of_a_deleted_image_is_never_given_again_and_what_hangs_on_images_stays(config: DatabaseConfig) -> None:
    """Revision 0013 makes the table of images anew on SQLite."""
    Migrator(config).upgrade("0012")
    add = "INSERT INTO images (path, ms_path, created_at, type) VALUES ('{0}', '/a.ms', 1, '5min')"

    def before(connection: Connection) -> None:
        connection.exec_driver_sql(
            "INSERT INTO ms_index (path, start_mjd, end_mjd, mid_mjd, created_at, processed_at, status, stage)"
            " VALUES ('/a.ms', 1, 1, 1, 1, 1, 'done', 'imaged')"
        )
        for name in ("/1.fits", "/2.fits"):
            connection.exec_driver_sql(add.format(name))
        connection.exec_driver_sql(
            "INSERT INTO image_ratings (image_id, rater, rating, rated_at) SELECT max(id), 'me', 5, 1 FROM images"
        )

    def after(connection: Connection) -> tuple[list[int], int, int]:
        ratings = connection.exec_driver_sql("SELECT count(*) FROM image_ratings").scalar_one()
        connection.exec_driver_sql("DELETE FROM images WHERE path = '/2.fits'")
        connection.exec_driver_sql(add.format("/3.fits"))
        ids = connection.exec_driver_sql("SELECT id FROM images ORDER BY id").scalars().all()
        counted = "SELECT n FROM table_counts WHERE name = 'images' AND bucket = '5min'"
        return list(ids), ratings, connection.exec_driver_sql(counted).scalar_one()

    Migrator(config).inspect(before)
    upgrade(config)
    assert Migrator(config).inspect(after) == ([1, 3], 1, 2)


def test_an_upgrade_of_a_current_database_changes_nothing(config: DatabaseConfig) -> None:
    async def record() -> None:
        async with open_database(config) as adapter:
            await AsyncProductRecorder(adapter).record(WHOLE)

    async def look() -> bool:
        async with open_database(config) as adapter:
            return await AsyncImageRepository(adapter).get_by_path(IMAGE_PATH) is not None

    upgrade(config)
    asyncio.run(record())
    upgrade(config)
    assert asyncio.run(look())


def test_migrators_at_once_wait_for_each_other(config: DatabaseConfig) -> None:
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(upgrade, config) for _ in range(4)]:
            done.result(timeout=60)
    assert differences(config) == []


def test_an_unknown_revision_is_refused_with_those_that_are_known(config: DatabaseConfig) -> None:
    with pytest.raises(DatabaseSchemaError, match=f"0042.*known revisions are.*{SCHEMA_REVISION}"):
        Migrator(config).upgrade("0042")
    assert Migrator(config).status() is None


async def test_a_database_that_was_never_migrated_says_so(config: DatabaseConfig) -> None:
    if config.backend == DatabaseBackend.SQLITE:
        config.products_path.parent.mkdir()
        config.products_path.touch()
    async with open_database(config) as adapter:
        assert await AsyncSchemaRepository(adapter).get_revision() is None
        with pytest.raises(DatabaseSchemaError, match="dsa110 db upgrade"):
            await AsyncSchemaRepository(adapter).require_current()
        with pytest.raises(DatabaseSchemaError, match="dsa110 db upgrade"):
            await AsyncImageRepository(adapter).list_all()


def test_the_status_of_a_file_that_is_not_there_names_it_and_makes_none(tmp_path: Path) -> None:
    missing = tmp_path / "products.sqlite3"
    with pytest.raises(DatabaseConnectionError, match=str(missing)):
        Migrator(DatabaseConfig(products_path=missing)).status()
    assert not missing.exists()


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "products.sqlite3"
    path.write_text("this is a text, and a long one, but no database\n" * 100)
    before = path.read_bytes()
    with pytest.raises(DatabaseConnectionError, match="is not an SQLite database"):
        upgrade(DatabaseConfig(products_path=path))
    assert path.read_bytes() == before


def test_the_migrated_file_keeps_its_log_beside_it(tmp_path: Path) -> None:
    config = DatabaseConfig(products_path=tmp_path / "products.sqlite3")
    upgrade(config)
    mode = Migrator(config).inspect(lambda connection: connection.exec_driver_sql("PRAGMA journal_mode").scalar())
    assert mode == "wal"


def test_a_migrator_that_waits_too_long_says_for_what(tmp_path: Path) -> None:
    config = DatabaseConfig(products_path=tmp_path / "products.sqlite3")
    with directory_lock(tmp_path, 1.0), pytest.raises(DatabaseBusyError, match="Another migration"):
        upgrade(config, TimeoutConfig(db_connection=0.2))


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    config = DatabaseConfig(backend="postgresql", pg_url="postgresql://u:hunter2@127.0.0.1:1/products")
    with pytest.raises(DatabaseConnectionError, match=r"u:\*\*\*@127\.0\.0\.1:1/products") as caught:
        upgrade(config, TimeoutConfig(db_connection=5.0))
    assert "hunter2" not in str(caught.value)


# --- the command --------------------------------------------------------------------------------------------------


def migrate(directory: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run the script in a directory that is not the checkout."""
    environ = {"PATH": os.environ["PATH"], "DSA110_STATE_DIR": str(directory / "state")}
    return subprocess.run(
        [sys.executable, str(MIGRATE), *words], cwd=directory, env=environ, capture_output=True, text=True, timeout=60
    )


@pytest.mark.slow
def test_the_script_works_from_any_directory(tmp_path: Path) -> None:
    refused = migrate(tmp_path, "status")
    assert refused.returncode == 1
    assert "There is no products database at" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert migrate(tmp_path, "upgrade").returncode == 0
    status = migrate(tmp_path, "status")
    assert (status.returncode, status.stderr) == (0, "")
    assert SCHEMA_REVISION in status.stdout
    assert migrate(tmp_path, "heads").stdout == f"{SCHEMA_REVISION}\n"
    assert "0001_products.py" in migrate(tmp_path, "history", "-v").stdout


@pytest.mark.slow
def test_the_script_goes_back_only_when_told_to(tmp_path: Path) -> None:
    assert migrate(tmp_path, "upgrade").returncode == 0
    assert migrate(tmp_path, "downgrade").returncode == 1  # nobody there to answer
    assert SCHEMA_REVISION in migrate(tmp_path, "status").stdout
    assert migrate(tmp_path, "downgrade", "-1", "-f").returncode == 0
    assert f"{int(SCHEMA_REVISION) - 1:04d}" in migrate(tmp_path, "status").stdout
    assert migrate(tmp_path, "downgrade", "base", "-f").returncode == 0
    assert "never migrated" in migrate(tmp_path, "status").stdout
