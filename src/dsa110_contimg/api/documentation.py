"""The description of the API (OpenAPI) and the pages that show it.

The framework describes routes and models. Here is added what it cannot know: meaning and unit of each field, from the
column registry (``tables.py``), and of each parameter; an example of each; what every status means; by what a list may
be sorted; that ``fields`` leaves out keys. The pages
are Swagger UI and ReDoc with scripts of this server, so that they work without the net.
"""

import asyncio
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from dsa110_contimg.api import schemas
from dsa110_contimg.api.middleware.bases import BASE
from dsa110_contimg.api.middleware.error_body import error_body
from dsa110_contimg.api.queries import batches, calibration, images, jobs, measurement_sets, sources
from dsa110_contimg.api.queries.listing import ListQuery
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.request_error import RequestError
from dsa110_contimg.api.tables import metadata

Spec = dict[str, Any]

_PAGES = Path(__file__).parent.parent / "web" / "docs"
_EVERYWHERE = (400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 429, 431, 500, 503)
_BEFORE_HTTP = (400, 431)  # also answered, in words, to what is no HTTP request or has too long a first line
_OF_CHANGES = (409, 507)
_TELLS = {
    400: ("VALIDATION_ERROR", "A value that cannot be used, or a query parameter that is not known"),
    401: ("UNAUTHORIZED", "No key, or one that is not valid"),
    403: ("FORBIDDEN", "The address or the key may not do this"),
    404: ("NOT_FOUND", "Nothing is known under this id, or the file is gone"),
    405: ("METHOD_NOT_ALLOWED", "The path does not know this method"),
    408: ("BODY_TOO_SLOW", "The body did not come in time"),
    409: ("INVALID_STATE", "Not possible in the present state, or the database is one of the earlier pipeline"),
    412: ("PRECONDITION_FAILED", "Changed since the version that If-Match names"),
    413: ("PAYLOAD_TOO_LARGE", "The body is larger than the settings allow"),
    415: ("UNSUPPORTED_MEDIA_TYPE", "The body is no JSON, or was compressed"),
    416: ("RANGE_NOT_SATISFIABLE", "The file ends before the range begins"),
    421: ("UNKNOWN_HOST", "The server is not called so"),
    422: ("VALIDATION_ERROR", "A parameter or body of a wrong type or out of bounds"),
    429: ("RATE_LIMITED", "Too many requests; Retry-After tells when to come again"),
    431: ("HEADERS_TOO_LARGE", "The headers are larger than the settings allow"),
    500: ("INTERNAL_ERROR", "Unforeseen; the reference id is in the log"),
    503: ("SERVICE_UNAVAILABLE", "A part of the service is down or busy; Retry-After tells when to come again"),
    507: ("STORAGE_FULL", "The disk is full"),
}
_TAGS = {
    "images": "Images, their files, pictures and verdicts",
    "sources": "Sources of the sky, their light curves and variability",
    "jobs": "Runs of the pipeline",
    "measurement sets": "Measurement Sets: converted observations",
    "calibration": "Calibration tables",
    "quality": "Verdicts on images, observations, runs and sources",
    "logs": "Logs of runs",
    "job queue": "The RQ job queue, for work whose loss costs a click",
    "task queue": "The durable task queue, for work whose loss costs science",
    "stats": "How much there is of everything",
    "batches": "Many items of one kind of work, counted together",
    "cache": "The cache of replies",
    "services": "What the service depends on, and how it is",
    "health": "Does the process answer, can it serve, how are its parts",
}
_EXAMPLES_BY_NAME: Mapping[str, Any] = {
    "run_id": "job-2026-02-11-030405",
    "source_id": "J123456.7+420312",
    "group_id": "2026-02-11T03:04:05",
    "ms_path": "/data/products/ms/2026-02-11T03:04:05.ms",
    "ms_id": "2026-02-11T03:04:05",
    "image_path": "/data/products/images/2026-02-11T03:04:05.img-image-pb.fits",
    "image_id": "42",
    "qa_grade": "good",
    "stage": "imaged",
}
_EXAMPLES_BY_UNIT: Mapping[str, Any] = {
    "deg": 188.5, "arcsec": 31.25, "Jy / beam": 0.0125, "Jy": 0.0131, "mJy": 13.1, "d": 61082.15, "GHz": 1.405,
    "MHz": 187.5, "s": 309.0, "pix": 4800, "byte": 4194304,
}  # fmt: skip
#: Table whose columns a schema shows, by the beginning of its name; the first that fits counts.
_TABLES_OF_SCHEMAS = {
    "Image": "images", "Contributing": "images", "Source": "sources", "LightCurve": "photometry", "Job": "jobs",
    "MS": "ms_index", "MeasurementSet": "ms_index", "Cal": "caltables", "Batch": "batch_jobs", "Variability": "sources",
}  # fmt: skip
#: Lists with orders and conditions, by noun.
_LISTS = {
    "images": images.LIST, "sources": sources.LIST, "jobs": jobs.LIST, "ms": measurement_sets.LIST,
    "cal": calibration.LIST, "batches": batches.LIST,
}  # fmt: skip
_BOUNDS = {"min": "at least; ", "max": "at most; "}
#: Parameters that mean the same wherever they have no meaning of their own.
_PARAMETERS = {
    "image_id": "id of an image", "source_id": "id of a source", "run_id": "id of a run",
    "ms_id": "short id (its stamp) or percent-encoded path of a Measurement Set",
    "table_id": "short id or percent-encoded path of a calibration table", "batch_id": "id of a batch",
    "job_id": "id of a job", "task_id": "id of a task", "task_name": "name of a task, such as imaging",
    "workflow_id": "id of a workflow", "worker_id": "id of a worker", "queue_name": "name of a queue",
    "port": "where the service listens", "status": "state", "state": "state", "reason": "why it is a dead letter",
    "start_date": "begin, a date or date-time (UTC)", "end_date": "end, a date or date-time (UTC)",
    "older_than_days": "only what is older", "hours": "how far back", "resolution": "length of one step",
    "colormap": "colours of the brightness", "scale": "how brightness becomes colour", "beam": "draw the beam",
    "format": "of the file", "unit": "of width and height", "frames": "most pictures", "fps": "pictures a second",
    "width": "from east to west", "height": "from south to north", "x": "first column, from 0",
    "y": "first row, from 0", "xaxis": "what is across", "yaxis": "which part of the visibilities",
    "purpose": "what the regions are for", "delete_files": "delete its file too", "detailed": "ask all parts too",
    "limit": "most rows in the reply", "name": "its name",
}  # fmt: skip


