"""The node's connection to its gateway over a UART: `firmware.wire.serial_session` on a port that never blocks."""

from firmware.wire.serial import SESSION_BITS
from firmware.wire.serial_session import NodeSession

SEND_AGAIN_MS = 5  # the port does not say when it takes more


class SerialLink:
    """One session after another, each begun when told to; nothing is heard of one that was dropped.

    `port` has `read()`, which gives the bytes that have come, perhaps none, and `write(data)`, which tells how many of
    them it took.
    """

    def __init__(self, port, who: str, key: bytes, rng) -> None:
        """`who` is the node's id and `key` its pre-shared key."""
        self.target = ""
        self._port = port
        self._who = who
        self._key = key
        self._rng = rng
        self._session: NodeSession | None = None
        self._again_ms = 0  # when the port is asked again to take what it did not take

    def connect(self, target: str, now_ms: int) -> None:
        """Begin an attempt; `target` is but a name, for the line leads where it leads."""
        self.target = target
        self._session = NodeSession(self._who, self._key, self._rng.getrandbits(SESSION_BITS), now_ms)

    def disconnect(self) -> None:
        """Drop the connection or the attempt."""
        if self._session is not None:
            self._session.disconnect()
            self._session = None

    def send(self, topic: str, payload: bytes, now_ms: int) -> bool:
        """Publish; False when the session is not up or too much waits already."""
        return self._session is not None and self._session.publish(topic, payload, now_ms) is not None

    def next_deadline(self) -> "int | None":
        """When `serve` is wanted though nothing may have come."""
        if self._session is None:
            return None
        return self._again_ms if self._session.out else self._session.next_deadline()

    def serve(self, now_ms: int) -> list:
        """Move bytes both ways; gives the session's events, of which `("down", reason)` is the last."""
        data = self._port.read()
        session = self._session
        if session is None:
            return []
        events = session.receive(data, now_ms) if data else []
        events += session.on_timer(now_ms)
        if session.out:
            session.sent(self._port.write(session.out))
        self._again_ms = now_ms + SEND_AGAIN_MS if session.out else 0
        if events and events[-1][0] == "down":
            self._session = None
        return events
