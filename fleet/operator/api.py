"""The fleet manager's API as a client sees it: JSON there and back, and each error as one line with an exit code."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

EXIT_REFUSED = 1  # the server understood and said no, or what was asked for failed
EXIT_UNREACHABLE = 3  # nobody answers, or not now
EXIT_FORBIDDEN = 4  # no valid token, or its role is too low
PATIENCE_S = 10.0
PAGE = 100
_LATER = (429, 502, 503, 504)
_MOST_ERROR_CHARS = 1_000


def under(path: str, *parts: str) -> str:
    """The path of something below `path`, whatever characters its name has."""
    return "/".join((path, *(quote(part, safe="") for part in parts)))


class ApiError(Exception):
    """What went wrong, in one line for the user, and the command's exit code."""

    def __init__(self, message: str, code: int, status: int = 0, body: Any = None) -> None:
        super().__init__(message)
        self.code, self.status, self.body = code, status, body


class Api:
    """One server; every method raises ApiError. To be used in a `with` block."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    @property
    def url(self) -> str:
        """Where the server is."""
        return str(self._http.base_url).rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """The answer's JSON; parameters that are None are left out."""
        return self.ask("GET", path, params=params)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: dict[str, Any] | None = None,
        patience_s: float = PATIENCE_S,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """The answer's JSON, None for an empty one."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        timeout = httpx.Timeout(patience_s, connect=PATIENCE_S)
        try:
            answer = self._http.request(method, path, json=body, params=given, timeout=timeout, headers=headers)
        except httpx.TimeoutException:
            raise ApiError(f"{self.url}: no answer within {patience_s:g} s", EXIT_UNREACHABLE) from None
        except (httpx.HTTPError, OSError) as error:
            raise ApiError(f"{self.url}: {_reason(error)}", EXIT_UNREACHABLE) from None
        return self._body(answer)

    def all_nodes(self, **params: Any) -> list[dict[str, Any]]:
        """Every node that fits, page by page."""
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            answer = self.get("/api/v1/fleet/nodes", page=page, limit=PAGE, **params)
            found += answer["nodes"]
            if page * PAGE >= answer["pagination"]["total"]:
                return found
            page += 1

    def follow(self, path: str, name: str, most: int, **params: Any) -> Iterator[dict[str, Any]]:
        """The first `most` items of a list with a cursor."""
        cursor = None
        while most > 0:
            answer = self.get(path, cursor=cursor, limit=min(most, 1_000), **params)
            yield from answer[name]
            most, cursor = most - len(answer[name]), answer["next_cursor"]
            if cursor is None:
                return

    def _body(self, answer: httpx.Response) -> Any:
        try:
            body = answer.json() if answer.content else None
        except ValueError:
            body = None
        if answer.is_success and (body is not None or not answer.content):
            return body
        raise ApiError(_message(self.url, answer, body), _exit_code(answer.status_code), answer.status_code, body)


def _message(url: str, answer: httpx.Response, body: Any) -> str:
    """The problem's own sentence; of an answer that is none of ours, what it is."""
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return " ".join(body["message"].split())[:_MOST_ERROR_CHARS]
    if answer.is_success:
        return f"{url} answers, but not as a fleet manager does"
    return f"{url} answers {answer.status_code} {answer.reason_phrase}, and not as a fleet manager does"


def _exit_code(status: int) -> int:
    if status in (401, 403):
        return EXIT_FORBIDDEN
    return EXIT_UNREACHABLE if status in _LATER or 200 <= status < 300 else EXIT_REFUSED


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError) and "refused" in str(error).lower():
        return "nobody answers there (connection refused); is the server running?"
    return str(error) or type(error).__name__
