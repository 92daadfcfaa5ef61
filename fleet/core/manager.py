"""The fleet manager: registers, stores readings once, evaluates rules, commands nodes, knows who is alive.

Port `hub` is the Event Hub. This class is the switchboard; each concern has a module of its own beside it.
"""

from typing import Any

from firmware.wire.messages import BOOT_BITS
from firmware.wire.outputs import Event, Send
from firmware.wire.topics import split, topic
from fleet.core.agent_events import AgentEvents
from fleet.core.agents import Agents
from fleet.core.air import Air
from fleet.core.alarms import Alarms
from fleet.core.alerts import Alerts
from fleet.core.certificates import Certificates
from fleet.core.commands import Commands
from fleet.core.config import FleetConfig
from fleet.core.configuration import Configuration
from fleet.core.connection import Connection
from fleet.core.health import Health
from fleet.core.ingest import Ingest
from fleet.core.maintenance import Maintenance
from fleet.core.members import Members
from fleet.core.notices import Notice, Notices
from fleet.core.places import Places
from fleet.core.registry import Registry
from fleet.core.reports import Reports
from fleet.core.rows import ReadingRow
from fleet.core.sensitive import Sensitive
from fleet.core.stores import Stores
from fleet.core.summaries import Summaries
from fleet.core.transaction import Transaction
from fleet.core.vault import Vault
from fleet.core.views import Views
from fleet.wire import uplink
from fleet.wire.uplink import Message, Rejected


