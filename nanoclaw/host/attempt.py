"""One attempt to reach the hub as the gateway would, to see whether it lets it in."""

import asyncio

from firmware.hosting import attempt
from firmware.hosting.mqtt import Login
from firmware.wire.auth import mqtt_password
from nanoclaw.host.config import GatewaySettings
from nanoclaw.host.lines_config import Way

PATIENCE_S = 10.0


def refused_because(settings: GatewaySettings, way: Way) -> str | None:
    """Why a connection over this line failed; None when it did not."""
    core = settings.core
    login = Login(core.id, tls=settings.tls) if settings.uplink_tls else Login(core.id, mqtt_password(core.key))
    topics = [f"clawland/{core.id}/heartbeat/ack"]
    return asyncio.run(attempt.refused_because(login, topics, way.target, PATIENCE_S, way.bind_address, way.interface))
