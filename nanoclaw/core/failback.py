"""When a node that fled to this gateway is sent back to its home, which is up again.

| policy | a node is sent home when                                                                               |
|--------|--------------------------------------------------------------------------------------------------------|
| never  | never: it stays until this gateway falls silent                                                        |
| idle   | its home has been up for the hold time, and nothing is under way: no command for the node, no alert    |
|        | about it, no reading that it or this gateway kept                                                      |
| after  | its home has been up for the hold time and for `failback_after_ms`                                     |

Only the cloud can say that a home is up, so while it is away nobody is sent: two gateways behind one cut link do not
fight over a node. One node at a time goes. When one comes back the hold time begins again, twice as long, up to an
hour, until nobody has come back for an hour.
"""

from typing import TYPE_CHECKING, Any

from firmware.wire.ids import valid_id
from firmware.wire.messages import is_count
from fleet.wire.uplink import MAX_UTC_MS, Rejected
from nanoclaw.core.mode import CATCHING_UP, ONLINE
from nanoclaw.core.roster import Node

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

NEVER, IDLE, AFTER = "never", "idle", "after"
POLICIES = (NEVER, IDLE, AFTER)
EVERY_MS = 10_000
REJOIN_TTL_MS = 60_000
LONGEST_HOLD_MS = 3_600_000


class _Home:
    """Another gateway of the site, which the cloud hears."""

    def __init__(self, up_ms: int) -> None:
        self.up_ms = up_ms  # since when, without a break
        self.holds = 1  # how many times the hold time it has to be up
        self.came_back_ms: int | None = None


class Failback:
    """Sends nodes home, by policy. One deadline serves all of them."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self._homes: dict[str, _Home] = {}
        self._up: frozenset[str] = frozenset()
        self._sent_ms: dict[str, int] = {}  # by node, when it was last sent home
        self.due_ms: int | None = None

    def on_peers(self, up: Any, now_ms: int) -> None:
        """The cloud says which other gateways of the site are up, and for how long, in ms. Raises Rejected."""
        if not isinstance(up, dict) or not all(valid_id(peer) and is_count(ms, MAX_UTC_MS) for peer, ms in up.items()):
            raise Rejected("up is not an object of gateways and durations")
        for peer, uptime_ms in up.items():
            home = self._homes.setdefault(peer, _Home(now_ms))
            if peer not in self._up:
                home.up_ms = now_ms
            home.up_ms = max(home.up_ms, now_ms - uptime_ms)
        self._up = frozenset(up)
        if self._core.config.failback != NEVER and self.due_ms is None and up:
            self.due_ms = now_ms

    def on_join(self, node: Node, now_ms: int) -> None:
        """A node came, or is here anew: perhaps one that could not stay at home."""
        sent_ms = self._sent_ms.pop(node.id, None)
        home = self._homes.get(self._core.configuration.places["homes"].get(node.id, ""))
        if home is None or sent_ms is None or now_ms - sent_ms > LONGEST_HOLD_MS:
            return
        hold_ms = self._core.config.failback_hold_ms
        home.up_ms = home.came_back_ms = now_ms
        home.holds = min(2 * home.holds, max(1, LONGEST_HOLD_MS // hold_ms))

    def on_timer(self, now_ms: int) -> None:
        """Send the next one home."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        self.due_ms = now_ms + EVERY_MS if self._up else None
        if self._core.uplink.mode not in (ONLINE, CATCHING_UP):
            return
        for node in self._core.nodes.values():
            home_id = self._core.configuration.places["homes"].get(node.id)
            if home_id in self._up and home_id != self._core.id and self._may_go(node, self._homes[home_id], now_ms):
                self._send(node, home_id, now_ms)
                return

    def _may_go(self, node: Node, home: _Home, now_ms: int) -> bool:
        config = self._core.config
        if home.came_back_ms is not None and now_ms - home.came_back_ms > LONGEST_HOLD_MS:
            home.holds, home.came_back_ms = 1, None
        wait_ms = config.failback_hold_ms * home.holds
        sent_ms = self._sent_ms.get(node.id)
        if node.state != "up" or (sent_ms is not None and now_ms - sent_ms < wait_ms):
            return False
        if config.failback == AFTER:
            return now_ms - home.up_ms >= max(wait_ms, config.failback_after_ms)
        return now_ms - home.up_ms >= wait_ms and self._is_idle(node)

    def _is_idle(self, node: Node) -> bool:
        core = self._core
        busy = core.forwarder.catching_up or core.commands.waits_for(node.id) or core.decisions.is_open_about(node.id)
        return node.backlog == 0 and not busy

    def _send(self, node: Node, home: str, now_ms: int) -> None:
        core = self._core
        self._sent_ms[node.id] = now_ms
        core.event("failback.ordered", {"node": node.id, "gateway": home, "policy": core.config.failback})
        params = {"gateway": home}
        core.commands.order("rejoin", node, params, "gateway", REJOIN_TTL_MS, now_ms, core.new_name())
