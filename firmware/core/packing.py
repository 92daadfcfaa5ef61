"""What goes into one LoRa frame: the heartbeat and an answer that are due, then readings while there is room."""

from firmware.wire.airtime import time_on_air_us
from firmware.wire.lora import UPLINK_BYTES
from firmware.wire.lora_contents import (
    ACK,
    EARLIER,
    EVENTS,
    HEARTBEAT,
    HEARTBEAT_LEAST,
    HEARTBEAT_MEMBERS,
    READINGS,
    contents_of,
    pack_ack,
    pack_heartbeat,
    pack_readings,
)


class Load:
    """The contents of a frame that is being filled. What does not fit alone goes alone all the same."""

    def __init__(self, room_bytes: int, boot: int, now_ms: int) -> None:
        self.records: list = []
        self.heartbeat = False
        self.ack: dict | None = None
        self._room_bytes = room_bytes
        self._boot = boot
        self._now_ms = now_ms
        self._found: dict = {}
        self._earlier: int | None = None  # of the boots before this one, that whose readings go along

    def fill(self, heartbeat: "dict | None", acks: "list[dict]", records: list) -> None:
        """Put in what fits: one answer, the heartbeat, then `records` in their order, and what else the heartbeat can
        say if there is room for it."""
        if acks:
            ack = acks[0]
            self._put(ACK, pack_ack(ack["id"], ack["status"], ack.get("reason", "")))
            self.ack = ack
        if heartbeat is not None:
            self.heartbeat = self._put(HEARTBEAT, pack_heartbeat(heartbeat, HEARTBEAT_LEAST))
        for record in records:
            if not self._add(record):
                break
        if self.heartbeat and heartbeat is not None:
            for count in range(HEARTBEAT_LEAST + 1, len(HEARTBEAT_MEMBERS) + 1):
                if not self._put(HEARTBEAT, pack_heartbeat(heartbeat, count)):
                    break

    def contents(self, sf: int) -> bytes:
        """The frame's contents. Ages are those at its end, when it is received: `sf` says how long it takes."""
        count = UPLINK_BYTES + len(contents_of(self._found))
        self._now_ms += time_on_air_us(count, sf) // 1000
        self._found.update(self._readings(self.records))
        return contents_of(self._found)

    def _add(self, record) -> bool:
        if record.boot != self._boot:
            if self._earlier not in (None, record.boot):
                return False
            self._earlier = record.boot
        before = dict(self._found)
        self._found.update(self._readings(self.records + [record]))
        if not self._fits(before):
            return False
        self.records.append(record)
        return True

    def _put(self, key: int, value: list) -> bool:
        before = dict(self._found)
        self._found[key] = value
        return self._fits(before)

    def _fits(self, before: dict) -> bool:
        if not before or len(contents_of(self._found)) <= self._room_bytes:
            return True
        self._found = before
        return False

    def _readings(self, records: list) -> dict:
        """The members of the contents that hold these records."""
        found: dict = {}
        for key, event in ((READINGS, False), (EVENTS, True)):
            ours = [self._item(r) for r in records if r.boot == self._boot and r.event == event]
            if ours:
                found[key] = pack_readings(ours)
        old = [r for r in records if r.boot != self._boot]
        if old:
            parts = [pack_readings([self._item(r) for r in old if r.event == event]) for event in (False, True)]
            found[EARLIER] = [old[0].boot, parts[0], parts[1]]
        return found

    def _item(self, record) -> tuple:
        ms = self._now_ms - record.clock_ms if record.boot == self._boot else record.clock_ms
        return record.seq, record.metric, record.value, record.unit, ms
