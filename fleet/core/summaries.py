"""Summaries that gateways send instead of readings: of a metric of a node over one window, count, min, mean and max.

They go to the log of what nodes told beside readings, each once: a copy of a report has the same ids. They are no
readings, so they raise no alert and are no latest value; the gateway that made them judges the rules about them. Of a
sensitive metric only the count is kept: such a metric is not for summaries.
"""

from typing import TYPE_CHECKING, Any

from fleet.core.transaction import Transaction
from fleet.wire import uplink
from fleet.wire.uplink import Message, Rejected

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

SUMMARY = "summary"
MOST_SUMMARIES = 1_000  # of one report
MOST_READINGS = 1_000_000_000  # of one summary
NUMBERS = ("min", "mean", "max")


class Summaries:
    """Checks the summaries of a report and has them stored."""

    def __init__(self, core: "FleetCore") -> None:
        self._core = core

    def on_summaries(self, tx: Transaction, gateway: str, message: Message, now_ms: int) -> None:
        """A report of summaries; one that cannot be taken is refused by itself. Raises Rejected."""
        item, stats = uplink.text_of(message, "item", 128), message.get("stats")
        if not isinstance(stats, list) or len(stats) > MOST_SUMMARIES:
            raise Rejected(f"stats is not a list of at most {MOST_SUMMARIES}")
        for number, summary in enumerate(stats):
            try:
                self._keep(tx, gateway, f"{item}:{number}", summary, now_ms)
            except Rejected as error:
                self._core.reject(gateway, "status", str(error))

    def _keep(self, tx: Transaction, gateway: str, name: str, summary: Any, now_ms: int) -> None:
        """Raises Rejected."""
        core = self._core
        check_summary(summary)
        if not core.registry.serves(gateway, summary["sensor"]):
            raise Rejected("a summary about a node of another site")
        stored_ms = core.utc_ms(now_ms)
        first_ms = summary.get("from_utc_ms")
        row: Message = {"id": name, "node": summary["sensor"], "kind": SUMMARY, "severity": "info"}
        row |= {"utc_ms": stored_ms if first_ms is None else first_ms, "stored_utc_ms": stored_ms}
        row["doc"] = {name: summary.get(name) for name in ("metric", "count", *NUMBERS, "from_utc_ms", "to_utc_ms")}
        row["doc"]["gateway"] = gateway
        if core.sensitive.holds(row["node"], summary["metric"]):
            row["doc"] |= dict.fromkeys(NUMBERS) | {"sealed": True}
        tx.writes.append(("append", "node_events", row))


def check_summary(summary: Any) -> None:
    """Raises Rejected unless `summary` is one that can be stored."""
    if not isinstance(summary, dict):
        raise Rejected("a summary is not an object")
    if not (uplink.valid_id_cached(summary.get("sensor")) and uplink.valid_metric_cached(summary.get("metric"))):
        raise Rejected("a summary has no valid sensor or metric")
    if uplink.count_of(summary, "count", MOST_READINGS) == 0:
        raise Rejected("a summary of no reading")
    for name in NUMBERS:
        if type(summary.get(name)) not in (int, float):
            raise Rejected(f"the {name} of a summary is not a number")
        uplink.check_value(summary[name])
    for name in ("from_utc_ms", "to_utc_ms"):
        if summary.get(name) is not None:
            uplink.count_of(summary, name)
