"""What a daemon tells systemd: that it is ready, how it is, that it lives, that it stops (sd_notify(3)).

Without NOTIFY_SOCKET in the environment all of it does nothing.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, MutableMapping

_log = logging.getLogger("clawland.service")

PATIENCE_S = 1.0
"""A manager that is busy at boot may have a full queue, and must not miss that we are ready."""


class ServiceManager:
    """systemd, as this process knows it from its environment; children are not to inherit the socket."""

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = environ.pop("NOTIFY_SOCKET", "")
        interval_us, for_pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        ours = bool(self._address) and for_pid in ("", str(os.getpid()))
        self.watchdog_s = int(interval_us) / 1_000_000 or None if ours and interval_us.isdecimal() else None
        """After so long without a sign of life systemd restarts the process; None: it does not."""

    def ready(self, status: str) -> None:
        """The service works."""
        self._tell(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._tell(f"STATUS={text}")

    def stopping(self) -> None:
        """The service ends, because it was told to."""
        self._tell("STOPPING=1")

    async def watch(self, alive: Callable[[], bool]) -> None:
        """Give signs of life while `alive()`, three in the watchdog's time, until cancelled."""
        while self.watchdog_s is not None:
            if alive():
                self._tell("WATCHDOG=1")
            else:
                _log.error("no sign of life for systemd: the core is not being pumped")
            await asyncio.sleep(self.watchdog_s / 3)

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        # A name in the abstract namespace begins with a zero byte, written as @.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.settimeout(PATIENCE_S)
                to.sendto(state.encode(), address)
        except OSError as error:
            _log.warning("cannot tell systemd: %s", error.strerror or error)
