"""Signs of life in both directions: heartbeats and beacons out, and what proves that the gateway is there."""

from firmware.wire.messages import encode_beacon, encode_health, encode_heartbeat

VERSION = "0.1.0"
HEARTBEAT_MS = 60000  # specification, failure scenario 3
BEACON_MS = 30000  # specification, fallback mechanism
NEVER_MS = (
    1 << 29
)  # at a cable nobody has to be found: a beacon only asks for an answer when nothing was heard for long
# Ask for a sign of life when nothing was heard for this long: three beacons fit before the gateway counts as lost.
UNHEARD_MS = 70000
UNHEARD_RETRY_MS = 10000


class Presence:
    """The clocks of heartbeat and beacon; `published_ms` is when the node last said anything, which stands for one."""

    def __init__(self, core, config: dict, now_ms: int) -> None:
        self._core = core
        self.heartbeat_ms: int = config.get("heartbeat_ms", HEARTBEAT_MS)
        self.free_memory_kb = config.get("free_memory_kb")
        self.battery_mv = config.get("battery_mv")
        self.low_battery = False
        self.published_ms = now_ms
        self._version: str = config.get("version", VERSION)
        self._n = 0  # heartbeats and beacons of this boot
        self._echoed = 0  # the highest of them that came back
        self._acked_upto = -1
        self._beacon_ms = now_ms
        self._beacon_every_ms = NEVER_MS if config.get("wired") else BEACON_MS
        self.heartbeat_due_ms = now_ms + self.heartbeat_ms // 2  # between samples on the minute: fewer beacons

    def is_fresh(self, n: int, upto: int) -> bool:
        """Whether an answer with these numbers is news of this boot, and no replay of an old one."""
        fresh = n > self._echoed or upto > self._acked_upto
        if n > self._echoed:
            self._echoed = n
        if upto > self._acked_upto:
            self._acked_upto = upto
        return fresh

    def due_ms(self) -> int:
        """When the next heartbeat or beacon is due."""
        due_ms = self.published_ms + self._beacon_every_ms + 1  # what is published at the very instant stands for it
        if self.heartbeat_due_ms < due_ms:
            due_ms = self.heartbeat_due_ms
        if self._core.link.heard_ms + UNHEARD_MS < due_ms:
            unheard_ms = self._unheard_ms()
            return unheard_ms if unheard_ms < due_ms else due_ms
        return due_ms

    def beat(self, now_ms: int) -> None:
        """Send the heartbeat, which is due; the next one stays on the grid."""
        late = (now_ms - self.heartbeat_due_ms) // self.heartbeat_ms
        self.heartbeat_due_ms += self.heartbeat_ms * (1 + late)
        self.send_heartbeat(now_ms)

    def announce(self, heartbeat_ms: int, now_ms: int) -> None:
        """Heartbeats come every `heartbeat_ms` from now on: the gateway has to know before the old ones are missed."""
        self.heartbeat_ms = heartbeat_ms
        self.heartbeat_due_ms = now_ms + heartbeat_ms
        self.send_heartbeat(now_ms)

    def beacon(self, now_ms: int) -> None:
        """Send a beacon, which is due: nothing else was said for its period, or nothing heard for long."""
        core = self._core
        self._n += 1
        self._beacon_ms = now_ms
        core.publish(core.topics["beacon"], encode_beacon(core.fleet, core.boot, self._n, core.link.attach), now_ms)

    def send_heartbeat(self, now_ms: int) -> None:
        """Say how the node is."""
        core = self._core
        self._n += 1
        health = encode_health(self.free_memory_kb, self.battery_mv)
        if self.low_battery:
            health += ',"low_battery":true'
        faults = [sensor.metric for sensor in core.sensors if sensor.fault]
        if faults:
            health += ',"faults":["' + '","'.join(faults) + '"]'
        heartbeat = encode_heartbeat(
            core.fleet,
            core.boot,
            self._n,
            core.link.attach,
            self.heartbeat_ms,
            now_ms - core.start_ms,
            core.next_seq,
            core.backlog.dropped,
            len(core.backlog),
            self._version,
            health,
        )
        core.publish(core.topics["heartbeat"], heartbeat, now_ms)

    def _unheard_ms(self) -> int:
        unheard_ms: int = self._core.link.heard_ms + UNHEARD_MS
        again_ms = self._beacon_ms + UNHEARD_RETRY_MS
        return again_ms if again_ms > unheard_ms else unheard_ms
