"""Errors of the API as RFC 9457 problem details, which also carry `error` and `message` for older clients."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from firmware.hosting.pump import HostError

LOG = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2


class Problem(Exception):
    """An answer other than success: `error` is a fixed word for programs, `message` a sentence for people."""

    def __init__(
        self,
        status: int,
        error: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(message)
        self.status, self.error, self.message = status, error, message
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> Response:
        """As bytes; `type` is about:blank, so `title` is the phrase of the status (RFC 9457 section 4.2.1)."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.message,
            "error": self.error,
            "message": self.message,
            **self.members,
        }
        return Response(orjson.dumps(body), self.status, self.headers, MEDIA_TYPE)


def unavailable(reason: str) -> Problem:
    """The database fails at the moment: come back later."""
    message = f"the database is not available at the moment: {reason}"
    return Problem(503, "unavailable", message, headers={"Retry-After": str(RETRY_AFTER_S)})


def unauthorized(message: str) -> Problem:
    """No token, or none that is accepted (RFC 6750 section 3)."""
    return Problem(401, "unauthorized", message, headers={"WWW-Authenticate": 'Bearer realm="clawland"'})


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem, also those of the framework and of bugs."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(HostError, _on_stopping)
    app.add_exception_handler(Exception, _on_bug)


async def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for nothing else
    return error.response()


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    errors = [_said(found) for found in error.errors()]
    message = "; ".join(f"{each['where']}: {each['message']}" for each in errors[:5])
    return Problem(400, "invalid", message, errors=errors[:20]).response()


ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,31}$"
_WORDS = {"missing": "is needed", "extra_forbidden": "is not known here"}
_PATTERNS = {ID_PATTERN: "expected an id, 1 to 32 of a-z, 0-9 and '-', not '-' first"}


def _said(found: Mapping[str, Any]) -> dict[str, str]:
    """One mistake of a request in a person's words, where the framework's are a programmer's."""
    kind, context, location = str(found["type"]), found.get("ctx") or {}, tuple(found["loc"])
    if kind == "json_invalid":
        at = f" at character {location[-1] + 1}" if isinstance(location[-1], int) else ""
        return {"where": "body", "message": f"not JSON{at}: {context.get('error', found['msg'])}"}
    message = _WORDS.get(kind) or _PATTERNS.get(str(context.get("pattern"))) or str(found["msg"])
    return {"where": _place(location), "message": message.removeprefix("Value error, ")}


def _place(location: tuple[int | str, ...]) -> str:
    """`query.limit` or `body.params.0`, as a caller would name it."""
    return ".".join(str(part) for part in location)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == 405:
        message = f"{request.method} is not for this URL"
        return Problem(405, "method_not_allowed", message, headers=_allowed(request)).response()
    phrase = HTTPStatus(error.status_code).phrase
    word = "invalid" if error.status_code == 400 else phrase.lower().replace(" ", "_")
    said = str(error.detail)
    if error.status_code == 404 and said == phrase:
        said = "there is nothing at this URL; /docs lists what there is"
    return Problem(error.status_code, word, said, headers=error.headers).response()


def _allowed(request: Request) -> dict[str, str]:
    """All methods of the URL: several routes may share it, each with one of them (RFC 9110 section 10.2.1)."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return {"Allow": ", ".join(sorted(methods))}


async def _on_stopping(_request: Request, error: Exception) -> Response:
    """The request came to a core that takes nothing more: the server stops, or another one leads from now on."""
    return Problem(503, "unavailable", str(error), headers={"Retry-After": str(RETRY_AFTER_S)}).response()


async def _on_bug(request: Request, error: Exception) -> Response:
    LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Problem(500, "internal", "the server failed to answer; its log says why").response()