class FleetCore(Views):
    """See `fleet.core`."""

    def __init__(
        self, config: FleetConfig, restored: dict[str, Any], rng: Any, now_ms: int, vault: Vault | None = None
    ) -> None:
        """`restored`: rows by table, and `seen`: what readings the database holds; `rng`: like `random.Random`;
        `vault`: the keys of sensitive values. Raises VaultError when `restored` needs a key that is not there."""
        self.config = config
        self.boot = int(rng.getrandbits(BOOT_BITS))
        self.stores = Stores(self)
        self.registry = Registry(self, restored.get("gateways", []), restored.get("nodes", []))
        self.configuration = Configuration(self, restored.get("slots", []), rng)
        self.connection = Connection(self, rng, now_ms)
        self.certificates = Certificates(self, restored.get("slots", []))
        self.maintenance = Maintenance(self, restored.get("maintenance", []))
        self.sensitive = Sensitive(self, restored, vault or Vault([], rng.randbytes))
        self.alerts = Alerts(self, restored)
        self.alarms = Alarms(self, now_ms)
        self.commands = Commands(self, restored.get("commands", []))
        self.air = Air(self)
        self.health = Health(self, now_ms)
        self.agents = Agents(self, now_ms)
        self.agent_events = AgentEvents(self, restored.get("agents", []))
        self.members = Members(self, restored.get("retired", []))
        self.places = Places(self, restored.get("sites", []), restored.get("groups", []))
        self.ingest = Ingest(self, restored.get("seen", []))
        self.reports = Reports(self)
        self.summaries = Summaries(self)
        self.notices = Notices(self, restored.get("notifications", []), rng, now_ms)
        self.rejected = 0
        self.knows_utc = False
        self._utc_offset_ms = 0
        self.alerts.set_rules([row["doc"] for row in restored.get("rules", [])], now_ms)
        self._named = 0
        self._outputs: list[Any] = []
        self.commands.on_gateway("", now_ms)
        self.event("fleet.started", {"gateways": len(self.registry.gateways), "nodes": len(self.registry.nodes)})

    # --- inputs ---------------------------------------------------------------------------------------------------

    def receive(self, port: str, name: str, payload: bytes, now_ms: int) -> None:
        """A message from a gateway."""
        self.connection.heard_ms = now_ms
        found = split(name)
        gateway, verb = found or ("", "")
        try:
            if gateway not in self.registry.gateways:
                raise Rejected("unknown gateway")
            self._from_gateway(gateway, verb, payload, now_ms)
        except Rejected as error:
            self.reject(gateway, verb, str(error))

    def link_up(self, port: str, now_ms: int) -> None:
        """Connected to the hub."""
        self.connection.up(now_ms)

    def link_down(self, port: str, now_ms: int) -> None:
        """The attempt failed, or the hub is gone."""
        self.connection.down(now_ms)

    def learn_utc(self, utc_ms: int, now_ms: int) -> None:
        """UTC is `utc_ms` now; it stamps records and drives nothing but the expiry of commands."""
        self._utc_offset_ms = utc_ms - now_ms
        if not self.knows_utc:
            self.knows_utc = True
            self.alerts.learn_utc(now_ms)

    def learn_certificates(self, ends_utc_ms: dict[str, int], now_ms: int) -> None:
        """When the certificates of gateways, and of L3's own parts, run out, by name."""
        self.certificates.on_ends(ends_utc_ms, now_ms)

    def stored(self, token: int, now_ms: int, conflicts: list[ReadingRow] | None = None) -> None:
        """The Store with this token is committed; `conflicts` are copies that differ from what was stored."""
        self.stores.stored(token, now_ms, conflicts or [])

    def store_failed(self, token: int, reason: str, now_ms: int) -> None:
        """The Store with this token was rolled back: what depends on it does not happen."""
        self.stores.store_failed(token, reason, now_ms)

    def notified(self, message_id: str, ok: bool, now_ms: int) -> None:
        """Whether the message of a Notify was accepted."""
        self.notices.notified(message_id, ok, now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Do all that is due."""
        self.stores.on_timer(now_ms)
        self.connection.on_timer(now_ms)
        self.health.on_timer(now_ms)
        self.agents.on_timer(now_ms)
        self.commands.on_timer(now_ms)
        self.alerts.on_timer(now_ms)
        self.alarms.on_timer(now_ms)
        self.notices.on_timer(now_ms)

    def next_deadline(self) -> int | None:
        """When `on_timer` is wanted next, in core milliseconds."""
        concerns = (
            self.stores,
            self.connection,
            self.health,
            self.agents,
            self.commands,
            self.alerts,
            self.alarms,
            self.notices,
        )
        due_ms = [concern.due_ms for concern in concerns]
        return min([at_ms for at_ms in due_ms if at_ms is not None], default=None)

    def take_outputs(self) -> list[Any]:
        """What to do since last asked, in order."""
        outputs = self._outputs
        if outputs:
            self._outputs = []
        return outputs

    # --- the operator's requests ----------------------------------------------------------------------------------

    def add_gateway(self, gateway: Message, now_ms: int) -> None:
        """Register a gateway: id, site, role, key (64 hex digits). Raises ValueError."""
        self.registry.add_gateway(gateway, now_ms)

    def add_node(self, node: Message, now_ms: int) -> None:
        """Register a node: id, type, site, gateway (its home), key (64 hex digits); of one that seals metrics also
        `sealed` and `sealing_key`. Raises ValueError, Conflict."""
        self.registry.add_node(node, now_ms)
        if "sealed" in node:
            self.sensitive.seal_as_listed(node["id"], node["sealed"], node.get("sealing_key"))

    def set_rules(self, rules: list[Message], now_ms: int) -> None:
        """Replace all rules. Raises ValueError."""
        self.configuration.set_rules(rules, now_ms)

    def add_maintenance(self, window: Message, now_ms: int) -> Message:
        """Silence alerts for a while: see `fleet.core.maintenance`; the window's row. Raises ValueError."""
        return self.maintenance.add(window, now_ms)

    def change_maintenance(self, window_id: str, changes: Message, now_ms: int) -> Message:
        """Another end or reason; the window's row. Raises KeyError, Conflict, ValueError."""
        return self.maintenance.change(window_id, changes, now_ms)

    def end_maintenance(self, window_id: str, now_ms: int) -> Message:
        """End a window now, or call it off before it begins; its row. Raises KeyError."""
        return self.maintenance.end(window_id, now_ms)

    def retry_notification(self, message_id: str, now_ms: int) -> Message:
        """Try a dead letter again, from its first attempt; its row. Raises KeyError."""
        return self.notices.retry(message_id, now_ms)

    def discard_notification(self, message_id: str, now_ms: int) -> None:
        """Forget a dead letter. Raises KeyError."""
        self.notices.discard(message_id, now_ms)

    def request_command(
        self, action: str, target: str, params: Message, by: str, ttl_ms: int, now_ms: int, key: str | None = None
    ) -> Message:
        """Send `action` to a node or gateway; the command's row. Raises UnknownTarget, InvalidCommand."""
        return self.command_view(self.commands.request(action, target, params, by, ttl_ms, now_ms, key)["id"])

    def acknowledge_alert(self, alert: str, by: str, now_ms: int) -> Message:
        """Somebody has seen the alert; its row. Raises Unknown."""
        tx = Transaction()
        row = self.alerts.acknowledge(tx, alert, by, self.utc_ms(now_ms))
        if tx.writes:
            fields = {"id": row["id"], "node": row["node"], "by": by}
            tx.after.append(lambda _: self.event("alert.acknowledged", fields))
            self.stores.commit(tx)
        return row

    # --- what the concerns share ----------------------------------------------------------------------------------

    def emit(self, output: Any) -> None:
        """Ask the host for something."""
        self._outputs.append(output)

    def event(self, kind: str, fields: Message) -> None:
        """Say what happened."""
        self._outputs.append(Event(kind, fields))

    def reject(self, gateway: str, verb: str, reason: str) -> None:
        """Count and report a message, or a part of one, that cannot be taken."""
        self.rejected += 1
        self.event("message.rejected", {"topic": topic(gateway, verb), "reason": reason, "from": gateway})

    def send(self, gateway: str, verb: str, payload: bytes) -> None:
        """Send a message to a gateway."""
        self._outputs.append(Send("hub", topic(gateway, verb), payload))

    def acknowledge(self, gateway: str, name: str) -> None:
        """The gateway may forget that batch or report."""
        self.send(gateway, "batch/ack", uplink.encode({"v": uplink.VERSION, "batch": name}))

    def utc_ms(self, now_ms: int) -> int:
        """UTC at `now_ms`."""
        return now_ms + self._utc_offset_ms

    def new_name(self, kind: str) -> str:
        """An id that this manager gives once, restarts included."""
        self._named += 1
        return f"{kind}-{self.boot:x}-{self._named}"

    def notify(self, tx: Transaction, notice: Notice) -> None:
        """Tell people."""
        self.notices.add(tx, notice)

    # --- where messages go ----------------------------------------------------------------------------------------

    def _from_gateway(self, gateway: str, verb: str, payload: bytes, now_ms: int) -> None:
        if verb != "heartbeat":  # which is answered first
            self.health.on_gateway(gateway, now_ms)
        if verb == "batch":
            self.ingest.on_batch(gateway, payload, now_ms)
        elif verb == "batch/gz":
            self.ingest.on_batch(gateway, uplink.decompress(payload), now_ms)
        elif verb == "heartbeat":
            self.health.on_heartbeat(gateway, uplink.decode(payload), now_ms)
        elif verb == "status":
            self.reports.on_status(gateway, uplink.decode(payload), now_ms)
        elif verb == "ack":
            self.reports.on_answer(gateway, uplink.decode(payload), now_ms)
        elif verb == "config/ack":
            self.configuration.on_ack(gateway, uplink.decode(payload))
        else:
            raise Rejected("not a topic for the fleet manager")
