"""What every request passes first: the limit on bodies, and the count of what came and how long it took."""

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.host.problems import Problem

MAX_BODY_BYTES = 1024 * 1024

# method, route (a template, so that labels stay few), status, seconds
Observe = Callable[[str, str, int, float], None]


class TooLarge(Exception):
    """The body is longer than `MAX_BODY_BYTES`."""


class Gate:
    """An ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, observe: Observe, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._app, self._observe, self._max_body_bytes = app, observe, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun_s, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._pass_on(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._observe(scope["method"], route, status, time.perf_counter() - begun_s)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = b"" if scope["method"] in ("GET", "HEAD") else await self._body(scope, receive)
        except TooLarge:
            message = f"a request's body is at most {self._max_body_bytes} bytes"
            await Problem(413, "too_large", message, headers={"Connection": "close"}).response()(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._max_body_bytes:
            raise TooLarge
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._max_body_bytes:
                raise TooLarge
            if not message.get("more_body", False):
                return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once, then whatever the server says (that the caller went away)."""
    given = False

    async def once() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once
