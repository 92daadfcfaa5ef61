"""One attempt to reach a broker as a daemon would, to see whether it lets it in."""

import asyncio
from collections.abc import Sequence

from firmware.hosting.mqtt import Login, MqttPort


async def refused_because(
    login: Login,
    topics: Sequence[str],
    target: str,
    patience_s: float,
    bind_address: str = "",
    interface: str = "",
) -> str | None:
    """Why a connection to `target` with a subscription to `topics` failed; None when it did not."""
    visitor = _Visitor()
    port = MqttPort("hub", login, topics, visitor, target=target, bind_address=bind_address, interface=interface)
    try:
        port.connect()
        async with asyncio.timeout(patience_s):
            up = await visitor.answered
    except TimeoutError:
        return f"no answer within {patience_s:g} s"
    finally:
        await port.close()
    return None if up else port.last_failure or "it does not let us in"


class _Visitor:
    """Whom a port tells how its one attempt went."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def link_up(self, port: str) -> None:
        self._answer(True)

    def link_down(self, port: str) -> None:
        self._answer(False)

    def receive(self, port: str, topic: str, payload: bytes) -> None:
        """What it says is nobody's business here."""

    def congested(self) -> bool:
        return False

    def _answer(self, up: bool) -> None:
        if not self.answered.done():
            self.answered.set_result(up)
