"""What a server tells systemd (sd_notify(3)): that it is ready, alive, and about to stop. Elsewhere it tells nobody."""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping

LOG = logging.getLogger("clawland.fleet")


class Supervisor:
    """The socket that systemd gave to a service of Type=notify; without one, whatever is said goes nowhere."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._socket: socket.socket | None = None
        self._watchdog_s = _watchdog_s(environ)
        path = environ.get("NOTIFY_SOCKET", "")
        if not path.startswith(("/", "@")):
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect("\0" + path[1:] if path.startswith("@") else path)
        except OSError as error:
            LOG.warning("systemd's socket %s cannot be used: %s", path, error.strerror)
            self._socket = None

    def ready(self, status: str) -> None:
        """Requests are taken from now on; `status` is what `systemctl status` shows."""
        self._say("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        """It ends, as it was asked to."""
        self._say("STOPPING=1", "STATUS=finishing what is begun")

    async def watch(self) -> None:
        """Says twice in each of the watchdog's intervals that the loop turns: a server that hangs is started anew."""
        while self._socket is not None and self._watchdog_s is not None:
            self._say("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)

    def _say(self, *words: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send("\n".join(words).encode())
        except OSError as error:
            LOG.warning("systemd does not listen: %s", error.strerror)


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """The interval within which systemd wants to hear of this very process (sd_watchdog_enabled(3))."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if mine and microseconds.isdecimal() and int(microseconds) > 0 else None
