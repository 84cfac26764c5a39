"""Statements as values: built once with SQLAlchemy Core, compiled once per database, kept.

A :class:`Query` is one statement with its parameters and the reading of its rows. What needs more than one statement
is a generator that yields queries and is sent their results (``Steps``). ``database.py`` executes it, so that it is
written once for both databases, awaited or blocking.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import Integer, TypeDecorator, TypeEngine

from dsa110_contimg.api.db_adapters.backend import DatabaseBackend, Row
from dsa110_contimg.api.exceptions import ValidationError

T = TypeVar("T")
Encode = Callable[[Any], Any]

LARGEST_INTEGER = 2**63 - 1
REQUIRED = object()

DIALECTS: Mapping[DatabaseBackend, Dialect] = {
    DatabaseBackend.SQLITE: sqlite.dialect(paramstyle="qmark"),
    DatabaseBackend.POSTGRESQL: asyncpg_dialect(),  # type: ignore[no-untyped-call]
}
INSERTS: Mapping[DatabaseBackend, Callable[..., Any]] = {
    DatabaseBackend.SQLITE: sqlite.insert,
    DatabaseBackend.POSTGRESQL: postgresql.insert,
}


def _text(value: Any) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise ValidationError("a text must not hold the NUL character", value=value)
    return value


def _integer(value: Any) -> Any:
    if value is not None and abs(value) > LARGEST_INTEGER:
        raise ValidationError(f"{value} is too large: a whole number must fit in 64 bits", value=str(value))
    return value


def _encoder(kind: TypeEngine[Any]) -> Encode:
    """Return what makes a value of a column type fit for both drivers."""
    if isinstance(kind, TypeDecorator):
        own = kind.process_bind_param
        return lambda value: _text(own(value, None))  # type: ignore[arg-type]
    return _integer if isinstance(kind, Integer) else _text


@dataclass(frozen=True, slots=True)
class CompiledText:
    """The text of a statement in one dialect, and how its parameters are arranged.

    ``places`` has one entry per parameter: its name, its encoder, and the value that the statement itself gives it
    (``REQUIRED`` where the query must give it).
    """

    sql: str
    places: tuple[tuple[str, Encode, Any], ...]

    def arrange(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the driver's parameters, in order."""
        return tuple(encode(params[name] if fixed is REQUIRED else fixed) for name, encode, fixed in self.places)


def compile_text(statement: ClauseElement, backend: DatabaseBackend) -> CompiledText:
    """Compile a statement for a database."""
    compiled = statement.compile(dialect=DIALECTS[backend])
    if not isinstance(compiled, SQLCompiler):
        raise TypeError(f"{statement} is no query")
    binds = [(name, compiled.binds[name]) for name in compiled.positiontup or ()]
    places = tuple(
        (name, _encoder(bind.type), REQUIRED if bind.required else bind.effective_value) for name, bind in binds
    )
    return CompiledText(str(compiled), places)


class Statement:
    """One statement for both databases.

    Parameters
    ----------
    build : ClauseElement or callable
        The statement, or, where the dialects spell it with different classes (upserts), a function of the dialect's
        ``insert`` that returns it.
    """

    def __init__(self, build: ClauseElement | Callable[[Callable[..., Any]], ClauseElement]) -> None:
        self._build = build
        self._texts: dict[DatabaseBackend, CompiledText] = {}

    def text(self, backend: DatabaseBackend) -> CompiledText:
        """Return its text for a database, compiled when first asked."""
        found = self._texts.get(backend)
        if found is None:
            built = self._build if isinstance(self._build, ClauseElement) else self._build(INSERTS[backend])
            found = self._texts[backend] = compile_text(built, backend)
        return found


def _nothing(rows: Sequence[Row]) -> Any:
    return None


@dataclass(frozen=True, slots=True)
class Query:
    """One statement to execute.

    One that is ``prompt`` is answered by an index from a few pages: some hundred rows at most, whatever the number of
    all. With ``many``, the statement is executed once for each of its members, and there is no result. The result of a
    query is what ``decode`` makes of its rows.
    """

    statement: Statement
    params: Mapping[str, Any] = field(default_factory=dict)
    decode: Callable[[Sequence[Row]], Any] = _nothing
    many: Sequence[Mapping[str, Any]] | None = None
    prompt: bool = False


Steps = Generator[Query, Any, T]
"""What yields queries, is sent their results, and returns a T."""
