"""`GET /api/v1/events/stream`: server-sent events."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, problem_docs
from fleet.host.problems import Problem
from fleet.host.stage import Stage
from fleet.host.stream import MOST_READERS, TooManyReaders
from fleet.host.tokens import Caller, TokenError

STUCK_S = 30.0  # a reader that takes nothing for so long is cut off
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "events until the reader goes", "content": {"text/event-stream": {}}}
}


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The one route."""
    routes = APIRouter(prefix="/api/v1/events", tags=["events"])

    @routes.get(
        "/stream",
        summary="Everything that changes, as server-sent events",
        response_class=_EventResponse,
        responses=_STREAM | problem_docs(**DENIED),
    )
    async def stream(
        caller: Annotated[Caller, Depends(doors.needs("viewer"))],
        kind: Annotated[
            list[Annotated[str, Query(max_length=64)]],
            Query(max_length=20, description="only kinds that begin so, as in `alert.`; may be given several times"),
        ] = [],  # noqa: B006 - FastAPI copies it
        last_event_id: Annotated[
            str | None, Header(alias="Last-Event-ID", max_length=64, description="go on after this event")
        ] = None,
    ) -> Response:
        try:
            events = stage.stream.read(last_event_id, kind)
        except TooManyReaders:
            message = f"{MOST_READERS} readers follow the events already"
            raise Problem(503, "too_many_readers", message, headers={"Retry-After": "10"}) from None
        return _EventResponse(_while_allowed(stage, caller, events), headers={"Cache-Control": "no-store"})

    return routes


async def _while_allowed(stage: Stage, caller: Caller, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream ends with the token that it was opened with."""
    async for chunk in events:
        yield chunk
        try:
            stage.accounts.check(caller)
        except TokenError:
            return
        if time.time() >= caller.expires_s:
            return


class _EventResponse(StreamingResponse):
    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def timely(message: Message) -> None:
            async with asyncio.timeout(STUCK_S):
                await send(message)

        with contextlib.suppress(ClientDisconnect):  # so it is called, whoever gave up; the server closes what is left
            await super().__call__(scope, receive, timely)
