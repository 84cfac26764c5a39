"""What the API can answer when it cannot answer as asked: one tree, one body.

::

    DSA110APIError                        500 INTERNAL_ERROR
    ├── ValidationError                   400 VALIDATION_ERROR
    │   ├── InvalidPathError              400 INVALID_PATH
    │   └── InvalidRecordError            400 INVALID_RECORD
    ├── AuthenticationError               401 UNAUTHORIZED
    ├── AccessDeniedError                 403 FORBIDDEN
    ├── RecordNotFoundError               404 NOT_FOUND
    ├── FileNotAccessibleError            404 FILE_NOT_ACCESSIBLE
    ├── RecordAlreadyExistsError          409 RECORD_ALREADY_EXISTS
    ├── InvalidStateError                 409 INVALID_STATE
    ├── PreconditionFailedError           412 PRECONDITION_FAILED           changed since the client read it
    ├── ProcessingError                   500 PROCESSING_ERROR
    │   ├── FITSParsingError              422 FITS_PARSING_ERROR            the file, not we, is broken
    │   └── MSParsingError                422 MS_PARSING_ERROR
    ├── ExternalServiceError              502 EXTERNAL_SERVICE_ERROR
    ├── ServiceUnavailableError           503 SERVICE_UNAVAILABLE           a part of us that is down or switched off
    │   └── QueueDisabledError            503 ABSURD_DISABLED
    └── DatabaseError                     500 DATABASE_ERROR
        ├── DatabaseQueryError            500 DATABASE_QUERY_ERROR
        ├── DatabaseTransactionError      500 DATABASE_TRANSACTION_ERROR
        ├── DatabaseConnectionError       503 DATABASE_CONNECTION_ERROR   not there, refused, unreadable, wrong password
        ├── DatabaseReadOnlyError         409 DATABASE_READ_ONLY          of the earlier pipeline, never written
        ├── DatabaseFullError             507 STORAGE_FULL                no space on its disk
        ├── DatabaseBusyError             503 DATABASE_BUSY               there, but somebody else holds it too long
        └── DatabaseSchemaError           503 DATABASE_SCHEMA_ERROR       there, but never migrated to our tables

``error`` is the code of the class. ``code`` is the finer code that the web client of the earlier backend knows (an
image that is not found is ``IMAGE_NOT_FOUND``), and ``doc_anchor`` the help text that belongs to it.

``message`` is for clients: it names no directory of this host. ``str(error)`` is for the log and for operators at a
terminal: it names the whole path.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")


class DSA110APIError(Exception):
    """Base of every error that the API answers with.

    Parameters
    ----------
    message : str
        What went wrong: the thing, the value, the remedy; as clients are told it.
    details : mapping, optional
        The same as data; values must be JSON-able.
    log_text : str, optional
        The same for the log, where it says what clients need not know.
    """

    status_code: int = 500
    error_code: str = "INTERNAL_ERROR"
    action: str = "Try again; if it happens again, tell the operators the reference id."
    doc_anchor: str | None = None
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self,
        message: str = "An unexpected error occurred",
        details: Mapping[str, Any] | None = None,
        log_text: str | None = None,
    ) -> None:
        super().__init__(log_text or message)
        self.message = message
        self.details = dict(details or {})

    @property
    def code(self) -> str:
        """Code by which the web client chooses its text."""
        return self.error_code

    def to_dict(self) -> dict[str, Any]:
        """Return the core of the error's body: code, message, details."""
        return {"error": self.error_code, "message": self.message, "details": self.details}

    def to_body(self, ref_id: str = "", trace_id: str = "") -> dict[str, Any]:
        """Return the whole body of the answer: the union of what all existing clients read.

        Parameters
        ----------
        ref_id : str
            Id of the request, as in its ``X-Request-ID`` header and in the log.
        trace_id : str
            12 hexadecimal digits that join the log lines of one cause.
        """
        return {
            **self.to_dict(),
            "code": self.code,
            "http_status": self.status_code,
            "user_message": self.message,
            "action": self.action,
            "ref_id": ref_id,
            "trace_id": trace_id,
            "doc_anchor": self.doc_anchor,
        }


