"""The core's port `lora`: a UDP socket that concentrators send to."""

import asyncio
import logging
import os
from typing import Any

from firmware.hosting.lifecycle import CannotRun
from firmware.hosting.pump import Pump
from nanoclaw.core.lora.port import PORT

_log = logging.getLogger("clawland.lora")


class UdpPort(asyncio.DatagramProtocol):
    """Bound by `start`; datagrams reach the core once `listen` has named it."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.dropped = 0
        """Datagrams that came while the core could not follow."""
        self._pump: Pump | None = None
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Take the port; raises `CannotRun` when it is taken."""
        loop = asyncio.get_running_loop()
        try:
            self._transport, _ = await loop.create_datagram_endpoint(lambda: self, (self.host, self.port))
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            raise CannotRun(f"lora: port {self.port} on {self.host}: {reason}") from None
        self.port = self._transport.get_extra_info("sockname")[1]

    def listen(self, pump: Pump) -> None:
        """What comes from now on goes to this core."""
        self._pump = pump

    def send(self, address: str, data: bytes) -> None:
        """Send a datagram to "host:port"."""
        host, _, port = address.rpartition(":")
        if self._transport is not None:
            self._transport.sendto(data, (host, int(port)))

    def stop(self) -> None:
        """Let go of the port."""
        self._pump = None
        if self._transport is not None:
            self._transport.close()

    # the protocol of asyncio

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if self._pump is None:
            return
        if self._pump.congested():
            self.dropped += 1
        else:
            self._pump.receive(PORT, f"{addr[0]}:{addr[1]}", data)

    def error_received(self, exc: Exception) -> None:
        # A concentrator that is gone: its router says so, and it will pull again when it is back.
        _log.debug("a datagram to a concentrator came back: %s", exc)
