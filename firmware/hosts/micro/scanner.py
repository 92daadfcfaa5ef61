"""A scan for gateways over a UDP socket that never blocks: ask, ask again, and take what has come."""

import socket

from firmware.wire.mdns import GROUP, Answers

SCAN_MS = 1000  # of the wall
# Asked again because a datagram may be lost, and after the first answer, for those that are slower.
ASK_AGAIN_MS = 250
QUIET_MS = 400
_IP_MULTICAST_IF = 32  # Linux's and lwIP's; MicroPython has no name for it
_IPPROTO_IP = 0
_ANY = "0.0.0.0"  # noqa: S104  # to ask from


class Scanner:
    """One scan at a time on the interface with the IPv4 address `interface`, or where that is empty on the only one;
    times are those of the wall."""

    def __init__(self, poller, reading: int, interface: str, rng, log) -> None:
        self._poller = poller
        self._reading = reading
        self._interface = interface
        self._rng = rng
        self._log = log
        self._socket: socket.socket | None = None
        self._answers = Answers(1)
        self._end_ms = self._ask_ms = 0

    def start(self, now_ms: int) -> None:
        """Begin; a scan under way begins anew."""
        self._stop()
        self._answers = Answers(1 + self._rng.randrange(65535))
        self._end_ms, self._ask_ms = now_ms + SCAN_MS, now_ms
        try:
            self._open()
        except OSError as error:
            self._log("cannot scan for gateways on %s: %s" % (self._interface, error))
            self._stop()
            self._end_ms = now_ms  # an empty answer

    def next_deadline(self) -> "int | None":
        """When `serve` is wanted though nothing may have come."""
        return min(self._ask_ms, self._end_ms) if self._end_ms else None

    def serve(self, now_ms: int) -> "list[dict] | None":
        """Ask and listen; the gateways once the scan is over."""
        if not self._end_ms:
            return None
        self._listen(now_ms)
        if now_ms >= self._end_ms:
            self._stop()
            self._end_ms = 0
            return self._answers.gateways()
        if now_ms >= self._ask_ms:
            self._ask_ms = now_ms + ASK_AGAIN_MS
            self._ask()
        return None

    def _open(self) -> None:
        self._socket = made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        if self._interface:
            packed = bytes([int(part) for part in self._interface.split(".")])
            made.setsockopt(_IPPROTO_IP, _IP_MULTICAST_IF, packed)
        made.bind(socket.getaddrinfo(self._interface or _ANY, 0)[0][-1])
        self._poller.register(made, self._reading)

    def _listen(self, now_ms: int) -> None:
        while self._socket is not None:
            try:
                data, sender = self._socket.recvfrom(1500)
            except OSError:
                return
            if self._answers.receive(data, _host(sender)):
                self._end_ms = min(self._end_ms, now_ms + QUIET_MS)

    def _ask(self) -> None:
        try:
            if self._socket is not None:
                self._socket.sendto(self._answers.query(), socket.getaddrinfo(GROUP[0], GROUP[1])[0][-1])
        except OSError as error:
            self._log("a scan met an error: %s" % error)

    def _stop(self) -> None:
        if self._socket is not None:
            try:
                self._poller.unregister(self._socket)
            except (OSError, KeyError):
                pass
            self._socket.close()
            self._socket = None


def _host(sender) -> str:
    """The address in what `recvfrom` gives: a tuple, or in MicroPython's Unix port a raw sockaddr."""
    if isinstance(sender, tuple):
        return str(sender[0])
    return "%d.%d.%d.%d" % tuple(bytes(sender)[4:8])
