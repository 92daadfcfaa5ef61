"""The client's side of MQTT 3.1.1 (OASIS standard, 29 October 2014), pushed bytes and time, bounded in memory.

One `Client` is one connection from CONNECT to its end: it logs in, subscribes, and is up. Sessions are clean, so
nothing is sent again after a reconnect: that is the application's business. QoS 0 and 1, a will, keepalive; no QoS 2.
"""

import struct

MAX_PACKET_BYTES = 1024  # a node message has 512 bytes at most
MAX_UNSENT_BYTES = 4096
MAX_UNACKNOWLEDGED = 16
PING_TIMEOUT_MS = 10000

_REFUSALS = (
    "",
    "it wants another protocol version",
    "it does not accept this client id",
    "it is not available",
    "bad user name or password",
    "not authorised",
)
_CONNACK, _PUBLISH, _PUBACK, _SUBACK, _PINGRESP = 0x20, 0x30, 0x40, 0x90, 0xD0


class MqttError(Exception):
    """The peer broke the protocol, refused, or is silent: the connection is of no more use. The message says why."""


class Client:
    """A connection to a broker.

    `out` (a bytearray) is what to send next; say `sent(count)` when the network has taken some. `receive(data, now_ms)`
    gives what comes of the peer's bytes, a list of `("up",)` once subscribed, `("message", topic, payload)`,
    `("acknowledged", packet_id)` and `("rejected", reason)` for a message that was thrown away.
    """

    def __init__(
        self,
        client_id: str,
        password: bytes,
        subscriptions: "list[str]",
        now_ms: int,
        keepalive_s: int = 60,
        will: "tuple[str, bytes] | None" = None,
        qos: int = 0,
    ) -> None:
        """The client id is the user name too; an empty password logs in as nobody. `qos` is that of the subscriptions;
        the will is sent with it."""
        self.up = False
        self.out = bytearray(_connect(client_id, password, keepalive_s, will, qos))
        self._subscriptions = subscriptions
        self._qos = qos
        self._keepalive_ms = keepalive_s * 1000
        self._in = bytearray()
        self._skip = 0  # bytes still to come of a packet that is too long
        self._packet_id = 0
        self._unacknowledged: list[int] = []
        self._connected = False
        self._spoke_ms = now_ms
        self._pinged_ms: int | None = None

    def publish(self, topic: str, payload: bytes, now_ms: int, qos: int = 0) -> "int | None":
        """Queue a message; its packet id (0 with QoS 0), or None when too much is waiting or the client is not up."""
        if not self.up or (qos and len(self._unacknowledged) >= MAX_UNACKNOWLEDGED):
            return None
        packet_id = self._next_id() if qos else 0
        packet = publish_packet(topic, payload, qos, packet_id)
        if len(self.out) + len(packet) > MAX_UNSENT_BYTES:
            return None
        if qos:
            self._unacknowledged.append(packet_id)
        self._queue(packet, now_ms)
        return packet_id

    def disconnect(self) -> None:
        """Say goodbye, so that the will is not sent."""
        self.out += b"\xe0\x00"

    def sent(self, count: int) -> None:
        """The network has taken the first `count` bytes of `out`."""
        self.out = self.out[count:]

    def next_deadline(self) -> "int | None":
        """When `on_timer` is wanted next, in the milliseconds of `now_ms`."""
        if self._pinged_ms is not None:
            return self._pinged_ms + PING_TIMEOUT_MS
        return self._spoke_ms + self._keepalive_ms if self._connected and self._keepalive_ms else None

    def on_timer(self, now_ms: int) -> None:
        """Ping when nothing was said for the keepalive; raises `MqttError` when the last ping was not answered."""
        due_ms = self.next_deadline()
        if due_ms is None or now_ms < due_ms:
            return
        if self._pinged_ms is not None:
            raise MqttError("no answer to a ping")
        self._pinged_ms = now_ms
        self._queue(b"\xc0\x00", now_ms)

    def receive(self, data: bytes, now_ms: int) -> list:
        """Bytes from the peer, cut anywhere. Raises `MqttError`."""
        events: list = []
        self._in += data
        while True:
            if self._skip:
                gone = min(self._skip, len(self._in))
                self._in = self._in[gone:]
                self._skip -= gone
            found = _split(self._in)
            if found is None or self._skip:
                return events
            head, begin, size = found
            if size > MAX_PACKET_BYTES:
                events.append(("rejected", "a packet of %d bytes" % size))
                self._in = self._in[begin:]
                self._skip = size
                continue
            if len(self._in) < begin + size:
                return events
            body = bytes(self._in[begin : begin + size])
            self._in = self._in[begin + size :]
            self._on_packet(head, body, events, now_ms)

    def _on_packet(self, head: int, body: bytes, events: list, now_ms: int) -> None:
        kind = head & 0xF0
        if not self._connected:
            if head != _CONNACK:
                raise MqttError("its first packet is no CONNACK")
            self._on_connack(body, now_ms)
        elif kind == _PUBLISH:
            self._on_publish(head, body, events, now_ms)
        elif head == _SUBACK:
            self._on_suback(body, events)
        elif head == _PUBACK:
            self._on_puback(body, events)
        elif head == _PINGRESP and not body:
            self._pinged_ms = None
        else:
            raise MqttError("a packet that no broker sends: 0x%02x with %d bytes" % (head, len(body)))

    def _on_connack(self, body: bytes, now_ms: int) -> None:
        if len(body) != 2:
            raise MqttError("a CONNACK of %d bytes" % len(body))
        if body[1]:
            raise MqttError("refused: " + (_REFUSALS[body[1]] if body[1] < len(_REFUSALS) else "code %d" % body[1]))
        self._connected = True
        self._queue(subscribe_packet(self._subscriptions, self._qos, self._next_id()), now_ms)

    def _on_suback(self, body: bytes, events: list) -> None:
        if len(body) != 2 + len(self._subscriptions) or self.up:
            raise MqttError("a SUBACK that answers no SUBSCRIBE")
        if 0x80 in body[2:]:
            raise MqttError("it refused a subscription")
        self.up = True
        events.append(("up",))

    def _on_puback(self, body: bytes, events: list) -> None:
        if len(body) != 2:
            raise MqttError("a PUBACK of %d bytes" % len(body))
        packet_id = int.from_bytes(body, "big")
        if packet_id in self._unacknowledged:
            self._unacknowledged.remove(packet_id)
            events.append(("acknowledged", packet_id))

    def _on_publish(self, head: int, body: bytes, events: list, now_ms: int) -> None:
        qos = head >> 1 & 3
        begin = 2 + int.from_bytes(body[:2], "big")
        end = begin + (2 if qos else 0)
        if qos > 1 or len(body) < end:
            raise MqttError("a PUBLISH that is none")
        if qos:
            self._queue(b"\x40\x02" + body[begin:end], now_ms)
        try:
            topic = body[2:begin].decode()
        except ValueError:
            events.append(("rejected", "a topic that is not UTF-8"))
        else:
            events.append(("message", topic, body[end:]))

    def _queue(self, packet: bytes, now_ms: int) -> None:
        """Answers count too: a peer that asks for more of them than the network takes away is cut off."""
        if len(self.out) + len(packet) > 2 * MAX_UNSENT_BYTES:
            raise MqttError("it takes nothing in")
        self.out += packet
        self._spoke_ms = now_ms

    def _next_id(self) -> int:
        self._packet_id = self._packet_id % 65535 + 1
        while self._packet_id in self._unacknowledged:
            self._packet_id = self._packet_id % 65535 + 1
        return self._packet_id


