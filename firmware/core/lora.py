"""A node without IP: readings, heartbeats and answers share frames, as many as the duty cycle allows.

It sends no beacon and joins nobody: any gateway of its site forwards what it hears, and one of them answers. Readings
stay in the backlog until a gateway has said, in a receive window, that it has them; the node asks for that when enough
has gathered, and again until it is told. New readings go first, and whatever room a frame has left, the backlog takes.
"""

from firmware.core.airway import CHANNELS_HZ, Airway
from firmware.core.backlog import runs
from firmware.core.node import NodeCore
from firmware.core.packing import Load
from firmware.wire import lora, messages
from firmware.wire.lora_contents import unpack_downlink
from firmware.wire.outputs import Event, Restart, Sleep, Transmit

ASK_READINGS = 16
ASK_AFTER_MS = 1800000  # a gateway's downlinks are dear: all its nodes share one duty cycle
MOST_ACKS = 8  # a command whose answer had to go comes again, and is answered again
SHORTEST_SLEEP_MS = 5000
_FAR_MS = 1 << 60


class LoraNode(NodeCore):
    """A `NodeCore` on a LoRa radio. Its link is always down: nothing of what needs a connection is ever due."""

    def __init__(self, config: dict, flash: dict, rng, now_ms: int) -> None:
        """As a `NodeCore`; also `lora`: {sf, perhaps duty_ppm}, and `frame_block`: AES under the node's frame key."""
        self.airway = Airway(config["lora"], flash.get("slots", {}).get("air"), now_ms)
        self.address = lora.address(config["fleet"], config["id"])
        self._block = config["frame_block"]
        self._rng = rng
        self._count = -1  # of the latest frame
        self._frame_ms = now_ms  # when that was sent
        self._asked = False  # it wanted an answer, and none has come
        self._unanswered = 0
        self._ask_now = False
        self._heartbeat: dict | None = None  # to go with the next frame
        self._crowded = False  # the latest frame had no room for a reading, so it is the heartbeat's turn to wait
        self._acks: list[dict] = []
        self._over = False
        self._sleeps = bool(config.get("sleep"))
        self._awake_ms: int | None = None  # until when the window keeps it from sleeping
        self._jitter_ms = self._draw_jitter_ms()
        super().__init__(config, flash, rng, now_ms)
        self.link.rest()
        self.link.silent_ms = self.link.scan_due_ms = _FAR_MS
        self.presence.heartbeat_ms = self.heartbeat_interval_ms(self.presence.heartbeat_ms)
        self.presence.heartbeat_due_ms = now_ms  # the first frame says how the node is

    # --- inputs ---------------------------------------------------------------------------------------------------

    def receive(self, port: str, name: str, payload: bytes, now_ms: int) -> None:
        """A frame was heard in the receive window. Those for others are none of our business."""
        head = lora.head_of(payload)
        if not self._running or head is None or not head.down or head.node != self.address:
            return
        said, reason = self._opened(payload, now_ms)
        if reason:
            self.event("message.rejected", {"topic": "radio", "reason": reason})
            return
        self.airway.close_window(now_ms)
        self._unanswered = 0
        self.on_heard(now_ms)
        for verb, body in said:
            self._on_message(verb, body, now_ms)
        verbs = [verb for verb, _ in said]
        if "cmd" not in verbs or "received" in verbs:  # else the command has perhaps left no room for what is received
            self._asked = False
            self.backlog.lost_before(self._frame_ms)
        if self._sleeps:
            self._doze(now_ms)

    def stop_sampling(self, now_ms: int) -> None:
        """The end of a rehearsal: no more samples, and what is left is handed over."""
        super().stop_sampling(now_ms)
        self._over = True

    def on_timer(self, now_ms: int) -> None:
        """Do all that is due."""
        super().on_timer(now_ms)
        if not self._running:
            return
        self.commands.answer_old(now_ms)
        due_ms = self._frame_due_ms(now_ms)
        if due_ms is not None and now_ms >= due_ms:
            self._speak_by_radio(now_ms)
        if self._sleeps:
            self._doze(now_ms)

    def next_deadline(self) -> "int | None":
        """When `on_timer` is wanted next, in core milliseconds."""
        due_ms = super().next_deadline()
        frame_ms = self._frame_due_ms(self._frame_ms) if self._running else None
        if self._awake_ms is not None and (frame_ms is None or self._awake_ms < frame_ms):
            frame_ms = self._awake_ms
        if frame_ms is None or (due_ms is not None and due_ms < frame_ms):
            return due_ms
        return frame_ms

    def publish(self, name: str, payload: bytes, now_ms: int) -> None:
        """What would be a message of its own waits for the next frame."""
        found = messages.decode_object(payload)
        if name == self.topics["ack"] and found is not None:
            waiting = [ack for ack in self._acks if ack["id"] != found["id"]]
            self._acks = waiting[-MOST_ACKS + 1 :] + [found]
        elif name == self.topics["heartbeat"]:
            self._heartbeat = found
        else:  # a beacon: a sign of life is wanted
            self._ask_now = True

    def heartbeat_interval_ms(self, wanted_ms: int) -> int:
        """Not shorter than the air allows: in whole seconds."""
        return max(wanted_ms, (self.airway.pace_ms + 999) // 1000 * 1000)

    def _opened(self, frame: bytes, now_ms: int) -> "tuple[list, str]":
        """What an answer says, or why it is refused."""
        if self._count < 0 or not self.airway.listens(now_ms):
            return [], "outside of the receive window"
        contents = lora.open_downlink(self._block, frame, self.boot, self._count)
        if contents is None:
            return [], "not authentic"
        said = unpack_downlink(contents, self.boot)
        return ([], "malformed") if said is None else (said, "")

    # --- when to speak --------------------------------------------------------------------------------------------

    def _frame_due_ms(self, now_ms: int) -> "int | None":
        """When the next frame is sent, as things are: never before `now_ms`."""
        urgent = bool(self._acks) or self._ask_now or self.backlog.has_unsent_event()
        if urgent:
            return self.airway.due_ms(True, now_ms)
        wish_ms = self._wish_ms()
        return None if wish_ms is None else max(wish_ms + self._jitter_ms, self.airway.due_ms(False, now_ms))

    def _wish_ms(self) -> "int | None":
        """When there is something to say that can wait."""
        if self._heartbeat is not None:
            return self._frame_ms
        unsent = self.backlog.unsent(self._frame_ms)
        if unsent:
            return max(unsent[0].clock_ms, self._frame_ms) if unsent[0].boot == self.boot else self._frame_ms
        wish_ms = self.presence.heartbeat_due_ms
        if len(self.backlog) and (self._over or self._asked):
            wish_ms = min(wish_ms, self._frame_ms + (self.airway.pace_ms << min(self._unanswered, 4)))
        return wish_ms

    def _asks(self, now_ms: int) -> bool:
        """Whether the frame that goes out now wants to be answered."""
        if self._ask_now or self._asked or self._over or self._count < 0:
            return True
        oldest_ms = self.backlog.oldest_sent_ms()
        return len(self.backlog) >= ASK_READINGS or (oldest_ms is not None and now_ms - oldest_ms >= ASK_AFTER_MS)

    def _draw_jitter_ms(self) -> int:
        """Nodes that were switched on together must not speak together: up to 20 frames, or 3 s."""
        return int(self._rng.randrange(max(self.airway.pace_ms // 6, 3000)))

    # --- speaking -------------------------------------------------------------------------------------------------

    def _speak_by_radio(self, now_ms: int) -> None:
        if self._count >= lora.MAX_COUNT:
            self._running = False
            self.emit(Restart())  # with the next boot number the count begins anew
            return
        presence = self.presence
        if now_ms >= presence.heartbeat_due_ms - presence.heartbeat_ms // 2:
            presence.heartbeat_due_ms = now_ms + presence.heartbeat_ms
            presence.send_heartbeat(now_ms)
        load = Load(self.airway.frame_bytes - lora.UPLINK_BYTES, self.boot, now_ms)
        readings = self.backlog.unsent(self._frame_ms)
        load.fill(None if self._crowded else self._heartbeat, self._acks, readings)
        self._crowded = bool(readings) and not load.records
        contents = load.contents(self.airway.sf)
        legal_ms = self.airway.legal_ms(len(contents) + lora.UPLINK_BYTES, now_ms)
        if legal_ms > now_ms:  # one long text, too long for what is left of the hour
            self.airway.wait(legal_ms)
            return
        self._transmit(load, contents, now_ms)

    def _transmit(self, load: Load, contents: bytes, now_ms: int) -> None:
        asks = self._asks(now_ms)
        self._unanswered += self._asked
        self._count += 1
        frame = lora.seal_uplink(self._block, self.address, self.boot, self._count, contents, asks)
        air_us = self.airway.send(len(frame), now_ms)
        for record in load.records:
            record.sent_ms = now_ms
        if load.heartbeat:
            self._heartbeat = None
        if load.ack is not None:
            self._acks.remove(load.ack)
        self._asked, self._ask_now = asks, False
        self._frame_ms = now_ms
        self._jitter_ms = self._draw_jitter_ms()
        fields = {"count": self._count, "bytes": len(frame), "air_us": air_us, "sf": self.airway.sf, "asks": asks}
        fields["readings"], fields["heartbeat"] = len(load.records), load.heartbeat
        fields["hour_us"] = self.airway.used_us(now_ms)
        self.stores.later(("put", "air", self.airway.as_slot(now_ms)))
        self.emit(Event("frame.sent", fields))
        self.emit(Transmit(CHANNELS_HZ[self._rng.randrange(len(CHANNELS_HZ))], self.airway.sf, frame))

    def _on_message(self, verb: str, body: bytes, now_ms: int) -> None:
        if verb == "cmd":
            command = messages.decode_command(body)
            if command:
                self.commands.on_command(command, now_ms)
            return
        found = messages.decode_received(body)
        if found and "upto" in found:
            gone = self.backlog.acknowledge(found["boot"], found["from"], found["upto"], found["missing"], now_ms)
            for first, upto in runs(gone):
                self.stores.later(("drop", found["boot"], first, upto))

    def _doze(self, now_ms: int) -> None:
        """Sleep until something is due, unless the window may be open."""
        self._awake_ms = self.airway.free_ms if self.airway.listens(now_ms) else None
        due_ms = self.next_deadline()
        if self._awake_ms is None and due_ms is not None and due_ms - now_ms >= SHORTEST_SLEEP_MS:
            self.emit(Sleep(due_ms - now_ms))
