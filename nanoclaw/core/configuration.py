"""The configuration that the cloud pushes: durable first, then in force, then confirmed."""

from typing import TYPE_CHECKING

from firmware.wire.auth import mqtt_password
from firmware.wire.outputs import Credentials
from fleet.wire import snapshot, uplink
from fleet.wire.rule import ALL
from fleet.wire.uplink import Message, Rejected
from nanoclaw.core.roster import Node

MAX_REASON_CHARS = 200
ABLE = frozenset(ALL)

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore


class Configuration:
    """The snapshot in force: the rules, and who the nodes are."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self.version = 0
        self.hash = ""
        self.places: Message = {"homes": {}, "groups": {}, "members": {}}
        """Where nodes belong (`fleet.wire.snapshot`)."""
        self.refused: Message | None = None
        """The version that could not be taken, and why; the one before it stays in force."""

    def restore(self, kept: str, now_ms: int) -> None:
        """The snapshot that was in force before the gateway restarted."""
        core = self._core
        try:
            found, keys = snapshot.read(kept.encode(), core.id, core.config.key, ABLE)
        except Rejected as error:  # only from disk: what the cloud sends is checked before it is kept
            core.reject("snapshot", str(error))
            return
        self._apply(found, keys, now_ms)

    def on_config(self, payload: bytes, now_ms: int) -> None:
        """A snapshot from the cloud. Raises Rejected."""
        core = self._core
        try:
            found, keys = snapshot.read(payload, core.id, core.config.key, ABLE)
        except snapshot.BadRules as error:
            self._refuse(error.version, str(error))
            raise
        if found["hash"] == self.hash:
            self._confirm()
            return

        def apply(at_ms: int) -> None:
            self._apply(found, keys, at_ms)
            self._confirm()

        core.stores.persist([("put", "snapshot", payload.decode())], apply)

    def _refuse(self, version: int, reason: str) -> None:
        """Say once of a version why it is not taken."""
        refused = {"version": version, "reason": reason[:MAX_REASON_CHARS]}
        if refused != self.refused:
            self.refused = refused
            self._core.event("config.refused", refused)

    def _confirm(self) -> None:
        confirmed = {"v": uplink.VERSION, "version": self.version, "hash": self.hash}
        self._core.send_hub("config/ack", uplink.encode(confirmed))

    def _apply(self, found: Message, keys: dict[str, bytes], now_ms: int) -> None:
        core = self._core
        self.version, self.hash = found["version"], found["hash"]
        self.places, self.refused = found["places"], None
        gone = core.nodes.keys() - keys.keys()
        core.nodes = {
            node_id: core.nodes.get(node_id) or Node(node_id, key, core.slots.get(f"node:{node_id}"), now_ms)
            for node_id, key in keys.items()
        }
        for node_id, key in keys.items():
            core.nodes[node_id].rekey(key)
        core.decisions.set_rules(found["rules"], now_ms)
        for node_id in gone:
            core.decisions.on_left(node_id, now_ms)
        if core.lora is not None:
            core.lora.configure(found["answers"], now_ms)
        core.monitor.reschedule(now_ms)
        core.emit(Credentials({node_id: mqtt_password(key) for node_id, key in keys.items()}))
        core.event("config.applied", {"version": self.version, "hash": self.hash})
