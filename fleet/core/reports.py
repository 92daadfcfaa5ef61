"""Reports of gateways: the states of nodes, decisions taken offline, answers to commands.

A gateway repeats a report until it is acknowledged, which follows the commit of what the report changed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fleet.core.summaries import SUMMARY
from fleet.core.transaction import Transaction
from fleet.wire import uplink
from fleet.wire.uplink import Message, Rejected

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore


class Reports:
    """Checks each report and hands it to the concern that it is about."""

    def __init__(self, core: "FleetCore") -> None:
        self._core = core

    def on_status(self, gateway: str, message: Message, now_ms: int) -> None:
        """The state of a node, or a decision of the gateway. Raises Rejected."""
        core = self._core
        status = uplink.text_of(message, "status")
        if core.ingest.committing and core.alerts.knows(message.get("alert")):
            return  # that commit may yet be undone; the report comes again
        tx = Transaction()
        with self._settled(tx, gateway, message):
            if status in ("up", "down"):
                core.health.on_status(tx, gateway, message, now_ms)
            elif status in ("alert-raised", "alert-cleared"):
                self._on_decision(tx, gateway, message, status == "alert-raised", now_ms)
            elif status == SUMMARY:
                core.summaries.on_summaries(tx, gateway, message, now_ms)
            else:
                raise Rejected("unknown status")

    def on_answer(self, gateway: str, message: Message, now_ms: int) -> None:
        """The answer to a command. Raises Rejected."""
        uplink.text_of(message, "id")
        uplink.text_of(message, "status")
        tx = Transaction()
        with self._settled(tx, gateway, message):
            self._core.commands.on_answer(tx, gateway, message, now_ms)

    def _on_decision(self, tx: Transaction, gateway: str, message: Message, raised: bool, now_ms: int) -> None:
        core = self._core
        node = core.alerts.imported.check(message)
        if node is not None and not core.registry.serves(gateway, node):
            raise Rejected("a decision about a node of another site")
        row = core.alerts.imported.take(message, gateway, node, raised, tx, now_ms)
        if row is not None:
            core.alarms.on_import(tx, row, now_ms)

    @contextmanager
    def _settled(self, tx: Transaction, gateway: str, message: Message) -> Iterator[None]:
        """Commit `tx`, then acknowledge the report; one that cannot be taken too, for it would come again for ever."""
        core = self._core
        item = message.get("item")
        if isinstance(item, str):
            tx.after.append(lambda _: core.acknowledge(gateway, item))
        try:
            yield
        except Rejected:
            tx.failed()
            tx.writes.clear()
            tx.undo.clear()
            del tx.after[1 if isinstance(item, str) else 0 :]
            core.stores.commit(tx)
            raise
        core.stores.commit(tx)
