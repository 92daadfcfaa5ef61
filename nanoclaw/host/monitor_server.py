"""A small HTTP server for a local port: GET one of a few paths, one answer, and the connection is closed.

h11 speaks HTTP here, because a gateway has no room for a web framework. Requests are bounded in size and time, and so
are the connections at one time.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

import h11

from firmware.hosting.lifecycle import CannotRun

MOST_CONNECTIONS = 16
MOST_REQUEST_BYTES = 8192
PATIENCE_S = 5.0


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    content_type: str
    body: bytes


_NOT_FOUND = Answer(404, "text/plain; charset=utf-8", b"there is /healthz, /metrics and /status\n")
_ONLY_GET = Answer(405, "text/plain; charset=utf-8", b"GET only\n")
_MALFORMED = Answer(400, "text/plain; charset=utf-8", b"not a request that this server understands\n")


class MonitorServer:
    """Answers `GET path` with what `answers[path]()` gives."""

    def __init__(self, host: str, port: int, answers: Mapping[str, Callable[[], Answer]]) -> None:
        self.port = port
        self._host = host
        self._answers = answers
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen; raises `CannotRun` when the port is taken."""
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self.port, limit=MOST_REQUEST_BYTES)
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno else str(error)  # asyncio's own text is longer
            raise CannotRun(f"monitor: port {self.port} on {self._host}: {reason}") from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port, and every connection that is still open."""
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if len(self._open) <= MOST_CONNECTIONS:
                async with asyncio.timeout(PATIENCE_S):
                    await self._converse(reader, writer)
        except (OSError, TimeoutError):
            pass  # whoever asked has gone, or says nothing
        finally:
            self._open.discard(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_REQUEST_BYTES)
        try:
            while (event := http.next_event()) is h11.NEED_DATA:
                http.receive_data(await reader.read(4096))
        except h11.RemoteProtocolError:
            answer, head = _MALFORMED, False
        else:
            if not isinstance(event, h11.Request):
                return  # closed without a word
            answer, head = self._answer(event), event.method == b"HEAD"
        if http.our_state in (h11.IDLE, h11.SEND_RESPONSE, h11.SWITCHED_PROTOCOL):
            writer.write(_encoded(http, answer, head))
            await writer.drain()

    def _answer(self, request: h11.Request) -> Answer:
        if request.method not in (b"GET", b"HEAD"):
            return _ONLY_GET
        path = request.target.partition(b"?")[0].decode("latin-1")
        found = self._answers.get(path)
        return found() if found else _NOT_FOUND


def _encoded(http: h11.Connection, answer: Answer, head: bool) -> bytes:
    headers = [
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
    ]
    begin = http.send(h11.Response(status_code=answer.status, headers=headers)) or b""
    body = b"" if head else http.send(h11.Data(data=answer.body)) or b""
    return begin + body + (http.send(h11.EndOfMessage()) or b"")
