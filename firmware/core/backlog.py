"""The readings a node still answers for: each is kept, and sent again, until a gateway has acknowledged it.

Bounded: when full the oldest goes. Live readings are sent at once by the node; what is left over (made while the link
was down, restored from flash, or never acknowledged) is handed out oldest first at a limited rate.
"""

from firmware.wire.messages import encode_reading

RETRY_MS = 30000  # six times the longest a gateway waits before it acknowledges (5 s), and then some delay
DRAIN_EVERY_MS = 1000
DRAIN_AT_ONCE = 10  # readings a second: a backlog of an hour at one a minute is gone in 6 s beside live readings

NEVER = -1


class Record:
    """One reading: its identity, what is sent of it (`value` and `unit` as JSON text), and when it was last sent, or
    never."""

    __slots__ = ("boot", "clock_ms", "event", "metric", "sent_ms", "seq", "unit", "value")

    def __init__(
        self, boot: int, seq: int, metric: str, value: str, unit: str, clock_ms: int, event: bool = False
    ) -> None:
        self.boot = boot
        self.seq = seq
        self.metric = metric
        self.value = value
        self.unit = unit
        self.clock_ms = clock_ms  # core time for the current boot, uptime for an earlier one
        self.event = event
        self.sent_ms = NEVER

    def encoded(self, boot: int, now_ms: int) -> bytes:
        """The message to send at `now_ms` during the boot `boot`."""
        if self.boot == boot:
            age_ms = now_ms - self.clock_ms
            return encode_reading(self.value, self.unit, self.boot, self.seq, "age_ms", age_ms, self.event)
        return encode_reading(self.value, self.unit, self.boot, self.seq, "up_ms", self.clock_ms, self.event)


class Backlog:
    """Unacknowledged readings, oldest first."""

    def __init__(self, capacity: int, restored: list) -> None:
        """`restored`: `(boot, seq, [metric, value, unit, up_ms, event])` of earlier boots, oldest first."""
        self.capacity = capacity
        self.dropped = 0
        self._records = [Record(boot, seq, r[0], r[1], r[2], r[3], r[4]) for boot, seq, r in restored]
        self.due_ms: int | None = None

    def __len__(self) -> int:
        return len(self._records)

    def has(self, boot: int, seq: int) -> bool:
        """Whether that reading is still unacknowledged."""
        return any([r.seq == seq and r.boot == boot for r in self._records])

    def identities(self) -> "list[tuple[int, int]]":
        """(boot, seq) of all that is kept."""
        return [(r.boot, r.seq) for r in self._records]

    def add(self, record: Record) -> "Record | None":
        """Keep `record`; returns the oldest one when it had to go to make room."""
        gone = None
        if len(self._records) >= self.capacity:
            gone = self._records.pop(0)
            self.dropped += 1
        self._records.append(record)
        return gone

    def sent(self, record: Record, now_ms: int) -> None:
        """`record` was handed to the link at `now_ms`; it is due again unless acknowledged."""
        record.sent_ms = now_ms
        if self.due_ms is None or self.due_ms > now_ms + RETRY_MS:
            self.due_ms = now_ms + RETRY_MS

    def link_up(self, now_ms: int) -> None:
        """All of it may have to be sent again: start handing out at once."""
        for record in self._records:
            record.sent_ms = NEVER
        self.due_ms = now_ms if self._records else None

    def link_down(self) -> None:
        """Nothing can be sent: no deadline until the link is back."""
        self.due_ms = None

    def take(self, now_ms: int) -> "list[Record]":
        """What to send now, oldest first, at most `DRAIN_AT_ONCE`; sets the next deadline."""
        ready: list[Record] = []
        due_ms = None
        for record in self._records:
            if record.sent_ms == NEVER or now_ms - record.sent_ms >= RETRY_MS:
                if len(ready) == DRAIN_AT_ONCE:
                    due_ms = now_ms + DRAIN_EVERY_MS
                    break
                record.sent_ms = now_ms
                ready.append(record)
            if due_ms is None or record.sent_ms + RETRY_MS < due_ms:
                due_ms = record.sent_ms + RETRY_MS
        self.due_ms = due_ms
        return ready

    def acknowledge(self, boot: int, first: int, upto: int, missing: "list[int]", now_ms: int) -> "list[int]":
        """Forget what the gateway has; the seqs forgotten. What it misses is due at once."""
        kept, gone = [], []
        for record in self._records:
            if record.boot != boot or not first <= record.seq <= upto:
                kept.append(record)
            elif record.seq in missing:
                if record.sent_ms < now_ms - DRAIN_EVERY_MS:  # not one that is on its way
                    record.sent_ms = NEVER
                    self.due_ms = now_ms
                kept.append(record)
            else:
                gone.append(record.seq)
        self._records = kept
        if not kept:
            self.due_ms = None
        return gone

    # --- for a link that asks for its acknowledgements ------------------------------------------------------------

    def has_unsent_event(self) -> bool:
        """Whether an event has to be sent."""
        return any([record.sent_ms == NEVER and record.event for record in self._records])

    def unsent(self, since_ms: int) -> "list[Record]":
        """What has to be sent: first what was read since `since_ms`, then the rest, each oldest first."""
        found = [record for record in self._records if record.sent_ms == NEVER]
        boot = self._records[-1].boot if found else 0
        new = [record for record in found if record.boot == boot and record.clock_ms >= since_ms]
        return new + [record for record in found if record.boot != boot or record.clock_ms < since_ms]

    def oldest_sent_ms(self) -> "int | None":
        """When the oldest was sent of those that are sent and not acknowledged."""
        sent = [record.sent_ms for record in self._records if record.sent_ms != NEVER]
        return min(sent) if sent else None

    def lost_before(self, sent_ms: int) -> None:
        """A gateway that heard what was sent at `sent_ms` has just said what it has: what is still kept, and was sent
        earlier, has not arrived, or the answer that said so has not."""
        for record in self._records:
            if record.sent_ms < sent_ms:
                record.sent_ms = NEVER


def runs(seqs: "list[int]") -> "list[tuple[int, int]]":
    """Ascending seqs as closed runs, so that one write forgets many."""
    found: list[tuple[int, int]] = []
    for seq in seqs:
        if found and found[-1][1] == seq - 1:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found
