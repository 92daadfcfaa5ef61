"""The latest value of every metric of every node: kept on disk with each window, so that a restart forgets nothing.

Rules go by it (a reading that was taken before the latest changes nothing), and so does what goes up only on change.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

SLOT = "recent"


class Recent:
    """Keeps and restores `Node.latest`, which is in core time, as UTC."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self._kept: dict[str, dict[str, list[Any]]] = {}  # of before the restart, until UTC is known
        self.changed = False

    def restore(self, kept: dict[str, dict[str, list[Any]]] | None, now_ms: int) -> None:
        """What was known before the gateway restarted."""
        self._kept = kept or {}
        self.on_utc(now_ms)

    def on_utc(self, now_ms: int) -> None:
        """UTC is known: what was kept has a place in core time now; what came meanwhile is newer.

        A stamp from the future (the clock was wrong then) must not silence the present.
        """
        offset_ms = self._core.utc_offset_ms
        if offset_ms is None or not self._kept or not self._core.nodes:
            return
        for node_id, metrics in self._kept.items():
            node = self._core.nodes.get(node_id)
            if node is None:
                continue
            for metric, (utc_ms, value) in metrics.items():
                node.latest.setdefault(metric, (min(now_ms, utc_ms - offset_ms), value))
        self._kept = {}

    def window_closed(self) -> None:
        """Put the values of now on the disk; nobody waits for it."""
        offset_ms = self._core.utc_offset_ms
        if offset_ms is None or not self.changed:
            return
        self.changed = False
        kept = {
            node.id: {metric: [at_ms + offset_ms, value] for metric, (at_ms, value) in node.latest.items()}
            for node in self._core.nodes.values()
            if node.latest
        }
        self._core.stores.put(SLOT, kept)
