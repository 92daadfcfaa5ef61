"""Agents that speak HTTP: nodes that register themselves, report by themselves and fetch their commands.

They are nodes like any other, but have neither a gateway nor a key: that a request is theirs, their token says.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from firmware.wire.ids import valid_id
from fleet.core.errors import Conflict, Unknown
from fleet.core.transaction import Transaction
from fleet.wire.uplink import Message

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

LINK = "http"
HEARTBEAT_MS = 60_000
SILENT_MS = 3 * HEARTBEAT_MS  # at the very millisecond an agent is still in time
MOST_COMMANDS = 20  # in the answer to one poll
LOW_MEMORY = 0.1  # of the RAM that the agent registered with


class Agents:
    """Who speaks for itself, and when it was last heard."""

    def __init__(self, core: "FleetCore", now_ms: int) -> None:
        self._core = core
        nodes = core.registry.nodes.values()
        self._heard_ms = {row["id"]: now_ms for row in nodes if _is_agent(row) and row["doc"]["state"] == "up"}
        self.due_ms: int | None = now_ms + SILENT_MS + 1 if self._heard_ms else None

    def register(self, agent: Message, by: str, now_ms: int) -> Message:
        """The node's row; tokens of earlier registrations are worth nothing from now on.

        `agent`: id, type, hardware, capabilities, metadata. Raises Conflict for an id of other hardware, ValueError.
        """
        core, node = self._core, agent["id"]
        if not valid_id(node):
            raise ValueError(f"{node!r} is not an id: 1 to 32 of a-z, 0-9 and '-', not '-' first")
        old = core.registry.nodes.get(node)
        self._check_free(node, old, agent["hardware"])
        doc = dict(old["doc"]) if old else _fresh(core.utc_ms(now_ms), by)
        doc |= {name: agent[name] for name in ("type", "hardware", "capabilities", "metadata")}
        site = agent["metadata"].get("location")
        doc |= {"site": site if isinstance(site, str) else doc.get("site"), "generation": doc["generation"] + 1}
        tx, row = Transaction(), {"id": node, "doc": doc}
        core.registry.put(tx, "nodes", row)
        tx.after.append(lambda _: core.event("node.registered", {"node": node, "by": by}))
        core.stores.commit(tx)
        return row

    def heartbeat(self, node: str, health: Message, now_ms: int) -> Message:
        """What the agent is to be told: `{"warnings": […], "commands_pending": n}`. Raises Unknown."""
        row = self.row_of(node)
        row["doc"]["health"] = health
        self.heard(row, now_ms)
        pending = len(self._core.commands.open_for(node))
        return {"warnings": list(self._warnings(row)), "commands_pending": pending}

    def poll(self, node: str, now_ms: int) -> list[Message]:
        """The commands that wait for the agent; what it has not answered a minute later, it is given again."""
        row = self.row_of(node)
        self.heard(row, now_ms)
        return self._core.commands.hand_out(node, MOST_COMMANDS, now_ms)

    def answer(self, node: str, message: Message, now_ms: int) -> Message:
        """An agent's answer to its command: id, status, reason, result; the command's row. Raises Unknown."""
        core, row = self._core, self.row_of(node)
        command = core.commands.rows.get(message["id"])
        if command is None or command["target"] != node:
            raise Unknown(f"there is no command {message['id']!r} of {node}")
        self.heard(row, now_ms)
        tx = Transaction()
        core.commands.on_answer(tx, node, message, now_ms)
        if tx.writes:
            core.stores.commit(tx)
        return command

    def row_of(self, node: str) -> Message:
        """The agent's row. Raises Unknown."""
        row = self._core.registry.nodes.get(node)
        if row is None or not _is_agent(row):
            raise Unknown(f"no agent is registered as {node!r}")
        return row

    def heard(self, row: Message, now_ms: int) -> None:
        """The agent lives."""
        core, node, doc = self._core, row["id"], row["doc"]
        doc["heard_utc_ms"] = core.utc_ms(now_ms)
        self._heard_ms[node] = now_ms
        if self.due_ms is None:
            self.due_ms = now_ms + SILENT_MS + 1
        was = doc["state"]
        if was == "up":
            return
        doc["state"] = "up"
        tx = Transaction()
        tx.after.append(lambda _: core.event("node.up", {"node": node, "by": "cloud"}))
        if was == "down":
            core.health.tell_node(tx, row, "up", "It reports by itself again.", now_ms)
        self._insist(tx, node)

    def on_timer(self, now_ms: int) -> None:
        """Declare silent agents down; the deadline is that of whoever was silent longest when it was set."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        for node, heard_ms in list(self._heard_ms.items()):
            if now_ms > heard_ms + SILENT_MS:
                del self._heard_ms[node]
                self._down(node, now_ms - heard_ms, now_ms)
        first_ms = min(self._heard_ms.values(), default=None)
        self.due_ms = None if first_ms is None else first_ms + SILENT_MS + 1

    def _down(self, node: str, silent_ms: int, now_ms: int) -> None:
        core = self._core
        row = core.registry.nodes.get(node)
        if row is None or not _is_agent(row):
            return  # it has left the fleet meanwhile
        row["doc"]["state"] = "down"
        tx = Transaction()
        fields = {"node": node, "by": "cloud", "silent_ms": silent_ms}
        tx.after.append(lambda _: core.event("node.down", fields))
        core.health.tell_node(tx, row, "down", f"Silent for {silent_ms // 1000} s.", now_ms)
        self._insist(tx, node)

    def _insist(self, tx: Transaction, node: str) -> None:
        """Nobody would repeat that a node fell silent or came back."""
        notices, nodes = list(tx.writes), self._core.registry.nodes

        def rows(tx: Transaction) -> None:
            tx.writes += notices
            if node in nodes:
                tx.upsert("nodes", nodes[node])

        tx.writes.clear()
        rows(tx)
        self._core.stores.insist(tx, rows)

    def _check_free(self, node: str, old: Message | None, hardware: Message) -> None:
        if node in self._core.registry.gateways or (old is not None and not _is_agent(old)):
            raise Conflict(f"{node} is in the fleet already and does not report by itself")
        if old is None:
            return
        if old["doc"].get("stolen"):
            raise Conflict(f"{node} is marked stolen; an operator replaces its board first")
        if old["doc"].get("hardware") not in (None, hardware):
            raise Conflict(f"{node} is registered with another hardware; an operator replaces its board first")

    def _warnings(self, row: Message) -> Iterable[str]:
        health, ram_kb = row["doc"]["health"], (row["doc"].get("hardware") or {}).get("ram_kb")
        free_kb = health.get("free_memory_kb")
        if ram_kb and free_kb is not None and free_kb < LOW_MEMORY * ram_kb:
            yield f"{free_kb} KB of {ram_kb} KB are free"
        for rule, node in self._core.alerts.open_episodes():
            if node == row["id"]:
                yield f"the alert {rule} is open"


def _is_agent(row: Message) -> bool:
    return bool(row["doc"].get("link") == LINK)


def _fresh(utc_ms: int, by: str) -> Message:
    doc = {"link": LINK, "state": "new", "attach": 0, "boot": None, "gateway": None, "home": None, "managed": True}
    return doc | {"generation": 0, "registered_utc_ms": utc_ms, "registered_by": by}
