"""The Wi-Fi of a board: associated while somebody wants it, tried again with back-off, and MQTT on top of it."""

from firmware.wire.backoff import Backoff

ATTEMPT_MS = 20000
LOOK_MS = 250  # how often the state of an attempt is looked at
# As stock MicroPython names them; no board has all. What is not a failure is an attempt under way.
_FAILURES = (
    ("STAT_WRONG_PASSWORD", "the password is wrong"),
    ("STAT_NO_AP_FOUND", "no network of this name is in reach"),
    ("STAT_ASSOC_FAIL", "the access point refuses"),
    ("STAT_HANDSHAKE_TIMEOUT", "the access point falls silent: perhaps the password is wrong"),
    ("STAT_BEACON_TIMEOUT", "the access point fell silent"),
    ("STAT_CONNECT_FAIL", "the access point cannot be joined"),
)


class Wifi:
    """The station interface; times are those of the wall."""

    def __init__(self, network, ssid: str, password: str, rng, log) -> None:
        """`network` is MicroPython's module. The password is told to nobody else."""
        self.up = False
        self._network = network
        self._station = network.WLAN(network.STA_IF)
        self._ssid = ssid
        self._password = password
        self._backoff = Backoff(rng)
        self._log = log
        self._due_ms: int | None = 0  # the next attempt; None while one is under way or it is up
        self._end_ms = 0  # of the attempt

    def address(self) -> str:
        """The board's IPv4 address."""
        return str(self._station.ifconfig()[0])

    def next_deadline(self, now_ms: int) -> int:
        """When to `serve` next."""
        return now_ms + LOOK_MS if self._due_ms is None else self._due_ms

    def serve(self, now_ms: int) -> None:
        """Look how it stands, and try again when it is time."""
        if self._station.isconnected():
            self._joined()
            return
        if self.up:
            self.up = False
            self._log("the Wi-Fi %s is gone" % self._ssid)
            self._due_ms = now_ms
        elif self._due_ms is None:
            self._look(now_ms)
        if self._due_ms is not None and now_ms >= self._due_ms:
            self._try(now_ms)

    def off(self) -> None:
        """Radio off, until the next `serve`."""
        self._station.disconnect()
        self._station.active(False)
        self.up = False
        self._due_ms = 0

    def _joined(self) -> None:
        if not self.up:
            self.up = True
            self._due_ms = None
            self._backoff.reset()
            self._log("the Wi-Fi %s is up, the address is %s" % (self._ssid, self.address()))

    def _look(self, now_ms: int) -> None:
        status = self._station.status()
        for name, reason in _FAILURES:
            if status == getattr(self._network, name, None):
                self._fail(reason, now_ms)
                return
        if now_ms >= self._end_ms:
            self._fail("no answer within %d s" % (ATTEMPT_MS // 1000), now_ms)

    def _try(self, now_ms: int) -> None:
        self._due_ms = None
        self._end_ms = now_ms + ATTEMPT_MS
        try:
            self._station.active(True)
            self._station.connect(self._ssid, self._password)
        except (OSError, RuntimeError) as error:
            self._fail(str(error), now_ms)

    def _fail(self, reason: str, now_ms: int) -> None:
        delay_ms = self._backoff.next_ms()
        self._due_ms = now_ms + delay_ms
        self._log("the Wi-Fi %s: %s; again in %d s" % (self._ssid, reason, (delay_ms + 999) // 1000))
        try:
            self._station.disconnect()
        except OSError:
            pass  # it was not connected


class WifiLink:
    """An `MqttLink` whose attempts wait until the Wi-Fi is up, and that goes down with it."""

    def __init__(self, wifi: Wifi, link) -> None:
        self._wifi = wifi
        self._link = link
        self._wanted = ""  # where to connect once it is up
        self._began = False
        self.target = ""

    def connect(self, target: str, now_ms: int) -> None:
        """As an `MqttLink`."""
        self._link.disconnect()
        self.target = self._wanted = target
        self._began = False

    def disconnect(self) -> None:
        """As an `MqttLink`."""
        self._wanted = ""
        self._began = False
        self._link.disconnect()

    def send(self, topic: str, payload: bytes, now_ms: int) -> bool:
        """As an `MqttLink`."""
        return bool(self._link.send(topic, payload, now_ms))

    def next_deadline(self) -> "int | None":
        """As an `MqttLink`; of the Wi-Fi the board itself asks."""
        return self._link.next_deadline()

    def serve(self, now_ms: int) -> list:
        """As an `MqttLink`."""
        if not self._wifi.up:
            if not self._began:
                return []  # the core gives the attempt up when it has had enough
            self.disconnect()
            return [("down", "the Wi-Fi is gone")]
        if self._wanted:
            self._link.connect(self._wanted, now_ms)
            self._wanted = ""
            self._began = True
        events = self._link.serve(now_ms)
        for event in events:
            if event[0] == "down":
                self._began = False
        return list(events)