# --- pages --------------------------------------------------------------------------------------------------------


async def interactive_page() -> Response:
    """Return the page on which every call can be tried."""
    return FileResponse(_PAGES / "index.html")


async def described(request: Request) -> Response:
    """Return the description; making it takes a moment, in which others are served."""
    spec = await asyncio.to_thread(request.app.openapi)
    return json_reply(spec, {"Cache-Control": "private, no-cache"})


async def reference_page() -> Response:
    """Return the page to be read."""
    return FileResponse(_PAGES / "reference.html")


def install(app: FastAPI) -> None:
    """Give an application its description and the pages that show it."""
    app.openapi = _describer(app)  # type: ignore[method-assign]
    app.mount("/api/docs/assets", StaticFiles(directory=_assets()))
    app.add_api_route("/api/openapi.json", described, include_in_schema=False)
    app.add_api_route("/api/docs", interactive_page, include_in_schema=False)
    app.add_api_route("/api/redoc", reference_page, include_in_schema=False)


def _assets() -> Path:
    found = importlib.util.find_spec("fastapi_offline")
    if found is None or found.origin is None:
        raise RuntimeError("fastapi-offline is not installed; it carries the scripts of the documentation pages")
    return Path(found.origin).parent / "static"


# --- description --------------------------------------------------------------------------------------------------


def _describer(app: FastAPI) -> Callable[[], Spec]:
    """Return what describes an application: once, as the framework fails where two do it at the same time."""
    one_at_a_time = Lock()

    def describe() -> Spec:
        with one_at_a_time:
            if app.openapi_schema is None:
                app.openapi_schema = description(app)
            return app.openapi_schema

    return describe


