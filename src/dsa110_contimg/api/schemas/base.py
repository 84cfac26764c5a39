"""The base of all replies, the one error body, and the words that several nouns share."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

QAGrade = Literal["good", "warn", "fail"]
RunStatus = Literal["pending", "running", "completed", "failed"]
Health = Literal["healthy", "degraded"]


class Reply(BaseModel):
    """Base of all replies: a key that is not documented is an error (of ours; a test finds it).

    Replies are only described: what would check them is not built until somebody asks for the description.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)


class ErrorBody(Reply):
    """The one error body."""

    error: str = Field(description="code for programs, such as NOT_FOUND")
    message: str = Field(description="the thing, the value and the remedy")
    details: dict[str, Any]
    code: str = Field(description="code for the web client, such as IMAGE_NOT_FOUND")
    http_status: int
    user_message: str
    action: str = Field(description="what to do")
    ref_id: str = Field(description="id of the request, as in X-Request-ID")
    trace_id: str = Field(pattern="^[0-9a-f]{12}$")
    doc_anchor: str | None
    retry_after: int | None = Field(default=None, description="seconds until the next try (429)")
    detail: Any = Field(
        default=None,
        description="as the framework gives it; an object of queue and services",
    )
