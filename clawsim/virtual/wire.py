"""A serial cable between a node and its gateway: bytes that take their time, that a cut swallows and a loss spoils.

What is true of TCP over a link is not true here: nothing waits and nothing is repeated but by the frames' own protocol,
which is the real one (`firmware.wire.serial`).
"""

from collections.abc import Callable
from typing import Any, Protocol

from clawsim.virtual.link import Link

SPEED_BAUD = 115_200
BITS_A_BYTE = 10  # with start and stop bit
MOST_HELD_BYTES = 4096  # the kernel's buffer of a port that nobody reads


class Wire(Link):
    """The cable, with the faults of any link. `hear` has, by direction, who takes what arrives."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hear: dict[int, Callable[[bytes], None]] = {}

    def carry(self, direction: int, data: bytes) -> int:
        """Carry bytes; in so many microseconds the sender may go on."""
        busy_us = len(data) * BITS_A_BYTE * 1_000_000 // SPEED_BAUD
        if self.is_cut:
            self.blocked += 1
            return busy_us
        self.bytes += len(data)
        self.disturbed += bool(self.extra_us)
        if self.loss:
            data = b"\n".join(self._perhaps_spoilt(line) for line in data.split(b"\n"))
        swing_us = int((2 * self._random() - 1) * self.jitter_us)
        at_us = max(self.env.now_us + busy_us + self.latency_us + swing_us + self.extra_us, self._last_us[direction])
        self._last_us[direction] = at_us
        self.env.call_at(at_us, self.hear[direction], data)
        return busy_us

    def _perhaps_spoilt(self, line: bytes) -> bytes:
        if not line or self._random() >= self.loss:
            return line
        self.disturbed += self.loss > self.base_loss
        spoilt = bytearray(line)
        bit = int(self._random() * len(line) * 8)
        spoilt[bit // 8] ^= 1 << bit % 8
        return bytes(spoilt)


class Session(Protocol):
    """What an end of a wire pumps: `NodeSession`, or `SerialLine`."""

    out: bytearray

    def sent(self, count: int) -> None: ...
    def receive(self, data: bytes, now_ms: int) -> list[Any]: ...
    def on_timer(self, now_ms: int) -> list[Any]: ...
    def next_deadline(self) -> int | None: ...


class WireEnd:
    """A port at one end of a wire; it serves one session after the other, while the `machine` that it is in runs."""

    def __init__(self, wire: Wire, direction: int, machine: Any, tell: Callable[[Any], None]) -> None:
        """`direction` is that of what it says; `tell` hears each event of the session."""
        self.session: Any = None
        self._wire = wire
        self._env = wire.env
        self._direction = direction
        self._machine = machine
        self._tell = tell
        self._busy = 0  # the number of the session for which bytes are on their way
        self._sessions = 0
        self._held = bytearray()
        self._armed_ms: int | None = None
        wire.hear[1 - direction] = self._arrived

    def begin(self, session: Session | None) -> None:
        """Serve this session from now on; None: nobody listens."""
        self.session = session
        self._sessions += 1
        self._busy = 0
        self._held.clear()
        self.flush()

    def flush(self) -> None:
        """Say what the session has to say; to be called after anything was done to it."""
        session = self.session
        if session is None:
            return
        if session.out and not self._busy:
            self._busy = self._sessions
            data = bytes(session.out)
            busy_us = self._wire.carry(self._direction, data)
            self._env.call_at(self._env.now_us + busy_us, self._taken, (self._sessions, len(data)))
        due_ms = session.next_deadline()
        if due_ms is not None and due_ms != self._armed_ms:
            self._armed_ms = due_ms
            self._env.call_at(max(due_ms * 1000, self._env.now_us), self._due, due_ms)

    def thaw(self) -> None:
        """The process goes on: it reads what the kernel kept, and sees what is due."""
        held = bytes(self._held)
        self._held.clear()
        self._armed_ms = None
        self._arrived(held)

    def _arrived(self, data: bytes) -> None:
        if self._frozen:
            self._held += data[: MOST_HELD_BYTES - len(self._held)]
        elif self.session is not None:
            self._heard(self.session.receive(data, self.now_ms))

    def _taken(self, taken: tuple[int, int]) -> None:
        number, count = taken
        if number == self._sessions and self.session is not None:
            self._busy = 0
            self.session.sent(count)
            if not self._frozen:
                self.flush()

    def _due(self, due_ms: int) -> None:
        if due_ms == self._armed_ms and self.session is not None and not self._frozen:
            self._armed_ms = None
            self._heard(self.session.on_timer(self.now_ms))

    def _heard(self, events: list[Any]) -> None:
        for event in events:
            self._tell(event)
        self.flush()

    @property
    def now_ms(self) -> int:
        """The session's clock."""
        return self._env.now_us // 1000

    @property
    def _frozen(self) -> bool:
        host = self._machine.host
        return host is not None and host.alive and host.frozen
