"""Commands, from the request to the answer: queued, sent, then acknowledged, failed or expired.

A command is durable before it is sent, and sent again with the same id until it is answered or its time is over; the
node executes an id once.
"""

import json
from functools import partial
from typing import TYPE_CHECKING

from firmware.wire.ids import valid_id
from firmware.wire.messages import MAX_TTL_MS
from fleet.core.transaction import Transaction
from fleet.wire import uplink
from fleet.wire.uplink import Message, Rejected

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

OPEN = ("queued", "sent")
ENDED = ("acknowledged", "failed", "expired")
ANSWERED_TTL_MS = 600_000
MAX_PARAMS_BYTES = 256  # with id and lifetime it has to fit a node's 512-byte message


class UnknownTarget(LookupError):
    """There is no node or gateway of that id."""


class InvalidCommand(ValueError):
    """The command cannot be sent as asked; the text says why."""


class Commands:
    """All open commands, and those that ended lately."""

    def __init__(self, core: "FleetCore", restored: list[Message]) -> None:
        self._core = core
        self.rows: dict[str, Message] = {row["id"]: dict(row) for row in restored}
        self._open = {row["id"]: row for row in self.rows.values() if row["state"] in OPEN}
        self._by_key = {row["doc"]["key"]: row["id"] for row in self.rows.values() if row["doc"].get("key")}
        self._sent_ms: dict[str, int] = {}
        self.due_ms: int | None = None

    def request(
        self, action: str, target: str, params: Message, by: str, ttl_ms: int, now_ms: int, key: str | None = None
    ) -> Message:
        """Queue a command by itself: see `add`."""
        tx = Transaction()
        row = self.add(tx, action, target, params, by, ttl_ms, now_ms, key)
        if tx.writes:
            self._core.stores.commit(tx)
        return row

    def add(
        self,
        tx: Transaction,
        action: str,
        target: str,
        params: Message,
        by: str,
        ttl_ms: int,
        now_ms: int,
        key: str | None = None,
    ) -> Message:
        """A command that is sent once `tx` is committed; the same idempotency `key` gives the same command.

        Raises UnknownTarget, InvalidCommand.
        """
        if key is not None and key in self._by_key:
            return self.rows[self._by_key[key]]
        self._check(action, target, params, ttl_ms)
        core = self._core
        utc_ms = core.utc_ms(now_ms)
        row: Message = {
            "id": core.new_name("c"),
            "target": target,
            "state": "queued",
            "created_utc_ms": utc_ms,
            "doc": {"action": action, "params": params, "by": by, "expires_utc_ms": utc_ms + ttl_ms, "key": key},
        }
        self._keep(row)
        tx.upsert("commands", row)
        tx.after.append(lambda at_ms: self._on_queued(row, at_ms))
        tx.undo.append(lambda: self._forget(row))
        return row

    def on_answer(self, tx: Transaction, gateway: str, message: Message, now_ms: int) -> None:
        """A node's or gateway's answer. Raises Rejected for one by a gateway that has no part in the command."""
        row = self.rows.get(message["id"])
        if row is None:
            self._route_back(tx, gateway, message, now_ms)
        if row is None or row["state"] not in OPEN:
            return
        if not self._core.registry.serves(gateway, row["target"]):
            raise Rejected("answers a command of another site")
        before = (row["state"], row["doc"])
        status = message["status"]
        row["state"] = "failed" if status == "failed" else "acknowledged"
        told = {"status": status, "reason": message.get("reason"), "ended": self._core.utc_ms(now_ms)}
        if message.get("result") is not None:
            told["result"] = message["result"]
        row["doc"] = row["doc"] | told
        tx.upsert("commands", row)
        tx.after.append(lambda _: self._on_answered(row))
        tx.undo.append(lambda: row.update(state=before[0], doc=before[1]))

    def _route_back(self, tx: Transaction, gateway: str, message: Message, now_ms: int) -> None:
        """The answer to a gateway's own command, whose id begins with the gateway's; its node is elsewhere by now."""
        owner, node = message["id"].partition(":")[0], str(message.get("target"))
        registry = self._core.registry
        if owner == gateway or owner not in registry.gateways or node not in registry.nodes:
            return
        if registry.serves(gateway, node) and registry.serves(owner, node):
            params = {"id": message["id"], "node": node, "status": message["status"]}
            self.add(tx, "answered", owner, params, "fleet", ANSWERED_TTL_MS, now_ms, f"answered:{message['id']}")

    def _on_answered(self, row: Message) -> None:
        if self._open.pop(row["id"], None) is None:
            return
        fields = {"id": row["id"], "action": row["doc"]["action"], "target": row["target"]}
        told = {"reason": row["doc"]["reason"]} if row["state"] == "failed" else {"status": row["doc"]["status"]}
        self._core.event(f"command.{row['state']}", fields | told)
        if row["doc"]["action"] == "config" and row["state"] == "acknowledged":
            self._core.members.on_configured(row)

    @property
    def waiting(self) -> int:
        """How many commands nobody has answered."""
        return len(self._open)

    def show(self, command_id: str, row: Message | None) -> None:
        """Another core has changed the command to this; None when it is no more."""
        for rows, kept in ((self.rows, row), (self._open, row if row and row["state"] in OPEN else None)):
            if kept is None:
                rows.pop(command_id, None)
            else:
                rows[command_id] = kept

    def open_for(self, target: str) -> list[Message]:
        """The commands that `target` has not answered, oldest first."""
        return [row for row in self._open.values() if row["target"] == target]

    def hand_out(self, target: str, most: int, now_ms: int) -> list[Message]:
        """What waits for a target that fetches its commands; again while it does not answer."""
        self._expire(now_ms)
        due_ms = now_ms - self._core.config.poll_again_ms
        found = [row for row in self.open_for(target) if self._sent_ms.get(row["id"], due_ms) <= due_ms][:most]
        for row in found:
            self._sent_ms[row["id"]] = now_ms
            self._mark_sent(row)
        return found

    def cancel(self, tx: Transaction, target: str, reason: str, now_ms: int) -> None:
        """What `target` has not answered fails, if `tx` is committed."""
        for row in self.open_for(target):
            ended = {"reason": reason, "ended": self._core.utc_ms(now_ms)}
            tx.upsert("commands", row | {"state": "failed", "doc": row["doc"] | ended})
            tx.after.append(partial(self._on_cancelled, row, ended))

    def _on_cancelled(self, row: Message, ended: Message, _now_ms: int) -> None:
        if row["state"] in OPEN:
            row |= {"state": "failed", "doc": row["doc"] | {"status": None} | ended}
            self._on_answered(row)

    def on_gateway(self, gateway: str, now_ms: int) -> None:
        """The gateway is (back) there: send what waits for it at once."""
        for row in self._open.values():
            if self._core.registry.gateway_of(row["target"]) == gateway:
                self._sent_ms.pop(row["id"], None)
        self.due_ms = now_ms if self._open else None

    def on_timer(self, now_ms: int) -> None:
        """Send (again) and expire."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        self._expire(now_ms)
        for row in list(self._open.values()):
            self._send(row, now_ms)
        self._arm(now_ms)

    def _expire(self, now_ms: int) -> None:
        utc_ms = self._core.utc_ms(now_ms)
        for row in list(self._open.values()):
            if utc_ms > row["doc"]["expires_utc_ms"]:
                self._end(row, "expired", {}, now_ms)

    def _check(self, action: str, target: str, params: Message, ttl_ms: int) -> None:
        if not self._core.registry.knows(target):
            raise UnknownTarget(f"no node or gateway is called {target!r}")
        if not valid_id(action):
            raise InvalidCommand(f"{action!r} is not the name of an action")
        if len(json.dumps(params)) > MAX_PARAMS_BYTES:  # as the gateway writes them for the node: ASCII
            raise InvalidCommand(f"the parameters are longer than {MAX_PARAMS_BYTES} bytes")
        if not 0 < ttl_ms <= MAX_TTL_MS:
            raise InvalidCommand("the lifetime is not between 1 ms and 7 days")

    def _on_queued(self, row: Message, now_ms: int) -> None:
        self._open[row["id"]] = row
        fields = {"id": row["id"], "action": row["doc"]["action"], "target": row["target"], "by": row["doc"]["by"]}
        self._core.event("command.queued", fields)
        self._send(row, now_ms)
        self._arm(now_ms)

    def _forget(self, row: Message) -> None:
        """The command was not stored, so it never was one: it may be asked for again, with the same key."""
        self._by_key.pop(row["doc"]["key"], None)
        row["state"] = "failed"
        row["doc"] = row["doc"] | {"reason": "not stored"}

    def _send(self, row: Message, now_ms: int) -> None:
        core = self._core
        gateway = core.registry.gateway_of(row["target"])
        sent_ms = self._sent_ms.get(row["id"])
        waits = sent_ms is not None and now_ms - sent_ms < core.config.command_again_ms
        if gateway is None or waits or not core.health.reachable(gateway):
            return
        self._sent_ms[row["id"]] = now_ms
        doc = row["doc"]
        message: Message = {"v": uplink.VERSION, "id": row["id"], "action": doc["action"], "params": doc["params"]}
        message |= {"by": "cloud", "expires_utc_ms": doc["expires_utc_ms"]}
        if row["target"] != gateway:
            message["target"] = row["target"]
        core.send(gateway, "cmd", uplink.encode(message))
        self._mark_sent(row)

    def _mark_sent(self, row: Message) -> None:
        if row["state"] == "queued":
            row["state"] = "sent"
            self._core.stores.persist([("upsert", "commands", dict(row))], None)
            fields = {"id": row["id"], "action": row["doc"]["action"], "target": row["target"]}
            self._core.event("command.sent", fields)

    def _end(self, row: Message, state: str, told: Message, now_ms: int) -> None:
        row["state"] = state
        row["doc"] = row["doc"] | told | {"ended": self._core.utc_ms(now_ms)}
        self._open.pop(row["id"], None)
        self._core.stores.persist([("upsert", "commands", dict(row))], None)
        fields = {"id": row["id"], "action": row["doc"]["action"], "target": row["target"]}
        self._core.event(f"command.{state}", fields | told)

    def _keep(self, row: Message) -> None:
        self.rows[row["id"]] = row
        if row["doc"]["key"]:
            self._by_key[row["doc"]["key"]] = row["id"]
        if len(self.rows) > self._core.config.kept_commands:
            ended = next((key for key, kept in self.rows.items() if kept["state"] in ENDED), None)
            if ended is not None:
                self._by_key.pop(self.rows.pop(ended)["doc"].get("key"), None)

    def _arm(self, now_ms: int) -> None:
        """Every open command is looked at when the first of them is due again."""
        core = self._core
        due_ms = []
        for row in self._open.values():
            expires_ms = now_ms + max(0, row["doc"]["expires_utc_ms"] - core.utc_ms(now_ms)) + 1
            sent_ms = self._sent_ms.get(row["id"], now_ms)
            again_ms = sent_ms + core.config.command_again_ms
            # One that is due and was not sent has no gateway to go through: `on_gateway` hurries it when there is.
            due_ms.append(min(expires_ms, again_ms if again_ms > now_ms else now_ms + core.config.command_again_ms))
        self.due_ms = min(due_ms, default=None)
