"""Commands over the API: asked for once, stored before they are answered for, waited on until the node has answered."""

import asyncio
from collections.abc import Mapping
from typing import Any

from fleet.host.runtime import Runtime

ENDED = ("acknowledged", "failed", "expired")


class CommandDesk:
    """Wakes the requests that wait for a command when an event says that it has come to its end."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._closed = False
        runtime.events.listeners.append(self._on_event)

    async def wait(self, command_id: str, timeout_ms: int) -> dict[str, Any]:
        """The command once it has ended, or as it is after `timeout_ms` of core time."""
        view = self._runtime.core.command_view(command_id)
        if view["state"] not in ENDED and timeout_ms > 0 and not self._closed:
            await self._woken(command_id, self._runtime.clock.wall_s(timeout_ms))
        return dict(self._runtime.core.command_view(command_id))

    def close(self) -> None:
        """Lets every waiting request answer with what is known: the server is about to stop."""
        self._closed = True
        for command_id in list(self._waiting):
            self._wake(command_id)

    async def _woken(self, command_id: str, wall_s: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(command_id, []).append(woken)
        await asyncio.wait([woken], timeout=wall_s)
        rest = self._waiting.get(command_id, [])
        if woken in rest:
            rest.remove(woken)
        if not rest:
            self._waiting.pop(command_id, None)

    def _on_event(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind.startswith("command.") and kind.removeprefix("command.") in ENDED:
            self._wake(str(fields.get("id")))

    def _wake(self, command_id: str) -> None:
        for woken in self._waiting.pop(command_id, []):
            if not woken.done():
                woken.set_result(None)
