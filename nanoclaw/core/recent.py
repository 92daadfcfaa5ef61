"""The latest value of every metric of every node: kept on disk with each window, so that a restart forgets nothing.

Rules go by it (a reading that was taken before the latest changes nothing), and so does what goes up only on change.
"""

from typing import TYPE_CHECKING, Any

from nanoclaw.core.moments import LIFE, offsets, stamped

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

SLOT = "recent"


class Recent:
    """Keeps and restores `Node.latest`, which is in core time, as UTC or, without it, as uptime."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self._kept: dict[str, Any] | None = None  # of before the restart, until UTC is known
        self._assumed_ms: int | None = None  # what was taken from its times meanwhile
        self.changed = False

    def restore(self, kept: dict[str, Any] | None, now_ms: int) -> None:
        """What was known before the gateway restarted."""
        if kept is None or "nodes" not in kept:
            return
        offset_ms, self._assumed_ms = offsets(self._core, kept, now_ms)
        if LIFE not in kept and self._core.utc_offset_ms is None:
            self._kept = kept
        if offset_ms is not None:
            self._place(kept, offset_ms, now_ms)

    def on_utc(self, now_ms: int) -> None:
        """UTC is known: what was kept has its true place in core time now; what came meanwhile is newer."""
        offset_ms, kept = self._core.utc_offset_ms, self._kept
        if kept is not None and offset_ms is not None:
            self._kept = None
            self._place(kept, offset_ms, now_ms)
        self.changed = bool(self._core.nodes)  # on disk it may not be in UTC

    def _place(self, kept: dict[str, Any], offset_ms: int, now_ms: int) -> None:
        """Take over what was kept; a stamp from the future (the clock was wrong then) must not silence the present."""
        for node_id, metrics in kept["nodes"].items():
            node = self._core.nodes.get(node_id)
            if node is None:
                continue
            for metric, (at_ms, value) in metrics.items():
                known = node.latest.get(metric)
                if known is None or (self._assumed_ms is not None and known == (at_ms - self._assumed_ms, value)):
                    node.latest[metric] = min(now_ms, at_ms - offset_ms), value

    def window_closed(self, now_ms: int) -> None:
        """Put the values of now on the disk; nobody waits for it."""
        if not self.changed:
            return
        self.changed = False
        stamp, add_ms = stamped(self._core, now_ms)
        nodes = {
            node.id: {metric: [at_ms + add_ms, value] for metric, (at_ms, value) in node.latest.items()}
            for node in self._core.nodes.values()
            if node.latest
        }
        self._core.stores.put(SLOT, {**stamp, "nodes": nodes})
