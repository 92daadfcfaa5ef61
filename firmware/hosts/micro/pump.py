"""The pump around the node's core on a board: inputs in, outputs done in their order, one deadline.

It decides nothing about the business; see `firmware.hosting.pump` for its counterpart on CPython.
"""

from firmware.wire.outputs import (
    Alarm,
    Connect,
    Disconnect,
    Event,
    Identify,
    Restart,
    Sample,
    Scan,
    Send,
    Sleep,
    Store,
    Transmit,
)


class Pump:
    """Runs one core. `board` brings what the outputs need:

    `flash` (`write(writes)`), `link` (see `firmware.hosts.micro.link`), `scanner` (`start()`, `serve()`,
    `next_deadline()`), `signals`, `trace(kind, fields, now_ms)`, `alarm(on, by)`, `identify(for_ms)`, `log(text)` and
    `free_memory_kb()`. A board with a radio also brings `radio` (see `firmware.drivers.lora_radio`).
    """

    def __init__(
        self, core, clock, ticks_ms, board, sample_until_ms: "int | None" = None, sensors=None, sleep=None
    ) -> None:
        """`clock` is the core's; `ticks_ms()` is that of the wall, for the link.

        `sensors`: real parts (`firmware.drivers.sensors`) instead of the board's signals. `sleep(for_ms)` is told what
        the core thinks of sleep; without it the host waits for the next deadline as ever.
        """
        self.core = core
        self.restart = False  # the core wants the board to restart, and is not served any more
        self._clock = clock
        self._ticks_ms = ticks_ms
        self._board = board
        self._radio = getattr(board, "radio", None)
        self._until_ms = sample_until_ms
        self._sensors = sensors
        self._do = {
            Event: lambda output, now_ms: board.trace(output.kind, output.fields, now_ms),
            Send: lambda output, now_ms: board.link.send(output.topic, output.payload, ticks_ms()),
            Store: self._store,
            Connect: lambda output, now_ms: board.link.connect(output.target, ticks_ms()),
            Disconnect: lambda output, now_ms: board.link.disconnect(),
            Transmit: lambda output, now_ms: board.radio.transmit(output, ticks_ms()),
            Scan: lambda output, now_ms: board.scanner.start(ticks_ms()),
            Sample: self._sample,
            Alarm: lambda output, now_ms: board.alarm(output.on, output.by),
            Identify: lambda output, now_ms: board.identify(output.for_ms),
            Sleep: lambda output, now_ms: sleep and sleep(output.for_ms),
            Restart: self._on_restart,
        }
        self.settle()

    def step(self) -> None:
        """Do what is due and what has come."""
        now_ms = self._clock.now_ms()
        if self._until_ms is not None and now_ms >= self._until_ms:
            self._stop_sampling(now_ms)
        due_ms = self.core.next_deadline()
        if due_ms is not None and now_ms >= due_ms:
            self.core.presence.free_memory_kb = self._board.free_memory_kb()
            self.core.on_timer(now_ms)
            self.settle()
        self._push_samples(now_ms)
        self._poll_sensors(now_ms)
        self._serve_link()
        self._serve_radio()
        found = self._board.scanner.serve(self._ticks_ms())
        if found is not None:
            self.core.found(found, self._clock.now_ms())
        self.settle()

    def wait_ms(self) -> int:
        """How long nothing is due, on the wall; -1 for ever."""
        now_ms, ticks_ms = self._clock.now_ms(), self._ticks_ms()
        waits = [self._clock.wall_ms(due_ms - now_ms) for due_ms in self._deadlines() if due_ms is not None]
        ports = [self._board.link, self._board.scanner] + ([self._radio] if self._radio else [])
        for due_ms in [port.next_deadline() for port in ports]:
            if due_ms is not None:
                waits.append(max(due_ms - ticks_ms, 0))
        return min(waits) if waits else -1

    def settle(self) -> None:
        """Perform all that the core wants."""
        while not self.restart:
            outputs = self.core.take_outputs()
            if not outputs:
                return
            now_ms = self._clock.now_ms()
            for output in outputs:
                if not self.restart:
                    self._do[type(output)](output, now_ms)

    def _deadlines(self) -> list:
        parts_ms = None if self._sensors is None else self._sensors.next_deadline()
        return [self.core.next_deadline(), self._until_ms, parts_ms] + [s.due_ms for s in self._board.signals]

    def _serve_link(self) -> None:
        for event in self._board.link.serve(self._ticks_ms()):
            now_ms = self._clock.now_ms()
            if event[0] == "up":
                self.core.link_up("up", now_ms)
            elif event[0] == "message":
                self.core.receive("up", event[1], event[2], now_ms)
            elif event[0] == "down":
                self._board.log("the connection to %s ended: %s" % (self._board.link.target, event[1]))
                self.core.link_down("up", now_ms)
            elif event[0] == "rejected":
                self._board.trace("message.rejected", {"topic": "", "reason": event[1]}, now_ms)
            self.settle()

    def _serve_radio(self) -> None:
        if self._radio is None:
            return
        for frame in self._radio.serve(self._ticks_ms()):
            self.core.receive("radio", "", frame, self._clock.now_ms())
            self.settle()

    def _push_samples(self, now_ms: int) -> None:
        signals = self._board.signals
        for index in range(len(signals)):
            signal = signals[index]
            while signal.due_ms is not None and signal.due_ms <= now_ms:
                self.core.sampled(index, signal.take(now_ms), self._clock.now_ms())
                self.settle()

    def _poll_sensors(self, now_ms: int) -> None:
        if self._sensors is None:
            return
        for index, value, reason in self._sensors.poll(now_ms):
            if reason:
                self._board.log("sensor %d failed: %s" % (index, reason))
            self.core.sampled(index, value, self._clock.now_ms())
            self.settle()

    def _stop_sampling(self, now_ms: int) -> None:
        self._until_ms = None
        for signal in self._board.signals:
            signal.due_ms = None
        self.core.stop_sampling(now_ms)

    # outputs

    def _store(self, output, now_ms: int) -> None:
        try:
            self._board.flash.write(output.writes)
        except OSError as error:
            self._board.log("cannot write to flash: %s" % error)
            if output.token is None:
                self.core.refused(output.writes, str(error), now_ms)
            else:
                self.core.store_failed(output.token, str(error), now_ms)
            return
        if output.token is not None:
            self.core.stored(output.token, now_ms)

    def _sample(self, output, now_ms: int) -> None:
        now_ms = self._clock.now_ms()
        if self._sensors is not None:
            self._sensors.start(output.index, now_ms)
            return
        self.core.sampled(output.index, self._board.signals[output.index].value_at(now_ms), now_ms)

    def _on_restart(self, output, now_ms: int) -> None:
        self.restart = True
        self._board.link.disconnect()