def description(app: FastAPI) -> Spec:
    """Return the OpenAPI description of an application."""
    spec = get_openapi(
        title=app.title,
        version=app.version,
        summary="Continuum images, sources and runs of the DSA-110 radio telescope",
        description="Times are ISO 8601 in UTC, or MJD (UTC); angles degrees (ICRS); null is a value not known.",
        license_info={"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        routes=app.routes,
    )
    used = {tag for _, operation in _operations(spec) for tag in operation.get("tags", ())}
    spec["tags"] = [{"name": tag, "description": _TAGS.get(tag, tag)} for tag in sorted(used)]
    spec["servers"] = [{"url": "/", "description": "this server"}]
    models = spec["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        models.pop(unused, None)
    models["ErrorBody"] = schemas.ErrorBody.model_json_schema()
    spec["components"]["responses"] = {f"Error{status}": _error_response(status) for status in _TELLS}
    for method, operation in _operations(spec):
        _complete(method, operation, models)
    for name, model in models.items():
        _tell_of_columns(name, model.get("properties", {}))
    for noun, known in _LISTS.items():
        _tell_of_conditions(spec["paths"][f"{BASE}/{noun}"]["get"], known, models)
    for _, operation in _operations(spec):
        for parameter in operation.get("parameters", ()):
            if "description" not in parameter:
                parameter["description"] = _PARAMETERS[parameter["name"]]
    return spec


def _operations(spec: Spec) -> Iterator[tuple[str, Spec]]:
    for calls in spec["paths"].values():
        yield from calls.items()


def _complete(method: str, operation: Spec, models: Spec) -> None:
    """Add to a call what every call may answer, and what `fields` does to its rows."""
    replies = operation["responses"]
    if method == "get":
        replies["304"] = {"description": "What If-None-Match names is still so"}
    changes = _OF_CHANGES if operation.get("security") else ()
    edits = (412,) if any(parameter["name"] == "if-match" for parameter in operation.get("parameters", ())) else ()
    ranges = (416,) if "416" in replies else ()
    for status in (*_EVERYWHERE, *changes, *edits, *ranges):
        replies[str(status)] = {"$ref": f"#/components/responses/Error{status}"}
    for status, reply in replies.items():
        if "$ref" not in reply and not reply.get("description"):
            reply["description"] = HTTPStatus(int(status)).phrase
    for body in operation.get("requestBody", {}).get("content", {}).values():
        body["schema"] = _without_null(body["schema"])
    for parameter in operation.get("parameters", ()):
        _exemplify(parameter["name"], parameter["schema"])
    if any(parameter["name"] == "fields" for parameter in operation.get("parameters", ())):
        rows = replies["200"]["content"]["application/json"]["schema"]
        rows["items"] = {"anyOf": [rows["items"], _part_of(rows["items"]["$ref"], models)]}


def _part_of(whole: str, models: Spec) -> Spec:
    """Add the model of a row of which `fields` names the keys, and return a reference to it."""
    name = whole.rpartition("/")[2]
    models[f"{name}Part"] = {
        "type": "object",
        "title": f"{name}Part",
        "description": "Only the keys that `fields` names.",
        "properties": models[name]["properties"],
    }
    return {"$ref": f"{whole}Part"}


def _without_null(schema: Spec) -> Spec:
    """Return the schema of a body that may be left out: generated clients trip over one that may be null instead."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else schema


def _error_response(status: int) -> Spec:
    code, meaning = _TELLS[status]
    example = error_body(RequestError(status, code, meaning), "0190b4c27f0e7cc0")
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}, "example": example}}
    if status in _BEFORE_HTTP:
        content["text/plain"] = {"schema": {"type": "string"}}
    return {"description": meaning, "content": content}


def _tell_of_columns(model: str, properties: Spec) -> None:
    """Add meaning, unit and an example to the fields of a model that are columns."""
    table = next((table for start, table in _TABLES_OF_SCHEMAS.items() if model.startswith(start)), None)
    columns: Any = metadata.tables[table].c if table else {}
    for name, field in properties.items():
        if name in columns:
            info = columns[name].info
            field.setdefault("description", _meaning(info, field))
            _exemplify(name, field, info["unit"])
        elif "$ref" not in field:
            _exemplify(name, field)


def _meaning(info: Mapping[str, Any], schema: Spec) -> str:
    """Return what the column registry says of a value of this schema, with its unit."""
    if any(each.get("type") == "string" for each in (schema, *schema.get("anyOf", ()))):
        return str(info["description"]).replace("Unix time", "ISO 8601")
    return f"{info['description']}{info['unit'] and ', '}{info['unit']}"


def _tell_of_conditions(operation: Spec, known: ListQuery, models: Spec) -> None:
    """Add to the parameters of a list what they ask for, and by what it may be sorted."""
    whole, _ = operation["responses"]["200"]["content"]["application/json"]["schema"]["items"]["anyOf"]
    fields = models[whole["$ref"].rpartition("/")[2]]["properties"]
    for parameter in operation["parameters"]:
        bound, _, rest = parameter["name"].partition("_")
        name = rest if bound in _BOUNDS else parameter["name"]
        if name == "sort":
            parameter["description"] += f"; one of {', '.join(known.orders)}; unless given {known.order}"
        elif "description" not in parameter:
            meaning = fields.get(name, {}).get("description") or _meaning(known.told_of(name), parameter["schema"])
            parameter["description"] = f"{_BOUNDS.get(bound, '')}{meaning}"


def _exemplify(name: str, schema: Spec, unit: str = "") -> None:
    """Add an example that fits the type; what lists its values needs none."""
    choices = (schema, *schema.get("anyOf", ()))
    if any("enum" in each or "const" in each for each in choices):
        return
    kinds = {each.get("type") for each in choices}
    example = _EXAMPLES_BY_NAME.get(name, _EXAMPLES_BY_UNIT.get(unit))
    if name.endswith("_at") and "string" in kinds:
        example = "2026-02-11T03:04:05Z"
    fits = {"string": str, "number": float, "integer": int}
    if any(kind in kinds and isinstance(example, made) for kind, made in fits.items()):
        schema.setdefault("examples", [example])
