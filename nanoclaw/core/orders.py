"""Commands on their way to nodes: kept until answered or expired, sent again until then."""

from typing import Any

AGAIN_MS = 10_000


class Order:
    """One command to one node."""

    __slots__ = ("action", "aired_ms", "by", "expires_ms", "id", "kept", "params", "sent_ms", "target")

    def __init__(
        self, order_id: str, action: str, target: str, params: dict[str, Any], by: str, expires_ms: int, kept: bool
    ) -> None:
        """`kept`: it is on disk, until it is answered or expires."""
        self.id = order_id
        self.action = action
        self.target = target
        self.params = params
        self.by = by
        self.kept = kept
        self.expires_ms = expires_ms
        self.sent_ms: int | None = None
        self.aired_ms: int | None = None  # when it was last in the answer to a frame


class Orders:
    """All commands that wait for a node."""

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}

    def __contains__(self, order_id: str) -> bool:
        return order_id in self._orders

    def __len__(self) -> int:
        return len(self._orders)

    def add(self, order: Order) -> None:
        """Wait for this command's answer."""
        self._orders[order.id] = order

    def answered(self, order_id: str, node: str) -> Order | None:
        """The command that `node` answers, no longer kept; None for one that is not (or no longer) for that node."""
        order = self._orders.get(order_id)
        if order is None or order.target != node:
            return None
        return self._orders.pop(order_id)

    def due(self, now_ms: int) -> tuple[list[Order], list[Order]]:
        """Those to send (again) and those that have expired; the latter are no longer kept."""
        expired = [order for order in self._orders.values() if now_ms > order.expires_ms]
        for order in expired:
            del self._orders[order.id]
        ready = [o for o in self._orders.values() if o.sent_ms is None or now_ms - o.sent_ms >= AGAIN_MS]
        return ready, expired

    def next_for(self, target: str) -> Order | None:
        """Of those for this node, the one that was not sent by radio for longest."""
        waiting = [order for order in self._orders.values() if order.target == target]
        return min(waiting, key=lambda order: -1 if order.aired_ms is None else order.aired_ms, default=None)

    def waits_for(self, target: str) -> bool:
        """Whether there is one for `target`."""
        return any(order.target == target for order in self._orders.values())

    def hurry(self, target: str) -> None:
        """The node is (back) here: send its commands at once."""
        for order in self._orders.values():
            if order.target == target:
                order.sent_ms = None

    def deadline_ms(self, now_ms: int) -> int | None:
        """When one is due next."""
        due_ms = None
        for order in self._orders.values():
            again_ms = now_ms if order.sent_ms is None else order.sent_ms + AGAIN_MS
            first_ms = min(again_ms, order.expires_ms + 1)
            due_ms = first_ms if due_ms is None else min(due_ms, first_ms)
        return due_ms
