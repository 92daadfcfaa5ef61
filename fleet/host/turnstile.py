"""What every request of the API passes: who calls, whether they call too often, and a line in the audit log.

It stands around the routes, so that none of them can forget it.
"""

import math
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.host.limits import Limits, Rates
from fleet.host.problems import Problem, unavailable
from fleet.host.stage import Stage
from fleet.host.storage import StorageError
from fleet.host.tokens import Caller, TokenError

FREE = ("/healthz", "/readyz", "/metrics")  # probes must see a server that is busy, too
READS = ("GET", "HEAD", "OPTIONS")
# What a machine does all day is data, not a deed.
ROUTINE = ("/api/v1/fleet/heartbeat", "/api/v1/fleet/events", "/api/v1/fleet/command", "/api/v1/fleet/command/ack")


class Turnstile:
    """An ASGI middleware; leaves `caller` and `refusal` in the request's state."""

    def __init__(self, app: ASGIApp, stage: Stage, rates: Rates) -> None:
        self._app, self._stage, self._rates = app, stage, rates
        self._limits = Limits(time.monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in FREE:
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state |= {"caller": None, "refusal": None, "address": _address(scope), "who": None, "about": None}
        try:
            await self._up_to_date()
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        self._identify(scope, state)
        wait_s = self._take(scope, state)
        if wait_s:
            await _too_often(wait_s).response()(scope, receive, send)
            return
        await self._pass_on(scope, receive, send, state)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, state: dict[str, Any]) -> None:
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._note(scope, state, status)

    async def _up_to_date(self) -> None:
        """Raises Problem while what is remembered of tokens, or of anything else, may not be true any more."""
        if not self._stage.is_open:
            raise Problem(503, "unavailable", "the server is not ready; try again", headers={"Retry-After": "1"})
        try:
            await self._stage.runtime.current()
        except StorageError as error:
            raise unavailable(str(error)) from None

    def _identify(self, scope: Scope, state: dict[str, Any]) -> None:
        kind, _, token = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1").partition(" ")
        if kind.lower() != "bearer" or not token:
            return
        token = token.strip()
        if token.startswith("reg_"):  # a registration token is no JWT: whoever wants one looks at it
            state["registration"] = token
            return
        try:
            caller = self._stage.keys.verify(token)
            self._stage.accounts.check(caller)
            state["caller"] = caller
        except TokenError as error:
            state["refusal"] = str(error)

    def _take(self, scope: Scope, state: dict[str, Any]) -> float:
        caller: Caller | None = state["caller"]
        if caller is not None:
            return self._limits.take(f"{caller.role} {caller.name}", self._rates.caller)
        if scope["path"] == "/api/v1/auth/login":
            return self._limits.take(f"login {state['address']}", self._rates.login)
        return self._limits.take(f"at {state['address']}", self._rates.address)

    def _note(self, scope: Scope, state: dict[str, Any], status: int) -> None:
        """A deed of somebody known, or a failed attempt to become somebody."""
        caller: Caller | None = state["caller"]
        who = caller.name if caller else state["who"]
        if scope["method"] in READS or who is None or scope["path"] in ROUTINE or not self._stage.runtime.leads:
            return  # a deed that the leader carries out is in its log
        route = str(getattr(scope.get("route"), "path", "unmatched"))
        doc = {"path": scope["path"][:200], "address": state["address"]}
        if state["about"] is not None:
            doc["about"] = state["about"]
        row = {"utc_ms": self._stage.runtime.clock.utc_ms(), "who": who[:200], "role": caller.role if caller else None}
        row |= {"method": scope["method"][:32], "route": route[:200], "status": status, "doc": doc}
        self._stage.runtime.writer.submit([("append", "audit", row)], None)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _too_often(wait_s: float) -> Problem:
    seconds = math.ceil(wait_s)
    message = f"too many requests; come back in {seconds} s"
    return Problem(429, "too_many_requests", message, headers={"Retry-After": str(seconds)})
