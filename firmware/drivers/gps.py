"""A GPS receiver at a UART: the position in its NMEA 0183 sentences, as the text `48.117300,11.516667`."""

from firmware.drivers import Fault

MAX_SENTENCE_BYTES = 82
FRESH_MS = 5000  # receivers say RMC every second
_MOST_BYTES = 1024  # at one reading


class Gps:
    """The receiver at `uart` (`read(size)`, which gives None when nothing has come)."""

    exp = {"position": 0}

    def __init__(self, uart) -> None:
        self._uart = uart
        self._line = b""
        self._looks_until_ms = 0
        self.ready_ms = 0

    def begin(self, now_ms: int) -> None:
        """What came until now is old: listen for the next sentences."""
        self._uart.read(_MOST_BYTES)
        self._line = b""
        self._looks_until_ms = now_ms + FRESH_MS
        self.ready_ms = now_ms + 100

    def read(self, now_ms: int) -> "dict | None":
        """The position in degrees with six decimals, latitude first. Raises `Fault`."""
        data = self._line + (self._uart.read(_MOST_BYTES) or b"")
        lines = data.split(b"\n")
        self._line = lines[-1][-MAX_SENTENCE_BYTES:]
        for line in lines[:-1]:
            fields = sentence(line)
            if fields and fields[0][2:] == "RMC" and len(fields) > 6:
                if fields[2] != "A":
                    raise Fault("no fix")
                return {"position": _degrees(fields[3], fields[4]) + "," + _degrees(fields[5], fields[6])}
        if now_ms >= self._looks_until_ms:
            raise Fault("no receiver speaks")
        self.ready_ms = now_ms + 100
        return None


def sentence(line: bytes) -> "list[str] | None":
    """The fields of an NMEA sentence, or None when it is none or its checksum is wrong."""
    line = line.strip()
    if len(line) > MAX_SENTENCE_BYTES or line[:1] != b"$" or line[-3:-2] != b"*":
        return None
    check = 0
    for byte in line[1:-3]:
        check ^= byte
    if b"%02X" % check != line[-2:].upper():
        return None
    try:
        return line[1:-3].decode().split(",")
    except ValueError:
        return None


def _degrees(text: str, side: str) -> str:
    """`ddmm.mmmm` or `dddmm.mmmm` in degrees, by integers: a board's floats have 24 bits."""
    whole, _, part = text.partition(".")
    digits = whole + (part + "000000")[:6]
    if side not in ("N", "S", "E", "W") or not 8 < len(digits) <= 11 or not all([c in "0123456789" for c in digits]):
        raise Fault("a position that is none")
    minutes = int(digits[-8:])  # in 10^-6 minutes
    millionths = int(digits[:-8]) * 1000000 + (minutes + 30) // 60
    if millionths > (90 if side in "NS" else 180) * 1000000 or minutes >= 60000000:
        raise Fault("a position that is none")
    sign = "-" if side in "SW" and millionths else ""
    return "%s%d.%06d" % (sign, millionths // 1000000, millionths % 1000000)
