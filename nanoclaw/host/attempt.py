"""One attempt to reach the hub as the gateway would, to see whether it lets it in."""

import asyncio

from firmware.hosting.mqtt import Login, MqttPort
from firmware.wire.auth import mqtt_password
from nanoclaw.host.config import GatewaySettings, Way

PATIENCE_S = 10.0


def refused_because(settings: GatewaySettings, way: Way) -> str | None:
    """Why a connection over this line failed; None when it did not."""
    return asyncio.run(_attempt(settings, way))


async def _attempt(settings: GatewaySettings, way: Way) -> str | None:
    core = settings.core
    login = Login(core.id, tls=settings.tls) if settings.uplink_tls else Login(core.id, mqtt_password(core.key))
    visitor = _Visitor()
    port = MqttPort(
        way.name,
        login,
        [f"clawland/{core.id}/heartbeat/ack"],
        visitor,
        target=way.target,
        bind_address=way.bind_address,
        interface=way.interface,
    )
    try:
        port.connect()
        async with asyncio.timeout(PATIENCE_S):
            up = await visitor.answered
    except TimeoutError:
        return f"no answer within {PATIENCE_S:g} s"
    finally:
        await port.close()
    return None if up else port.last_failure


class _Visitor:
    """Whom a port tells how its one attempt went."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def link_up(self, port: str) -> None:
        self._answer(True)

    def link_down(self, port: str) -> None:
        self._answer(False)

    def receive(self, port: str, topic: str, payload: bytes) -> None: ...

    def congested(self) -> bool:
        return False

    def _answer(self, up: bool) -> None:
        if not self.answered.done():
            self.answered.set_result(up)
