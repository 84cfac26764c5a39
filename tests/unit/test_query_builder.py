"""Statements by name of table and column, executed where it matters."""

import sqlite3

import pytest

from dsa110_contimg.api.db_adapters import DatabaseBackend, QueryBuilder
from dsa110_contimg.api.exceptions import ValidationError

SQLITE, POSTGRESQL = QueryBuilder("sqlite"), QueryBuilder(DatabaseBackend.POSTGRESQL)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_placeholders_are_those_of_the_database() -> None:
    assert (SQLITE.placeholder(3), POSTGRESQL.placeholder(3)) == ("?", "$3")
    assert (SQLITE.placeholders(3), POSTGRESQL.placeholders(3)) == ("?, ?, ?", "$1, $2, $3")
    assert POSTGRESQL.placeholders(2, start=4) == "$4, $5"


def test_a_select_has_its_parts_in_order() -> None:
    text = POSTGRESQL.select("images", ["id", "path"], "type = $1", "created_at DESC, id", 10, 20)
    assert flat(text) == (
        "SELECT images.id, images.path FROM images WHERE type = $1 ORDER BY created_at DESC, id ASC LIMIT 10 OFFSET 20"
    )
    assert flat(SQLITE.select("images")) == "SELECT * FROM images"


def test_an_insert_can_return_a_column_on_both() -> None:
    assert flat(SQLITE.insert("t", ["a", "b"], "id")) == "INSERT INTO t (a, b) VALUES (?, ?) RETURNING id"
    assert flat(POSTGRESQL.insert("t", ["a", "b"], "id")) == "INSERT INTO t (a, b) VALUES ($1, $2) RETURNING id"
    assert "RETURNING" not in SQLITE.insert("t", ["a"])


def test_the_values_of_an_update_are_numbered_after_the_offset() -> None:
    assert flat(POSTGRESQL.update("t", ["a", "b"], "id = $3")) == "UPDATE t SET a=$1, b=$2 WHERE id = $3"
    text = POSTGRESQL.update("t", ["a", "b"], "id = $1", where_param_offset=1)
    assert flat(text) == "UPDATE t SET a=$2, b=$3 WHERE id = $1"


def test_what_is_named_like_a_keyword_is_quoted() -> None:
    assert '"order"' in SQLITE.select("t", ["order"])
    assert '"order"' in POSTGRESQL.select("t", ["order"])


@pytest.mark.parametrize("name", ["a; DROP TABLE t", "a b", "", '"a"', "a.b", "1a", "ü"])
def test_what_is_no_name_is_refused(name: str) -> None:
    for build in (
        lambda: SQLITE.select(name),
        lambda: SQLITE.select("t", [name]),
        lambda: SQLITE.select("t", order_by=f"{name} DESC"),
        lambda: SQLITE.insert("t", [name]),
        lambda: SQLITE.insert("t", ["a"], name),
        lambda: SQLITE.update("t", [name], "1 = 1"),
        lambda: SQLITE.upsert("t", ["a"], [name]),
        lambda: SQLITE.delete(name, "1 = 1"),
    ):
        if name:
            with pytest.raises(ValidationError):
                build()


@pytest.mark.parametrize("limit", [-1, "1; DROP TABLE t", 1.5])
def test_a_limit_must_be_a_count(limit: object) -> None:
    with pytest.raises(ValidationError, match="limit"):
        SQLITE.select("t", limit=limit)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="offset"):
        SQLITE.select("t", limit=1, offset=limit)  # type: ignore[arg-type]


def test_signs_inside_texts_stay_texts() -> None:
    text = SQLITE.select("t", ["a"], "a = 'what? :x 10:30 100%' AND b = ?")
    assert "'what? :x 10:30 100%' AND b = ?" in text
    assert "'$1 ::text'" in POSTGRESQL.delete("t", "a = '$1 ::text'")


def test_the_statements_do_what_they_say() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE, b INT)")
    one = connection.execute(SQLITE.insert("t", ["a", "b"], "id"), ("x", 1)).fetchone()
    assert one == (1,)
    connection.execute(SQLITE.upsert("t", ["a", "b"], ["a"]), ("x", 2))
    connection.execute(SQLITE.upsert("t", ["a", "b"], ["a"], []), ("x", 3))
    connection.execute(SQLITE.upsert("t", ["a", "b"], ["a"]), ("y", 5))
    assert connection.execute(SQLITE.select("t", ["a", "b"], order_by="b DESC")).fetchall() == [("y", 5), ("x", 2)]
    assert connection.execute(SQLITE.count("t")).fetchone() == (2,)
    assert connection.execute(SQLITE.count("t", "b > ?"), (2,)).fetchone() == (1,)
    assert connection.execute(SQLITE.exists("t", "a = ?"), ("y",)).fetchone() == (1,)
    assert connection.execute(SQLITE.exists("t", "a = ?"), ("z",)).fetchone() == (0,)
    connection.execute(SQLITE.update("t", ["b"], "a = ?"), (7, "x"))
    connection.execute(SQLITE.delete("t", "a = ?"), ("y",))
    assert connection.execute(SQLITE.select("t", ["a", "b"])).fetchall() == [("x", 7)]


def test_an_upsert_is_written_alike_for_both() -> None:
    text = flat(POSTGRESQL.upsert("t", ["a", "b"], ["a"]))
    assert text == "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = excluded.b"
