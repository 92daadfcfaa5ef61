"""Certificates that run out: people are told in time, once at each of a few steps, also across restarts.

A gateway renews its own when a third of the time is left, so whoever is told of one has something to mend.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fleet.core.notices import Notice
from fleet.core.transaction import Transaction
from fleet.wire.uplink import Message

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

DAY_MS = 86_400_000
STEPS_DAYS = (14, 7, 3, 1, 0)
SLOT = "certificates"


class Certificates:
    """What people were told of which certificate: by name, its end and the step."""

    def __init__(self, core: "FleetCore", slots: list[Message]) -> None:
        self._core = core
        kept = {row["name"]: row["doc"] for row in slots}
        self._told: dict[str, list[int]] = dict(kept.get(SLOT, {}))

    def on_ends(self, ends_utc_ms: Mapping[str, int], now_ms: int) -> None:
        """When the certificate of each name runs out, as the host found it."""
        tx, told = Transaction(), {}
        for name, end_utc_ms in sorted(ends_utc_ms.items()):
            left_days = (end_utc_ms - self._core.utc_ms(now_ms)) // DAY_MS
            step = min((step for step in STEPS_DAYS if left_days < step or left_days < 0), default=None)
            if step is None:
                continue
            told[name] = [end_utc_ms, step]
            if self._told.get(name) != told[name]:
                self._tell(tx, name, max(left_days, -1))
        if told != self._told:
            self._keep(tx, told)

    def _tell(self, tx: Transaction, name: str, left_days: int) -> None:
        when = "has run out" if left_days < 0 else f"runs out in {left_days} day{'' if left_days == 1 else 's'}"
        fields = {"name": name, "days": left_days}
        tx.after.append(lambda _: self._core.event("certificate.expiring", fields))
        body = "Without a valid one it cannot connect. See `fleet pki list`."
        severity = "critical" if left_days < 1 else "warning"
        self._core.notify(tx, Notice("certificate.expiring", severity, f"certificate of {name} {when}", body, None))

    def _keep(self, tx: Transaction, told: dict[str, list[int]]) -> None:
        before, self._told = self._told, told
        tx.upsert("slots", {"name": SLOT, "doc": told})
        tx.undo.append(lambda: setattr(self, "_told", before))
        self._core.stores.commit(tx)
