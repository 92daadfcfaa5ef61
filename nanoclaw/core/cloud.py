"""The conversation with the cloud: dialling, heartbeats and their answers, going offline and coming back.

`nanoclaw.core.uplink` and `nanoclaw.core.lines` say when; this does it, and counts what metered lines carry.
"""

from typing import TYPE_CHECKING

from firmware.wire.outputs import Connect, Disconnect
from fleet.wire import uplink
from fleet.wire.rule import ALL
from fleet.wire.uplink import Message, Rejected
from nanoclaw.core.budget import CONNECT_BYTES, TLS_CONNECT_BYTES, Budget, Now, wire_bytes
from nanoclaw.core.lines import UP, Line, LineConfig
from nanoclaw.core.mode import ANSWERED, CATCHING_UP, LATE, LOST, OFFLINE, ONLINE, SILENT

REASONS = {LATE: "heartbeat timeout", SILENT: "heartbeat timeout", LOST: "connection lost"}

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore


class Cloud:
    """Acts on what the uplink's clock and the cloud's answers say."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core

    def link_up(self, port: str, now_ms: int) -> None:
        """A line is connected, and in use from now on."""
        core = self._core
        line = core.uplink.lines.by_port(port)
        if line is None:
            return
        self._count(line, CONNECT_BYTES + (TLS_CONNECT_BYTES if line.tls else 0), now_ms)
        before = core.uplink.up(line, now_ms)
        if before is not None:
            core.event("uplink.switched", {"uplink": line.name, "before": before.name, "was": before.state})
            if before.state == UP:
                core.emit(Disconnect(before.port))
                core.uplink.down(before, now_ms)

    def link_down(self, port: str, now_ms: int) -> None:
        """An attempt failed, or the connection is gone."""
        link = self._core.uplink
        line = link.lines.by_port(port)
        if line is None:
            return
        link.down(line, now_ms)
        self._unless_up(now_ms)

    def _unless_up(self, now_ms: int) -> None:
        if self._core.uplink.connection != UP:
            self.happens(LOST, {}, now_ms)

    def on_answer(self, message: Message, now_ms: int) -> None:
        """The cloud answers a heartbeat. Raises Rejected."""
        link = self._core.uplink
        if uplink.count_of(message, "n") > link.heartbeats or link.connection != UP:
            raise Rejected("answers a heartbeat that was never sent")
        self.happens(ANSWERED, {}, now_ms)
        self._core.failback.on_peers(message.get("up", {}), now_ms)

    def happens(self, cause: str, fields: Message, now_ms: int) -> None:
        """Something that may change the mode: `nanoclaw.core.mode` says how, and which event it is, with `fields`."""
        core, link = self._core, self._core.uplink
        answered_ms, offline_since_ms = link.answered_ms, link.offline_since_ms
        row = link.happens(cause, core.forwarder.catching_up, now_ms)
        if row is None:
            return
        if row.becomes == OFFLINE:
            self._let_go(now_ms)
        if cause in REASONS:
            fields = {"reason": REASONS[cause], "silent_ms": now_ms - answered_ms}
        elif cause == ANSWERED:
            back = row.says == "gateway.online"
            fields = {"offline_ms": now_ms - offline_since_ms} if back else {"silent_ms": now_ms - answered_ms}
        core.event(row.says, fields)
        if row.becomes == OFFLINE:
            core.journal.write("offline", fields, now_ms)
            core.decisions.take_over(now_ms)
        elif row.says == "gateway.online":
            core.journal.write("online", fields, now_ms)
            core.forwarder.start(now_ms)

    def _let_go(self, now_ms: int) -> None:
        """Nothing more is sent; a line that is up is stale."""
        core, link = self._core, self._core.uplink
        if link.connection == UP:
            core.emit(Disconnect(link.port))
            link.down(link.lines.used, now_ms)
        core.outbox.ground()
        core.forwarder.stop()

    def on_timer(self, now_ms: int) -> None:
        """Notice silence, send the heartbeat, dial, count."""
        core = self._core
        link = core.uplink
        self._count_all(now_ms)
        if link.mode != OFFLINE and now_ms >= link.silent_ms():
            self.happens(SILENT, {}, now_ms)
        elif link.mode in (ONLINE, CATCHING_UP) and now_ms >= link.late_ms():
            self.happens(LATE, {}, now_ms)
        if link.connection == UP and link.heartbeat_due_ms is not None and now_ms >= link.heartbeat_due_ms:
            self._send_heartbeat(now_ms)
        for line in link.lines.overdue(now_ms):
            core.emit(Disconnect(line.port))
            link.down(line, now_ms)
            self._unless_up(now_ms)
        next_line = link.lines.to_dial(link.answered_ms, now_ms)
        if next_line is not None:
            link.dial(next_line, now_ms)
            core.emit(Connect(next_line.port, None))

    def _send_heartbeat(self, now_ms: int) -> None:
        core = self._core
        n = core.uplink.beat(now_ms)
        health: Message = {"v": uplink.VERSION, "n": n, "boot": core.boot, "uptime_ms": now_ms - core.start_ms}
        health |= {"fleet": core.config.fleet_id, "site": core.config.site, "role": core.config.role}
        health |= core.status() | {"config_hash": core.configuration.hash, "capabilities": list(ALL)}
        core.send_hub("heartbeat", uplink.encode(health))

    # --- what it costs --------------------------------------------------------------------------------------------

    def carried(self, name: str, payload: bytes) -> None:
        """A message goes to the cloud or came from it, over the line in use; counted at the next timer."""
        line = self._core.uplink.lines.used
        if line.budget is not None:
            line.uncounted_bytes += wire_bytes(name, payload, line.tls)

    def set_budgets(self, configs: tuple[LineConfig, ...], now_ms: int) -> None:
        """An operator has given lines other budgets; what was spent today stays spent."""
        for line, config in zip(self._core.uplink.lines.all, configs, strict=True):
            if config.daily_bytes is None:
                line.budget = None
            elif line.budget is None:
                line.budget = Budget(config.daily_bytes, None)
            else:
                line.budget.daily_bytes = config.daily_bytes

    def batch_interval_ms(self, now_ms: int) -> int:
        """How long the window that begins now lasts: longer where the line in use is metered and the day is long."""
        self._count_all(now_ms)
        window_ms = self._core.config.window_ms
        budget = self._core.uplink.lines.used.budget
        return window_ms if budget is None else window_ms * budget.next_windows(window_ms, self._today(now_ms))

    def backlog_wait_ms(self, now_ms: int) -> int:
        """How long the backlog has to wait for the budget of the line in use; 0: it may go."""
        budget = self._core.uplink.lines.used.budget
        return 0 if budget is None else budget.ahead_ms(self._today(now_ms))

    def _count_all(self, now_ms: int) -> None:
        for line in self._core.uplink.lines.all:
            if line.uncounted_bytes:
                count, line.uncounted_bytes = line.uncounted_bytes, 0
                self._count(line, count, now_ms)

    def _count(self, line: Line, count: int, now_ms: int) -> None:
        budget = line.budget
        if budget is None:
            return
        if budget.spend(count, self._today(now_ms)):
            self._core.event("uplink.spent", {"uplink": line.name, "daily_bytes": budget.daily_bytes})
        kept = budget.to_keep()
        if kept is not None:
            self._core.stores.put(f"spent:{line.name}", kept)

    def _today(self, now_ms: int) -> Now:
        core = self._core
        return Now.of(core.utc_ms(now_ms), now_ms - core.start_ms)
