"""The conversation with the cloud: dialling, heartbeats and their answers, going offline and coming back.

`nanoclaw.core.uplink` says when; this does it.
"""

from typing import TYPE_CHECKING

from firmware.wire.outputs import Connect, Disconnect
from firmware.wire.rules import CAPABILITIES
from fleet.wire import uplink
from fleet.wire.uplink import Message, Rejected
from nanoclaw.core.uplink import CONNECTING, OFFLINE, ONLINE, UP

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore


class Cloud:
    """Acts on what the uplink's clock and the cloud's answers say."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core

    def link_down(self, now_ms: int) -> None:
        """An attempt failed, or the connection is gone."""
        link = self._core.uplink
        link.down(now_ms)
        if link.mode == ONLINE:
            self._go_offline("connection lost", now_ms)

    def on_answer(self, message: Message, now_ms: int) -> None:
        """The cloud answers a heartbeat. Raises Rejected."""
        core = self._core
        link = core.uplink
        if uplink.count_of(message, "n") > link.heartbeats or link.connection != UP:
            raise Rejected("answers a heartbeat that was never sent")
        offline_ms = now_ms - link.offline_since_ms
        if link.answered(now_ms):
            core.event("gateway.online", {"offline_ms": offline_ms})
            core.forwarder.start(now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Notice silence, send the heartbeat, dial."""
        core = self._core
        link = core.uplink
        if link.mode != OFFLINE and now_ms >= link.silent_ms():
            self._go_offline("heartbeat timeout", now_ms)
        if link.connection == UP:
            if link.heartbeat_due_ms is not None and now_ms >= link.heartbeat_due_ms:
                self._send_heartbeat(now_ms)
        elif now_ms >= link.connect_due_ms:
            if link.connection == CONNECTING:
                core.emit(Disconnect("hub"))
                link.down(now_ms)
            else:
                link.dial(now_ms)
                core.emit(Connect("hub", None))

    def _send_heartbeat(self, now_ms: int) -> None:
        core = self._core
        n = core.uplink.beat(now_ms)
        health: Message = {"v": uplink.VERSION, "n": n, "boot": core.boot, "uptime_ms": now_ms - core.start_ms}
        health |= {"fleet": core.config.fleet_id, "site": core.config.site, "role": core.config.role}
        health |= core.status() | {"config_hash": core.configuration.hash, "capabilities": list(CAPABILITIES)}
        core.send_hub("heartbeat", uplink.encode(health))

    def _go_offline(self, reason: str, now_ms: int) -> None:
        core = self._core
        link = core.uplink
        silent_ms = now_ms - link.answered_ms
        link.lost(now_ms)
        if link.connection == UP:
            core.emit(Disconnect("hub"))
            link.down(now_ms)
        core.outbox.ground()
        core.forwarder.stop()
        core.event("gateway.offline", {"reason": reason, "silent_ms": silent_ms})
        core.decisions.take_over(now_ms)
