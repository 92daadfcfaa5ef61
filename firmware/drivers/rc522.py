"""RC522 (NXP MFRC522): the unique id of a MIFARE or other ISO/IEC 14443 A card, over SPI.

A card that is present answers every wake-up; it is one event until it was away for a while.
"""

import binascii

from firmware.drivers import Fault
from firmware.drivers.crc import crc16_a

POLL_MS = 100
AWAY_MS = 1000
CHECK_MS = 10000
_COMMAND, _IRQ, _ERROR, _FIFO, _FIFO_LEVEL, _CONTROL, _FRAMING = 0x01, 0x04, 0x06, 0x09, 0x0A, 0x0C, 0x0D
_MODE, _TX_CONTROL, _TX_ASK, _T_MODE, _T_PRESCALER, _T_RELOAD, _VERSION = 0x11, 0x14, 0x15, 0x2A, 0x2B, 0x2C, 0x37
_IDLE, _TRANSCEIVE, _SOFT_RESET = 0x00, 0x0C, 0x0F
_VERSIONS = (0x88, 0x90, 0x91, 0x92, 0xB2)  # of NXP and of its copies
# The timer counts at 13.56 MHz / (2 · 3390 + 1) = 2 kHz: a card has 5 ms to answer.
_SETUP = (
    (_T_MODE, 0x8D),
    (_T_PRESCALER, 0x3E),
    (_T_RELOAD, 0),
    (_T_RELOAD + 1, 10),
    (_TX_ASK, 0x40),
    (_MODE, 0x3D),
    (_TX_CONTROL, 0x83),
)
_WAKE_UP, _CASCADE_TAG = 0x52, 0x88
_CASCADES = (0x93, 0x95, 0x97)
_MOST_LOOKS = 500


class Rc522:
    """Speaks for itself. `spi` has `write` and `write_readinto`, `select` is the pin that chooses the part."""

    def __init__(self, spi, select, sleep_ms) -> None:
        self._spi = spi
        self._select = select
        self._sleep_ms = sleep_ms
        self._ready = False
        self._check_ms = 0
        self._card = ""
        self._seen_ms = 0
        self.due_ms = 0

    def poll(self, now_ms: int) -> "str | None":
        """The id, in hexadecimal, of a card that has come; None when nothing is new. Raises `Fault`."""
        self.due_ms = now_ms + CHECK_MS  # should it fail
        if not self._ready or now_ms >= self._check_ms:
            self._set_up(now_ms)
        uid = self._uid()
        self.due_ms = now_ms + POLL_MS
        if not uid:
            if self._card and now_ms - self._seen_ms >= AWAY_MS:
                self._card = ""
            return None
        self._seen_ms = now_ms
        if uid == self._card:
            return None
        self._card = uid
        return uid

    def _set_up(self, now_ms: int) -> None:
        """At the start and now and then, for a reader that was unplugged or lost its power does not say so."""
        if self._get(_VERSION) not in _VERSIONS:
            self._ready = False
            raise Fault("no reader answers")
        if not self._ready or self._get(_TX_CONTROL) & 3 != 3:
            self._put(_COMMAND, _SOFT_RESET)
            self._sleep_ms(50)
            for register, value in _SETUP:
                self._put(register, value)
        self._ready = True
        self._check_ms = now_ms + CHECK_MS

    def _uid(self) -> str:
        """The id of the one card that is there; nothing when there is none, or they disturb each other."""
        if len(self._exchange(bytes([_WAKE_UP]), 7)) != 2:
            return ""
        uid = b""
        for cascade in _CASCADES:
            part = self._exchange(bytes([cascade, 0x20]), 0)
            if len(part) != 5 or part[0] ^ part[1] ^ part[2] ^ part[3] != part[4]:
                return ""
            if part[0] != _CASCADE_TAG:
                return binascii.hexlify(uid + part[:4]).decode()
            uid += part[1:4]
            select = bytes([cascade, 0x70]) + part
            if len(self._exchange(select + crc16_a(select), 0)) != 3:
                return ""
        return ""

    def _exchange(self, frame: bytes, last_bits: int) -> bytes:
        """Send `frame`, of whose last byte only `last_bits` unless 0; what the card answers, perhaps nothing."""
        self._put(_COMMAND, _IDLE)
        self._put(_IRQ, 0x7F)
        self._put(_FIFO_LEVEL, 0x80)
        for byte in frame:
            self._put(_FIFO, byte)
        self._put(_FRAMING, last_bits)
        self._put(_COMMAND, _TRANSCEIVE)
        self._put(_FRAMING, 0x80 | last_bits)
        for _ in range(_MOST_LOOKS):
            irq = self._get(_IRQ)
            if irq & 0x31:  # received, idle, or time is up
                break
        else:
            self._ready = False
            raise Fault("the reader hangs")
        self._put(_FRAMING, 0)
        if irq & 0x01 or self._get(_ERROR) & 0x1B or self._get(_CONTROL) & 7:
            return b""
        return bytes([self._get(_FIFO) for _ in range(self._get(_FIFO_LEVEL) & 0x7F)])

    def _put(self, register: int, value: int) -> None:
        self._select.value(0)
        self._spi.write(bytes([register << 1, value]))
        self._select.value(1)

    def _get(self, register: int) -> int:
        answer = bytearray(2)
        self._select.value(0)
        self._spi.write_readinto(bytes([0x80 | register << 1, 0]), answer)
        self._select.value(1)
        return answer[1]
