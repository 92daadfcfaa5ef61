"""The node: samples, publishes, keeps until acknowledged, obeys commands once, finds a gateway.

A node is silent until its boot number is on flash: otherwise a second power loss could give two readings one
identity. From then on everything is a deadline or an input; nothing here reads a clock or touches the hardware.
"""

from firmware.core.attachment import DOWN, UP, Attachment, first_attachment
from firmware.core.backlog import Backlog, Record, runs
from firmware.core.battery import Battery
from firmware.core.commands import Commands
from firmware.core.presence import Presence
from firmware.core.rules import LocalRules
from firmware.core.sensors import Sensor
from firmware.core.settings import Settings
from firmware.core.stores import Stores
from firmware.wire import messages
from firmware.wire.auth import Sealer
from firmware.wire.outputs import Alarm, Connect, Disconnect, Event, Sample, Scan, Send, Store
from firmware.wire.sealing import seal
from firmware.wire.topics import topic

BACKLOG_READINGS = 1000


class NodeCore:
    """See `firmware.core`. Port `up` is the connection to the gateway."""

    def __init__(self, config: dict, flash: dict, rng, now_ms: int) -> None:
        """`config`: id, fleet, key, home {id, target}, sensors; optional type, version, heartbeat_ms, backlog_readings,
        free_memory_kb, battery_mv, low_battery_mv, wired (its gateway is at the end of a cable: no beacons, no scan),
        rules (see `firmware.core.rules`), and for sealed sensors `seal_block`: AES under the node's sealing key.

        `flash`: {"slots": {...}, "readings": [...]} as restored."""
        slots = flash.get("slots", {})
        self.id: str = config["id"]
        self.fleet: str = config["fleet"]
        self._wired: bool = config.get("wired", False)
        self.boot = messages.next_boot(slots.get("boot"), rng)
        self.backlog = Backlog(config.get("backlog_readings", BACKLOG_READINGS), flash.get("readings", []))
        self.sensors = [Sensor(sensor, now_ms) for sensor in config["sensors"]]
        self._sealer = Sealer(config["key"])
        self._seal_block = config.get("seal_block")
        if self._seal_block is None and any([sensor.sealed for sensor in self.sensors]):
            raise ValueError("a sensor is sealed, and there is no sealing key")
        self.topics = {name: topic(self.id, name) for name in ("heartbeat", "beacon", "ack", "cmd", "received")}
        for sensor in self.sensors:
            self.topics[sensor.metric] = topic(self.id, sensor.metric)
        self.commands = Commands(self, slots.get("journal"), now_ms)
        self.home: dict = config["home"]
        attach = first_attachment(slots.get("attach"), self.home, self._wired)
        self.link = Attachment(attach["gateway"], attach["n"], rng, now_ms)
        self.presence = Presence(self, config, now_ms)
        self.rules = LocalRules(self, config.get("rules") or [])
        self.alarm_by = ""  # who sounded the alarm, while it sounds
        self.settings = Settings(self, slots.get("config"), self.presence.heartbeat_ms, now_ms)
        self.battery = Battery(self, config.get("low_battery_mv"))
        self.start_ms = now_ms
        self.next_seq = 0
        self._running = False
        self._outputs: list = []
        self.stores = Stores(self)
        if attach["n"] > (slots.get("attach") or attach)["n"]:
            self.stores.later(("put", "attach", attach))
        self.stores.persist(("put", "boot", self.boot), self._begin)

    # --- inputs ---------------------------------------------------------------------------------------------------

    def receive(self, port: str, name: str, payload: bytes, now_ms: int) -> None:
        """A message from the gateway."""
        if not self._running:
            return
        body = self._sealer.open(name, payload)
        if name == self.topics["received"]:
            found = body and messages.decode_received(body)
            if found:
                self._on_received(found, now_ms)
        elif name == self.topics["cmd"]:
            found = body and messages.decode_command(body)
            if found:
                self.commands.on_command(found, now_ms)
        else:
            found = None
        if not found:
            self.event("message.rejected", {"topic": name, "reason": "not authentic" if body is None else "malformed"})

    def link_up(self, port: str, now_ms: int) -> None:
        """Connected and subscribed: join with a heartbeat, then answer old commands and send the backlog."""
        self.link.up()
        self.presence.send_heartbeat(now_ms)
        self.commands.answer_old(now_ms)
        self.backlog.link_up(now_ms)

    def link_down(self, port: str, now_ms: int) -> None:
        """The attempt failed or the connection is lost."""
        self.backlog.link_down()
        self.link.down(now_ms)

    def sampled(self, index: int, value: object, now_ms: int) -> None:
        """Sensor `index` read `value` (an integer in the metric's resolution, a boolean, a text; None: it failed)."""
        if not self._running:
            return
        sensor = self.sensors[index]
        fault = sensor.check(value) or ("stuck" if sensor.stuck_ms and sensor.stuck(value, now_ms) else "")
        if fault:
            if fault != sensor.fault:
                said = None if sensor.sealed else sensor.number(value)
                self.event("sensor.fault", {"metric": sensor.metric, "reason": fault, "value": said})
            sensor.fault = fault
            return
        sensor.fault = ""
        self._keep(sensor, value, now_ms)

    def found(self, gateways: "list[dict]", now_ms: int) -> None:
        """The answer to a scan: gateways as `{"id", "target", "fleet", "role", "load"}`."""
        if now_ms - self.link.heard_ms < self.link.silent_ms:
            return  # the gateway spoke up meanwhile
        best = self.link.choose(gateways, self.fleet)
        if best is None:
            if self.link.state == UP:  # perhaps the connection is dead and nobody said so
                self._leave(now_ms)
                self.link.down(now_ms)
            return
        self.move(best, now_ms)

    def move(self, gateway: dict, now_ms: int) -> None:
        """Belong to `gateway` from now on; connect once that is on flash."""
        self._leave(now_ms)
        self.link.move(gateway, now_ms)
        self.link.connect_due_ms = None
        slot = {"n": self.link.attach, "gateway": gateway}
        self.stores.persist(("put", "attach", slot), self._connect)

    def stored(self, token: int, now_ms: int) -> None:
        """The Store with this token is durable."""
        self.stores.stored(token, now_ms)

    def store_failed(self, token: int, reason: str, now_ms: int) -> None:
        """The Store with this token could not be made durable: what depends on it does not happen."""
        self.stores.failed(token, reason, now_ms)

    def refused(self, writes: list, reason: str, now_ms: int) -> None:
        """Flash refused writes of a Store without token."""
        self.stores.refused(writes, reason, now_ms)

    def stop_sampling(self, now_ms: int) -> None:
        """The end of a rehearsal: no more samples, all else goes on."""
        for sensor in self.sensors:
            sensor.next_ms = None
            sensor.every_ms = None

    def on_timer(self, now_ms: int) -> None:
        """Do all that is due."""
        if self.stores.again:
            self.stores.on_timer(now_ms)
        if not self._running:
            return
        if self.settings.due_ms is not None:
            self.settings.on_timer(now_ms)
        for index, sensor in enumerate(self.sensors):
            if sensor.next_ms is not None and now_ms >= sensor.next_ms:
                sensor.step(now_ms)
                self._outputs.append(Sample(index))
        link = self.link
        if link.state == UP:
            self._speak(now_ms)
        elif link.connect_due_ms is not None and now_ms >= link.connect_due_ms:
            if link.state == DOWN:
                self._connect(now_ms)
            else:
                self._leave(now_ms)
                link.down(now_ms)
        if now_ms >= link.scan_due_ms:
            self._scan(now_ms)

    def next_deadline(self) -> "int | None":
        """When `on_timer` is wanted next, in core milliseconds."""
        again_ms = self.stores.due_ms() if self.stores.again else None
        if not self._running:
            return again_ms
        link = self.link
        due_ms: int = link.scan_due_ms if again_ms is None else min(again_ms, link.scan_due_ms)
        for sensor in self.sensors:
            if sensor.next_ms is not None and sensor.next_ms < due_ms:
                due_ms = sensor.next_ms
        if self.settings.due_ms is not None and self.settings.due_ms < due_ms:
            due_ms = self.settings.due_ms
        if link.state != UP:
            return due_ms if link.connect_due_ms is None else min(due_ms, link.connect_due_ms)
        backlog_ms = self.backlog.due_ms
        if backlog_ms is not None and backlog_ms < due_ms:
            due_ms = backlog_ms
        presence_ms = self.presence.due_ms()
        return presence_ms if presence_ms < due_ms else due_ms

    def take_outputs(self) -> list:
        """What to do since last asked, in order."""
        outputs = self._outputs
        if outputs:
            self._outputs = []
        return outputs

    # --- readings -------------------------------------------------------------------------------------------------

    def _keep(self, sensor: Sensor, value: object, now_ms: int) -> None:
        outputs = self._outputs
        seq = self.next_seq
        self.next_seq = seq + 1
        text = sensor.text(value)
        event = {"boot": self.boot, "seq": seq, "metric": sensor.metric}
        if sensor.sealed:
            text = seal(self._seal_block, self.id, sensor.metric, self.boot, seq, text)
            event["sealed"] = True
        else:
            event["value"] = sensor.number(value)
        record = Record(self.boot, seq, sensor.metric, text, sensor.unit, now_ms, sensor.event)
        flash = [record.metric, record.value, record.unit, now_ms - self.start_ms, record.event]
        outputs.append(Store(None, [("keep", self.boot, seq, flash)]))
        outputs.append(Event("reading.produced", event))
        gone = self.backlog.add(record)
        if gone:
            lost = {"node": self.id, "boot": gone.boot, "seq": gone.seq, "cause": "backlog-full"}
            self.event("reading.lost", lost)
            self.stores.later(("drop", gone.boot, gone.seq, gone.seq))
        if self.link.state == UP:
            self._send_reading(record, now_ms)
        if self.rules.any:
            self.rules.on_reading(sensor.metric, sensor.number(value), seq)

    def _send_reading(self, record: Record, now_ms: int) -> None:
        name = self.topics.get(record.metric) or topic(self.id, record.metric)
        self.publish(name, record.encoded(self.boot, now_ms), now_ms)
        self.backlog.sent(record, now_ms)

    def _on_received(self, found: dict, now_ms: int) -> None:
        if found["boot"] == self.boot and self.presence.is_fresh(found["n"], found.get("upto", -1)):
            self.on_heard(now_ms)
        if "upto" not in found:
            return
        gone = self.backlog.acknowledge(found["boot"], found["from"], found["upto"], found["missing"], now_ms)
        for first, upto in runs(gone):
            self.stores.later(("drop", found["boot"], first, upto))

    # --- the gateway ----------------------------------------------------------------------------------------------

    def _begin(self, now_ms: int) -> None:
        self._running = True
        self.event("node.started", {"boot": self.boot, "backlog": len(self.backlog)})
        self.commands.keep()

    def _connect(self, now_ms: int) -> None:
        self.link.connecting(now_ms)
        self.emit(Connect("up", self.link.gateway["target"]))

    def _leave(self, now_ms: int) -> None:
        self.emit(Disconnect("up"))
        self.backlog.link_down()

    def _scan(self, now_ms: int) -> None:
        silent_ms = now_ms - self.link.heard_ms
        self.link.scanning(now_ms)
        if self._wired:
            return self.found([], now_ms)  # there is no other: begin anew with it
        self.event("failover.scan", {"gateway": self.link.gateway["id"], "silent_ms": silent_ms})
        self.emit(Scan())

    def on_heard(self, now_ms: int) -> None:
        """The gateway said something authentic and new."""
        self.link.heard(now_ms)
        if self.link.joining:
            self.link.joining = False
            self.event("failover.joined", {"gateway": self.link.gateway["id"], "attach": self.link.attach})
        if self.settings.due_ms is not None:
            self.settings.heard(now_ms)

    def heartbeat_interval_ms(self, wanted_ms: int) -> int:
        """How often the heartbeat comes when it shall come every `wanted_ms`."""
        return wanted_ms

    def _speak(self, now_ms: int) -> None:
        """Connected: heartbeat, backlog and beacon, whichever is due; the first two can stand for the third."""
        presence = self.presence
        if now_ms >= presence.heartbeat_due_ms:
            presence.beat(now_ms)
        if self.backlog.due_ms is not None and now_ms >= self.backlog.due_ms:
            for record in self.backlog.take(now_ms):
                self._send_reading(record, now_ms)
        if now_ms >= presence.due_ms():
            presence.beacon(now_ms)

    def sound(self, on: bool, by: str, fields: dict) -> None:
        """Sound or silence the alarm."""
        self.alarm_by = by if on else ""
        self.emit(Alarm(on, by))
        told = {"by": by}
        told.update(fields)
        self.event("alarm.local" if on else "alarm.silenced", told)

    # --- plumbing -------------------------------------------------------------------------------------------------

    def emit(self, output) -> None:
        """Ask the host for something."""
        self._outputs.append(output)

    def publish(self, name: str, payload: bytes, now_ms: int) -> None:
        """Send a message to the gateway; nothing is sent while there is no connection."""
        if self.link.state == UP:
            self.presence.published_ms = now_ms
            self._outputs.append(Send("up", name, payload))

    def event(self, kind: str, fields: dict) -> None:
        """Say what happened."""
        self.emit(Event(kind, fields))
