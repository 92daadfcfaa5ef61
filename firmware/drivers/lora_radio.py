"""A LoRa modem of MicroPython's `lora` packages (micropython-lib: `lora-sync` with `lora-sx127x`): a frame out, then a
receive window.

Only its polled calls are used, so that nothing blocks: `configure`, `prepare_send`, `start_send`, `poll_send`,
`start_recv`, `poll_recv`, `standby`, `sleep`. Times are the board's uptime in milliseconds.
"""

from firmware.wire.lora import RECEIVE_DELAY_MS

IDLE, SENDING, WAITING, LISTENING = "idle", "sending", "waiting", "listening"
POLL_MS = 5  # more often disturbs the reception, the packages' manual says
GUARD_MS = 10  # for a crystal and a scheduler that are not exact
_PREAMBLE_SYMBOLS = 8
POWER_DBM = 14  # 25 mW, the most in EU868's usual sub-bands
SYNC_WORD = 0x34  # of public networks: what concentrators listen for unless told otherwise
SEND_TIMEOUT_MS = 15000  # longer than any frame


class LoraRadio:
    """One modem. `heard` frames come from `serve`; what went wrong is counted."""

    def __init__(self, modem) -> None:
        self.state = IDLE
        self.failures = 0
        self._modem = modem
        self._until_ms = 0
        self._poll_ms = 0
        self._listen_ms = 0
        modem.configure(
            {
                "bw": 125,
                "coding_rate": 5,
                "preamble_len": _PREAMBLE_SYMBOLS,
                "syncword": SYNC_WORD,
                "output_power": POWER_DBM,
                "crc_en": True,
                "implicit_header": False,
                "invert_iq_tx": False,
                "invert_iq_rx": True,  # downlinks are inverted, so that nodes do not hear each other
            }
        )
        modem.sleep()

    def transmit(self, output, now_ms: int) -> None:
        """Send the frame of a `Transmit` now; a frame that is under way is given up."""
        modem = self._modem
        try:
            if self.state != IDLE:
                modem.standby()
            modem.configure({"freq_khz": output.frequency_hz // 1000, "sf": output.sf})
            modem.prepare_send(output.frame)
            modem.start_send()
        except (OSError, RuntimeError, ValueError):
            self._give_up()
            return
        self.state = SENDING
        self._until_ms = now_ms + SEND_TIMEOUT_MS
        self._listen_ms = 2 * GUARD_MS + _PREAMBLE_SYMBOLS * (1 << output.sf) // 125

    def next_deadline(self) -> "int | None":
        """When `serve` is wanted next; None when idle."""
        if self.state == IDLE:
            return None
        return self._until_ms if self.state == WAITING else self._poll_ms

    def serve(self, now_ms: int) -> "list[bytes]":
        """Go on; gives the frames that were heard."""
        if self.state in (SENDING, LISTENING):
            if now_ms < self._poll_ms:
                return []
            self._poll_ms = now_ms + POLL_MS
        try:
            if self.state == SENDING:
                self._on_sending(now_ms)
            elif self.state == WAITING and now_ms >= self._until_ms:
                self._modem.start_recv(timeout_ms=self._listen_ms)
                self.state = LISTENING
            elif self.state == LISTENING:
                return self._on_listening()
        except (OSError, RuntimeError, ValueError):
            self._give_up()
        return []

    def _on_sending(self, now_ms: int) -> None:
        found = self._modem.poll_send()
        if found is True:
            if now_ms >= self._until_ms:
                self._give_up()
            return
        if found is False:  # it was never under way
            self._give_up()
            return
        self.state = WAITING  # `found` is when it ended, by a clock that wraps: we have just polled, so it is now
        self._until_ms = now_ms + RECEIVE_DELAY_MS - GUARD_MS

    def _on_listening(self) -> "list[bytes]":
        found = self._modem.poll_recv()
        if found is True:
            return []
        self.state = IDLE
        self._modem.sleep()
        return [bytes(found)] if found else []

    def _give_up(self) -> None:
        self.failures += 1
        self.state = IDLE
        try:
            self._modem.standby()
            self._modem.sleep()
        except (OSError, RuntimeError):
            pass  # a modem that does not answer is asked again with the next frame
