"""PostgreSQL's errors, and asyncpg's, in our words; an address never carries its password."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from dsa110_contimg.api.exceptions import (
    DatabaseBusyError,
    DatabaseConnectionError,
    DatabaseFullError,
    DatabaseQueryError,
    DatabaseSchemaError,
    DSA110APIError,
    InvalidRecordError,
    RecordAlreadyExistsError,
)

UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InternalClientError,  # what a call can meet when the server cuts its connection at that very moment
)
BUSY = (
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
FOREIGN = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError)


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else "no answer in time"


def translate(error: Exception, name: str) -> DSA110APIError:
    """Return our error for one of the driver's; ``name`` is the address without password."""
    reason = _reason(error)
    if isinstance(error, asyncpg.ClientConfigurationError):
        return DatabaseConnectionError(f"The address of the products database {name} cannot be used", name, reason)
    if isinstance(error, FOREIGN):
        return DatabaseSchemaError(
            f"The products database {name} is not of this version ({reason}); make its tables with `dsa110 db upgrade`",
            name,
        )
    if isinstance(error, asyncpg.DiskFullError):
        return DatabaseFullError(f"There is no space for the products database {name}: {reason}; free some", name)
    if isinstance(error, asyncpg.UniqueViolationError):
        return RecordAlreadyExistsError(f"The record exists already: {reason}")
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return InvalidRecordError(f"The products database refuses the record: {reason}")
    if isinstance(error, BUSY):
        return DatabaseBusyError(f"The products database {name} did not finish a statement in time: {reason}", name)
    gone = "clos" in reason or "released" in reason  # the driver says that only in words
    if gone or isinstance(error, UNREACHABLE):
        return DatabaseConnectionError(
            f"The products database {name} cannot be reached; check that the server runs and that DSA110_DB_PG_* are "
            "right",
            name,
            reason,
        )
    return DatabaseQueryError(f"The products database refuses a statement: {reason}", name)


@contextmanager
def in_our_words(name: str) -> Iterator[None]:
    """Raise the driver's errors in our words."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
        raise translate(error, name) from error
