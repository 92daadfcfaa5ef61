"""What agents report over HTTP: readings go the way of a gateway's batch, everything else is kept as an event.

An agent numbers nothing, so the manager does, and knows a repeated event by its content: the digests of an agent's
last events are committed with what they stand for.
"""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson

from firmware.wire.ids import valid_metric
from firmware.wire.messages import BOOT_BITS
from fleet.core.errors import Busy
from fleet.core.notices import Notice
from fleet.core.transaction import Transaction
from fleet.wire import uplink
from fleet.wire.uplink import Message, Rejected

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

KINDS = ("sensor_reading", "alert", "error", "status_change")
SEVERITIES = ("info", "warning", "error", "critical")
MOST_EVENTS = 100  # in one report
DIGEST_CHARS = 15  # 60 bits: fits the 63 of a cursor, and an agent's events never meet by chance
REMEMBERED = 256  # digests of an agent; a report is repeated at once or not at all

Done = Callable[[bool], None]
"""Told whether the report was committed."""


class AgentEvents:
    """The reports of each agent, one at a time."""

    def __init__(self, core: "FleetCore", restored: list[Message]) -> None:
        self._core = core
        self._rows = {row["id"]: row for row in restored}
        self._under_way: set[str] = set()

    def report(self, node: str, events: list[Message], done: Done, now_ms: int) -> int:
        """How many of `events` are new; `done` is told when those are durable, or that they could not be stored.

        An event: type, utc_ms, sensor_type, severity, message, data. Raises Unknown, Busy, ValueError for the whole
        report when one event of it is wrong.
        """
        agent = self._core.agents.row_of(node)
        if node in self._under_way:
            raise Busy(f"an earlier report of {node} is on its way to the database")
        if len(events) > MOST_EVENTS:
            raise ValueError(f"a report has at most {MOST_EVENTS} events")
        doc = self._doc_of(node)
        fresh = self._fresh(doc, events)
        readings: list[Message] = []
        for number, event, _ in fresh:
            if _is_reading(event):
                readings += self._readings(node, doc, number, event)
        tx = Transaction()
        self._settle(tx, node, doc, done)
        for _, event, digest in fresh:
            doc["recent"].append(digest)
            if not _is_reading(event):
                self._keep(tx, node, event, digest, now_ms)
        del doc["recent"][:-REMEMBERED]
        tx.upsert("agents", {"id": node, "doc": doc})
        self._core.agents.heard(agent, now_ms)
        self._core.ingest.add(node, readings, tx, now_ms)  # raises nothing
        return len(fresh)

    def forget(self, tx: Transaction, node: str) -> None:
        """The agent has left the fleet."""
        row = self._rows.pop(node, None)
        if row is not None:
            tx.writes.append(("delete", "agents", node))
            tx.undo.append(lambda: self._rows.update({node: row}))

    def _doc_of(self, node: str) -> Message:
        """A copy to change: the boot number and the next sequence number of the agent's readings, recent digests."""
        row = self._rows.get(node)
        if row is not None:
            return {**row["doc"], "recent": list(row["doc"]["recent"])}
        boot = int.from_bytes(hashlib.sha256(f"{self._core.boot}:{node}".encode()).digest()[:4], "big")
        return {"boot": boot % (1 << BOOT_BITS), "next_seq": 0, "recent": []}

    def _settle(self, tx: Transaction, node: str, doc: Message, done: Done) -> None:
        """What follows the commit, and what a failure leaves: the report as if it had never come."""

        def committed(_now_ms: int) -> None:
            self._under_way.discard(node)
            if node in self._core.registry.nodes:
                self._rows[node] = {"id": node, "doc": doc}
            done(True)

        def failed() -> None:
            self._under_way.discard(node)
            done(False)

        self._under_way.add(node)
        tx.after.append(committed)
        tx.undo.append(failed)

    def _fresh(self, doc: Message, events: list[Message]) -> list[tuple[int, Message, str]]:
        known, fresh = set(doc["recent"]), []
        for number, event in enumerate(events):
            digest = hashlib.sha256(orjson.dumps(event, option=orjson.OPT_SORT_KEYS)).hexdigest()[:DIGEST_CHARS]
            if digest not in known:
                known.add(digest)
                fresh.append((number, event, digest))
        return fresh

    def _readings(self, node: str, doc: Message, number: int, event: Message) -> list[Message]:
        """One reading for each member of `data`, as in `{"temperature": 25.0, "humidity": 60.0}`.

        A member `value` is named after `sensor_type` where that can be a metric, and `unit` belongs to it.
        """
        data, found = event["data"], []
        for name, value in data.items():
            if name == "unit":
                continue
            reading = {"sensor": node, "metric": name, "value": value, "boot": doc["boot"], "seq": doc["next_seq"]}
            reading["utc_ms"] = event["utc_ms"]
            if name == "value":
                reading |= {"metric": _metric_of(event["sensor_type"]), "unit": data.get("unit")}
            try:
                uplink.check_reading(reading)
            except Rejected as error:
                raise ValueError(f"events.{number}.data.{name}: {error}") from None
            doc["next_seq"] += 1
            found.append(reading)
        if not found:
            raise ValueError(f'events.{number}.data: expected values, as in {{"temperature": 25.0}}')
        return found

    def _keep(self, tx: Transaction, node: str, event: Message, digest: str, now_ms: int) -> None:
        core, severity = self._core, event["severity"]
        row = {"id": f"{node}:{digest}", "node": node, "kind": event["type"], "severity": severity}
        row |= {"utc_ms": event["utc_ms"], "stored_utc_ms": core.utc_ms(now_ms)}
        row["doc"] = {name: event[name] for name in ("message", "data", "sensor_type")}
        tx.writes.append(("append", "node_events", row))
        told = {"node": node, "type": event["type"], "severity": severity, "message": event["message"]}
        tx.after.append(lambda _: core.event("agent.event", told))
        if severity == "critical" or (event["type"] == "alert" and severity != "info"):
            weight = "critical" if severity in ("critical", "error") else "warning"
            subject = f"{event['type']} on {node}: {severity}"
            age_ms = core.utc_ms(now_ms) - event["utc_ms"]
            if age_ms > core.config.late_ms:  # what an agent kept while it was offline is not news of now
                subject += f", {age_ms // 60_000} min ago"
            core.notify(tx, Notice("agent.event", weight, subject, event["message"] or "No message.", node))


def _metric_of(sensor_type: object) -> object:
    return sensor_type if valid_metric(sensor_type) else "value"


def _is_reading(event: Message) -> bool:
    return bool(event["type"] == "sensor_reading")