class ValidationError(DSA110APIError):
    """A parameter or body that cannot be used."""

    status_code = 400
    error_code = "VALIDATION_ERROR"
    action = "Correct the named value and send the request again."
    doc_anchor = "validation_failed"

    def __init__(self, message: str, field: str | None = None, value: Any = None) -> None:
        given = {"field": field, "value": value}
        super().__init__(message, {key: item for key, item in given.items() if item is not None})


class InvalidPathError(ValidationError):
    """A path that is no path, or leads out of the data directories."""

    error_code = "INVALID_PATH"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"The path {path!r} cannot be used: {reason}")
        self.details = {"path": path, "reason": reason}


class InvalidRecordError(ValidationError):
    """A record that the database refuses: a missing value, or a reference to something that is not there.

    The same record is refused again: a stage that made it is not tried a second time.
    """

    error_code = "INVALID_RECORD"
    retryable = False


class AuthenticationError(DSA110APIError):
    """The request changes something and carries no valid key."""

    status_code = 401
    error_code = "UNAUTHORIZED"
    headers = MappingProxyType({"WWW-Authenticate": 'ApiKey realm="DSA-110 API"'})
    action = "Send a key as `X-API-Key: ...` or `Authorization: Bearer ...`; `dsa110 keys create` makes one."


class AccessDeniedError(DSA110APIError):
    """The key is right, and does not have the scope that this needs."""

    status_code = 403
    error_code = "FORBIDDEN"
    action = "Ask the operators for a key that has the scope: `dsa110 keys create NAME --scope ...`."


class RecordNotFoundError(DSA110APIError):
    """Nothing is known under this id."""

    status_code = 404
    error_code = "NOT_FOUND"
    action = "Check the id against the list of what there is."

    _CODES: ClassVar = {"Image": "IMAGE_NOT_FOUND", "MeasurementSet": "MS_NOT_FOUND", "Source": "SOURCE_NOT_FOUND"}

    def __init__(self, entity_type: str, identifier: str) -> None:
        super().__init__(
            f"{entity_type} not found: {identifier}", {"entity_type": entity_type, "identifier": identifier}
        )
        self.entity_type = entity_type

    @property
    def code(self) -> str:
        """``IMAGE_NOT_FOUND``, ``MS_NOT_FOUND``, ``SOURCE_NOT_FOUND`` or ``NOT_FOUND``."""
        return self._CODES.get(self.entity_type, self.error_code)

    @property
    def doc_anchor(self) -> str | None:  # type: ignore[override]
        """Help text of the kinds that have one."""
        return self._CODES[self.entity_type].lower() if self.entity_type in self._CODES else None


def required(record: T | None, entity_type: str, identifier: str) -> T:
    """Return a record that was looked for.

    Raises
    ------
    RecordNotFoundError
        There is none.
    """
    if record is None:
        raise RecordNotFoundError(entity_type, identifier)
    return record


class FileNotAccessibleError(DSA110APIError):
    """A product that the database knows, but whose file cannot be read.

    Parameters
    ----------
    path : str
        The whole path; only the log gets it.
    operation : str
        What was to be done with it.
    reason : str
        Why that is not possible.
    shown : str, optional
        What clients are told of the path: what is below the data directory, or else the name of the file.
    """

    status_code = 404
    error_code = "FILE_NOT_ACCESSIBLE"
    action = "The product may have been archived or deleted; make it again, or ask the operators."

    def __init__(
        self,
        path: str,
        operation: str = "read",
        reason: str = "it does not exist or is not a file",
        shown: str | None = None,
    ) -> None:
        told = PurePosixPath(path).name if shown is None else shown
        super().__init__(
            f"Cannot {operation} {told}: {reason}",
            {"path": told, "operation": operation},
            f"Cannot {operation} {path}: {reason}",
        )


class RecordAlreadyExistsError(DSA110APIError):
    """Something else is already known under this id."""

    status_code = 409
    error_code = "RECORD_ALREADY_EXISTS"
    action = "Use another id, or change the existing record."


class InvalidStateError(DSA110APIError):
    """The thing is there, but in a state in which this cannot be done to it."""

    status_code = 409
    error_code = "INVALID_STATE"
    action = "Look at its present state."


class PreconditionFailedError(DSA110APIError):
    """Somebody else has changed what the client wants to change."""

    status_code = 412
    error_code = "PRECONDITION_FAILED"
    action = "Read it again, and send the change with its present ETag."