def publish_packet(topic: str, payload: bytes, qos: int, packet_id: int) -> bytes:
    """A PUBLISH; `packet_id` is used with QoS 1 only."""
    body = _string(topic.encode()) + (struct.pack(">H", packet_id) if qos else b"") + payload
    return _packet(_PUBLISH | qos << 1, body)


def subscribe_packet(patterns: "list[str]", qos: int, packet_id: int) -> bytes:
    """A SUBSCRIBE to all `patterns`."""
    body = struct.pack(">H", packet_id)
    for pattern in patterns:
        body += _string(pattern.encode()) + bytes([qos])
    return _packet(0x82, body)


def _connect(client_id: str, password: bytes, keepalive_s: int, will: "tuple[str, bytes] | None", qos: int) -> bytes:
    flags = 0x02  # a clean session
    payload = _string(client_id.encode())
    if will:
        flags |= 0x04 | qos << 3
        payload += _string(will[0].encode()) + _string(will[1])
    if password:
        flags |= 0xC0
        payload += _string(client_id.encode()) + _string(password)
    return _packet(0x10, b"\x00\x04MQTT\x04" + struct.pack(">BH", flags, keepalive_s) + payload)


def _string(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _packet(head: int, body: bytes) -> bytes:
    size = len(body)
    encoded = bytearray([head])
    while True:
        size, digit = size >> 7, size & 0x7F
        encoded.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(encoded) + body


def _split(data: bytearray) -> "tuple[int, int, int] | None":
    """(first byte, where the body begins, its length) of the packet that `data` begins with; None: more is needed."""
    size = 0
    for at in range(1, min(len(data), 5)):
        size |= (data[at] & 0x7F) << 7 * (at - 1)
        if data[at] < 0x80:
            return data[0], at + 1, size
    if len(data) >= 5:
        raise MqttError("a length of more than four bytes")
    return None
