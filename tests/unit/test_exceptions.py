"""The tree of errors, and the body that each becomes."""

import inspect
import json
from collections.abc import Iterator

import pytest

from dsa110_contimg.api import exceptions
from dsa110_contimg.api.exceptions import DSA110APIError, RecordNotFoundError, ValidationError

EVERY_ERROR = [
    DSA110APIError("x"),
    ValidationError("x"),
    exceptions.InvalidPathError("/etc", "it is outside"),
    exceptions.InvalidRecordError("x"),
    exceptions.AccessDeniedError("x"),
    RecordNotFoundError("Image", "7"),
    exceptions.FileNotAccessibleError("/data/a.fits"),
    exceptions.RecordAlreadyExistsError("x"),
    exceptions.PreconditionFailedError("x"),
    exceptions.ProcessingError("x"),
    exceptions.FITSParsingError("x"),
    exceptions.MSParsingError("x"),
    exceptions.ExternalServiceError("Redis", "refused"),
    exceptions.DatabaseError("x"),
    exceptions.DatabaseQueryError("x"),
    exceptions.DatabaseTransactionError("x"),
    exceptions.DatabaseConnectionError("x", "a.sqlite3"),
    exceptions.DatabaseBusyError("x"),
    exceptions.DatabaseSchemaError("x"),
]


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: type(error).__name__)
def test_every_error_becomes_the_one_body(error: DSA110APIError) -> None:
    body = json.loads(json.dumps(error.to_body("ref-1", "0123456789ab")))
    assert set(body) == {
        "error", "message", "details", "code", "http_status", "user_message", "action", "ref_id", "trace_id",
        "doc_anchor",
    }  # fmt: skip
    assert body["message"] == body["user_message"] == error.message
    assert body["http_status"] == error.status_code
    assert (body["ref_id"], body["trace_id"]) == ("ref-1", "0123456789ab")
    assert body["action"]
    assert {key: body[key] for key in ("error", "message", "details")} == error.to_dict()


WHOLE = "/srv/telescope/secret-place/products.sqlite3"
FILLING = {"message": f"Cannot use {WHOLE}: no", "path": WHOLE, "database": WHOLE, "cause": f"no such socket {WHOLE}"}


def kinds(above: type[DSA110APIError] = DSA110APIError) -> Iterator[type[DSA110APIError]]:
    """Give every class of the tree that is told of a path, but those that are told one by the client itself."""
    told = {"path", "database"} & set(inspect.signature(above.__init__).parameters)
    if told and above is not exceptions.InvalidPathError:
        yield above
    for below in above.__subclasses__():
        yield from kinds(below)


@pytest.mark.parametrize("kind", sorted(kinds(), key=lambda kind: kind.__name__))
def test_no_error_tells_a_client_the_directory_of_a_path_and_each_tells_it_the_log(kind: type[DSA110APIError]) -> None:
    wanted = inspect.signature(kind.__init__).parameters
    error = kind(**{name: value for name, value in FILLING.items() if name in wanted})
    body = json.dumps(error.to_body("ref-1"))
    assert "products.sqlite3" in body
    assert "telescope" not in body
    assert WHOLE in str(error)


def test_a_file_beneath_a_root_is_told_as_it_lies_there() -> None:
    error = exceptions.FileNotAccessibleError("/srv/data/ms/x.ms", "open", "it is gone", "ms/x.ms")
    assert error.to_dict() == {
        "error": "FILE_NOT_ACCESSIBLE",
        "message": "Cannot open ms/x.ms: it is gone",
        "details": {"path": "ms/x.ms", "operation": "open"},
    }
    assert str(error) == "Cannot open /srv/data/ms/x.ms: it is gone"


@pytest.mark.parametrize(
    ("database", "told"),
    [
        ("postgresql://u:***@db.host:5432/products", "products"),
        ("postgresql:///products?host=/run/pg", "products"),
        ("postgresql://u@db.host:5432", "of this service"),
    ],
)
def test_of_an_address_only_the_name_of_the_database_is_told(database: str, told: str) -> None:
    error = exceptions.DatabaseConnectionError(f"The products database {database} is gone", database, "no /run/pg/x")
    assert error.to_dict()["message"] == f"The products database {told} is gone"
    assert error.to_dict()["details"] == {"database": told}
    assert str(error) == f"The products database {database} is gone (no /run/pg/x)"


def test_codes_are_unique_and_stand_in_the_tree_of_the_docstring() -> None:
    classes = [found for found in vars(exceptions).values() if isinstance(found, type)]
    errors = [found for found in classes if issubclass(found, DSA110APIError)]
    codes = {found.error_code: found for found in errors}
    assert len(codes) == len(errors)
    for code, found in codes.items():
        assert any(
            found.__name__ in line and f"{found.status_code} {code}" in line
            for line in (exceptions.__doc__ or "").splitlines()
        ), f"{found.__name__} ({found.status_code} {code}) is not drawn"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("Image", "IMAGE_NOT_FOUND"),
        ("MeasurementSet", "MS_NOT_FOUND"),
        ("Source", "SOURCE_NOT_FOUND"),
        ("Job", "NOT_FOUND"),
    ],
)
def test_what_is_not_found_is_named(kind: str, code: str) -> None:
    error = RecordNotFoundError(kind, "7")
    assert (error.status_code, error.error_code, error.code) == (404, "NOT_FOUND", code)
    assert error.to_dict() == {
        "error": "NOT_FOUND",
        "message": f"{kind} not found: 7",
        "details": {"entity_type": kind, "identifier": "7"},
    }
    assert error.doc_anchor == (code.lower() if code != "NOT_FOUND" else None)


def test_a_validation_error_names_field_and_value_when_it_knows_them() -> None:
    assert ValidationError("bad date").to_dict()["details"] == {}
    assert ValidationError("bad", "limit", 0).to_dict()["details"] == {"field": "limit", "value": 0}
    assert (ValidationError("bad").status_code, ValidationError("bad").error_code) == (400, "VALIDATION_ERROR")


def test_the_base_error_is_an_internal_one() -> None:
    assert (DSA110APIError().status_code, DSA110APIError().error_code) == (500, "INTERNAL_ERROR")
    assert DSA110APIError().to_dict()["message"] == "An unexpected error occurred"
