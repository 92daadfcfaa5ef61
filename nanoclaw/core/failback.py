"""When a node that fled to this gateway is sent back to its home, which is up again.

| policy | a node is sent home when                                                                               |
|--------|--------------------------------------------------------------------------------------------------------|
| never  | never: it stays until this gateway falls silent                                                        |
| idle   | the hold time is over, and nothing is under way: no command for the node, no alert about it, no        |
|        | reading that it or this gateway kept                                                                   |
| after  | the hold time is over, and so are `failback_after_ms`                                                  |

Both times count from when the home is up without a break and the node is here. Only the cloud can say that a home is
up, so while it is away nobody is sent: two gateways behind one cut link do not fight over a node. One node at a time
goes. For a node that comes back within an hour the hold time is twice as long the next time, up to an hour.
"""

from typing import TYPE_CHECKING, Any, Literal

from firmware.wire.ids import valid_id
from firmware.wire.messages import is_count
from fleet.wire.uplink import MAX_UTC_MS, Rejected
from nanoclaw.core.mode import CATCHING_UP, ONLINE
from nanoclaw.core.roster import Node

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

NEVER, IDLE, AFTER = "never", "idle", "after"
POLICIES = (NEVER, IDLE, AFTER)
Policy = Literal["never", "idle", "after"]
EVERY_MS = 10_000
REJOIN_TTL_MS = 60_000
MOST_IN_FLIGHT = 10  # readings of a node that wait for their acknowledgement, as some always do
LONGEST_HOLD_MS = 3_600_000


class _Stay:
    """A node that is not at home."""

    def __init__(self, since_ms: int) -> None:
        self.since_ms = since_ms
        self.holds = 1  # so many times the hold time it stays
        self.sent_ms: int | None = None  # when it was last sent home

    def again(self, now_ms: int, most_holds: int) -> None:
        """It came, perhaps back."""
        came_back = self.sent_ms is not None and now_ms - self.sent_ms <= LONGEST_HOLD_MS
        self.holds = min(2 * self.holds, most_holds) if came_back else 1
        self.since_ms, self.sent_ms = now_ms, None


class Failback:
    """Sends nodes home, by policy. One deadline serves all of them."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self._up_ms: dict[str, int] = {}
        """Since when other gateways of the site are up without a break."""
        self._stays: dict[str, _Stay] = {}
        self.due_ms: int | None = None

    def on_peers(self, up: Any, now_ms: int) -> None:
        """The cloud says which other gateways of the site are up, and for how long, in ms. Raises Rejected."""
        if not isinstance(up, dict) or not all(valid_id(peer) and is_count(ms, MAX_UTC_MS) for peer, ms in up.items()):
            raise Rejected("up is not an object of gateways and durations")
        since_ms = {peer: max(self._up_ms.get(peer, now_ms), now_ms - uptime_ms) for peer, uptime_ms in up.items()}
        self._up_ms = since_ms
        if self._core.config.failback != NEVER and self.due_ms is None and up:
            self.due_ms = now_ms

    def on_join(self, node: Node, now_ms: int) -> None:
        """A node came, or is here anew: perhaps one that could not stay at home."""
        stay = self._stays.setdefault(node.id, _Stay(now_ms))
        stay.again(now_ms, max(1, LONGEST_HOLD_MS // self._core.config.failback_hold_ms))

    def on_timer(self, now_ms: int) -> None:
        """Send the next one home."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        self.due_ms = now_ms + EVERY_MS if self._up_ms else None
        if self._core.uplink.mode not in (ONLINE, CATCHING_UP):
            return
        for node in self._core.nodes.values():
            home = self._core.configuration.places["homes"].get(node.id)
            if home in self._up_ms and node.state == "up" and self._may_go(node, self._up_ms[home], now_ms):
                self._send(node, home, now_ms)
                return

    def _may_go(self, node: Node, home_up_ms: int, now_ms: int) -> bool:
        config, stay = self._core.config, self._stays.setdefault(node.id, _Stay(now_ms))
        hold_ms = config.failback_hold_ms * stay.holds
        since_ms = max(stay.since_ms, home_up_ms, stay.sent_ms or 0)
        if config.failback == AFTER:
            return now_ms - since_ms >= max(hold_ms, config.failback_after_ms)
        return now_ms - since_ms >= hold_ms and self._is_idle(node)

    def _is_idle(self, node: Node) -> bool:
        core = self._core
        busy = core.forwarder.catching_up or core.commands.waits_for(node.id) or core.decisions.is_open_about(node.id)
        return node.backlog <= MOST_IN_FLIGHT and not busy

    def _send(self, node: Node, home: str, now_ms: int) -> None:
        core = self._core
        self._stays[node.id].sent_ms = now_ms
        core.event("failback.ordered", {"node": node.id, "gateway": home, "policy": core.config.failback})
        params = {"gateway": home}
        core.commands.order("rejoin", node, params, "gateway", REJOIN_TTL_MS, now_ms, core.new_name())