class ProcessingError(DSA110APIError):
    """A file was there, but nothing could be made of it."""

    error_code = "PROCESSING_ERROR"


class FITSParsingError(ProcessingError):
    """A FITS file that cannot be understood."""

    status_code = 422
    error_code = "FITS_PARSING_ERROR"
    action = "Ask for what the image holds; if its file is damaged, make the image again."


class MSParsingError(ProcessingError):
    """A Measurement Set or a calibration table that cannot be understood."""

    status_code = 422
    error_code = "MS_PARSING_ERROR"
    action = "If its tables are damaged, make it again: convert the observation, or solve the table."


class ExternalServiceError(DSA110APIError):
    """Another service did not do its part."""

    status_code = 502
    error_code = "EXTERNAL_SERVICE_ERROR"

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(f"{service}: {reason}", {"service": service})


class ServiceUnavailableError(DSA110APIError):
    """A part of the service is down; the rest goes on."""

    status_code = 503
    error_code = "SERVICE_UNAVAILABLE"
    action = "Try again in a moment; the operators see the reason in the log."

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(f"{service}: {reason}", {"service": service})


class QueueDisabledError(ServiceUnavailableError):
    """The durable task queue is switched off."""

    error_code = "ABSURD_DISABLED"
    action = "Ask the operators to set ABSURD_ENABLED=true and ABSURD_DATABASE_URL."

    def __init__(self) -> None:
        super().__init__("ABSURD", "the task queue is not enabled")


class DatabaseError(DSA110APIError):
    """Base of what the products database can refuse.

    Parameters
    ----------
    message : str
        What went wrong; clients are told it with the name alone where it says ``database``.
    database : str, optional
        File or address of the database, without password.
    cause : str
        What the driver said, where it may name addresses and sockets: for the log.
    """

    error_code = "DATABASE_ERROR"

    def __init__(self, message: str, database: str | None = None, cause: str = "") -> None:
        whole = f"{message} ({cause})" if cause else message
        if database is None:
            super().__init__(message, log_text=whole)
            return
        name = PurePosixPath(urlsplit(database).path).name or "of this service"
        super().__init__(message.replace(database, name), {"database": name}, whole)


class DatabaseQueryError(DatabaseError):
    """A statement that the database does not execute."""

    error_code = "DATABASE_QUERY_ERROR"


class DatabaseTransactionError(DatabaseError):
    """A transaction that could not be carried out as asked."""

    error_code = "DATABASE_TRANSACTION_ERROR"


class DatabaseConnectionError(DatabaseError):
    """The database cannot be reached or opened."""

    status_code = 503
    error_code = "DATABASE_CONNECTION_ERROR"
    action = "Try again in a moment; the operators see the reason in the log."
    doc_anchor = "db_unavailable"

    @property
    def code(self) -> str:
        """The web client's name for it."""
        return "PRODUCTS_DB_UNAVAILABLE"


class DatabaseReadOnlyError(DatabaseError):
    """The database is one of the earlier pipeline: it is served, and never changed.

    Parameters
    ----------
    database : str
        The file.
    """

    status_code = 409
    error_code = "DATABASE_READ_ONLY"
    action = "Ask the operators for a database of this version: `dsa110 db upgrade` makes one at PRODUCTS_DB_PATH."

    def __init__(self, database: str) -> None:
        super().__init__(
            f"The products database {database} was made by the earlier pipeline and is only read; to change something, "
            "set PRODUCTS_DB_PATH to a new file and make it with `dsa110 db upgrade`",
            database,
        )


class DatabaseFullError(DatabaseError):
    """The disk of the database has no space left; what is there can still be read."""

    status_code = 507
    error_code = "STORAGE_FULL"
    action = "Ask the operators to free some space, then send the request again."


class DatabaseBusyError(DatabaseError):
    """Somebody else held the database, a row of it or its last connection for too long."""

    status_code = 503
    error_code = "DATABASE_BUSY"
    action = "Try again in a moment."


class DatabaseSchemaError(DatabaseError):
    """The database has not the tables and columns of this version."""

    status_code = 503
    error_code = "DATABASE_SCHEMA_ERROR"
    action = "Ask the operators to run `dsa110 db upgrade`."
