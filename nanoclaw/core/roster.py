"""The nodes of the site as this gateway knows them: who is here, alive, and which of its readings are on disk."""

from typing import Any

from firmware.wire.auth import Sealer
from firmware.wire.messages import MAX_MISSING, MAX_SEQ, encode_received
from fleet.wire.ranges import SeqRanges

KEPT_BOOTS = 4
MOST_RANGES = 64
RECEIVED_EVERY_MS = 5_000


class Arrivals:
    """The readings of one boot of one node: on their way to the disk, on disk, and to be acknowledged."""

    __slots__ = ("_owed", "stored", "unstored")

    def __init__(self) -> None:
        self.stored = SeqRanges()
        self.unstored: set[int] = set()
        self._owed: tuple[int, int] | None = None

    def is_new(self, seq: int) -> bool:
        """Whether this reading is the first copy; a copy of a stored one is acknowledged again."""
        if seq in self.stored:
            self.owe(seq)
            return False
        return seq not in self.unstored

    def on_disk(self, seq: int) -> None:
        """The reading is durable."""
        self.unstored.discard(seq)
        self.stored.add(seq)
        self.stored.shrink(MOST_RANGES)
        self.owe(seq)

    def owe(self, seq: int) -> None:
        """The node is to be told that this reading is on disk."""
        owed = self._owed
        self._owed = (min(owed[0], seq), max(owed[1], seq)) if owed else (seq, seq)

    def pay(self) -> tuple[tuple[int, int], list[int]] | None:
        """The span to acknowledge and what is missing in it; what does not fit one message is still owed after."""
        if self._owed is None:
            return None
        first, upto = self._owed
        covered, missing = self.stored.gaps(first, upto, MAX_MISSING)
        self._owed = (covered + 1, upto) if covered < upto else None
        return ((first, covered), missing) if covered >= first else None

    @property
    def owing(self) -> bool:
        """Whether the node waits for an acknowledgement."""
        return self._owed is not None


class Node:
    """One node of the site."""

    __slots__ = (
        "air",
        "arrivals",
        "attach",
        "backlog",
        "boot",
        "downs_ms",
        "heard_ms",
        "held_ms",
        "id",
        "interval_ms",
        "key",
        "latest",
        "n",
        "received_ms",
        "sealer",
        "since_ms",
        "state",
        "zero_utc_ms",
    )

    def __init__(self, node_id: str, key: bytes, slot: dict[str, Any] | None, now_ms: int) -> None:
        """`slot`: what `as_slot` gave before the gateway restarted."""
        slot = slot or {}
        self.id = node_id
        self.key = key
        self.sealer = Sealer(key)
        self.state: str | None = slot.get("state")  # up, down, released; None: never seen here
        self.air: bool = slot.get("air", False)  # heard by radio of late, and answered that way
        self.attach: int = slot.get("attach", 0)
        self.boot: int = slot.get("boot", -1)
        self.interval_ms: int = slot.get("interval_ms", 60_000)
        # UTC of uptime 0 by boot, for readings that only know their uptime.
        self.zero_utc_ms: dict[int, int] = {int(boot): utc for boot, utc in slot.get("zero_utc_ms", {}).items()}
        self.heard_ms = now_ms
        self.since_ms = now_ms
        self.backlog = 0
        self.downs_ms: list[int] = []  # when it went down of late
        self.held_ms: int | None = None  # it is heard, and down until this time all the same: it was down too often
        self.n = 0
        self.received_ms = now_ms - RECEIVED_EVERY_MS
        self.arrivals: dict[int, Arrivals] = {}
        self.latest: dict[str, tuple[int, Any]] = {}  # by metric: when it was read, in core milliseconds, and the value

    def rekey(self, key: bytes) -> None:
        """The fleet manager gave the node this key (again)."""
        if key != self.key:
            self.key = key
            self.sealer = Sealer(key)

    def as_slot(self) -> dict[str, Any]:
        """What has to survive a restart of the gateway."""
        zero = {str(boot): utc for boot, utc in self.zero_utc_ms.items()}
        return {
            "state": self.state,
            "air": self.air,
            "attach": self.attach,
            "boot": self.boot,
            "interval_ms": self.interval_ms,
            "zero_utc_ms": zero,
        }

    def arrivals_of(self, boot: int) -> Arrivals:
        """The arrivals of `boot`; only the last few boots are remembered, the cloud knows them all."""
        found = self.arrivals.get(boot)
        if found is None:
            found = self.arrivals[boot] = Arrivals()
            if len(self.arrivals) > KEPT_BOOTS:
                del self.arrivals[next(iter(self.arrivals))]
        return found

    def learn_boot(self, boot: int, uptime_ms: int, utc_ms: int | None) -> bool:
        """A heartbeat tells which boot runs and since when; whether the boot is news."""
        if utc_ms is not None:
            self.zero_utc_ms.setdefault(boot, utc_ms - uptime_ms)
            while len(self.zero_utc_ms) > KEPT_BOOTS:
                del self.zero_utc_ms[next(iter(self.zero_utc_ms))]
        if boot == self.boot:
            return False
        self.boot = boot
        self.n = 0
        return True

    def down_due_ms(self, intervals: int) -> int:
        """When the node has been silent too long; at that very millisecond a heartbeat is still in time."""
        return self.heard_ms + intervals * self.interval_ms + 1

    @property
    def is_here(self) -> bool:
        """Whether it would get what is sent to it, as far as anybody can tell."""
        return self.state in ("up", None) or self.held_ms is not None

    def received_messages(self, answer: bool) -> list[bytes]:
        """The `received` bodies to send now; with `answer` at least one, as a sign of life."""
        bodies = []
        for boot, arrivals in self.arrivals.items():
            paid = arrivals.pay()
            if paid:
                bodies.append(encode_received(boot, paid[0], paid[1], self.n if boot == self.boot else 0))
        if answer and not bodies and 0 <= self.boot <= MAX_SEQ:
            bodies.append(encode_received(self.boot, None, [], self.n))
        return bodies
