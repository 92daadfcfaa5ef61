"""Answers as bytes: orjson, without a second validation of what the server itself made."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

MEDIA_TYPE = "application/json"


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`body` as a JSON response."""
    return Response(orjson.dumps(body), status, dict(headers or {}), MEDIA_TYPE)


def documented(description: str, example: Any) -> dict[str, Any]:
    """An entry of a route's `responses`: what the answer is, with an example."""
    return {"description": description, "content": {MEDIA_TYPE: {"example": example}}}


def done(status: int, description: str, example: Any) -> dict[int | str, dict[str, Any]]:
    """A route's `responses` with the one for success."""
    return {status: documented(description, example)}


def problem_docs(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    """Entries of a route's `responses` for problems: `_404="there is no such node"`."""
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {"application/problem+json": {"schema": schema}}
    return {int(status[1:]): {"description": text, "content": content} for status, text in descriptions.items()}


# What any route of the API may answer.
DENIED = {
    "_400": "something is missing or wrong",
    "_401": "no valid token",
    "_403": "the token's role is too low, or it is for somebody else",
    "_413": "the body is too long",
    "_429": "too many requests; Retry-After says when to come back",
    "_503": "the database is not available; Retry-After says when to come back",
}

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem details; `error` is a fixed word for programs, `message` a sentence for people.",
    "required": ["type", "title", "status", "detail", "error", "message"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error": {"type": "string"},
        "message": {"type": "string"},
    },
}
