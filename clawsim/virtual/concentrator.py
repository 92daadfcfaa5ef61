"""A gateway's LoRa concentrator with its packet forwarder, on the same machine: GWMP towards the gateway's core."""

import hashlib
from typing import TYPE_CHECKING, Any

from clawsim.virtual.air import MOST_SNR_DB, NOISE_DBM, OnAir
from firmware.hosting.forwarder import EUI_BYTES, PULL_EVERY_MS, Order, PacketForwarder

if TYPE_CHECKING:
    from clawsim.virtual.machines.gateway import GatewayMachine

PORT = "lora"
ADDRESS = "127.0.0.1:40000"
START_US = 1_000_000
"""The packet forwarder starts a little after the gateway's daemon."""
LOCAL_US = 200
"""A datagram over loopback."""


class Concentrator:
    """Hears what the air lets through, and transmits what the gateway gives it."""

    def __init__(self, world: Any, gateway: "GatewayMachine") -> None:
        self._world = world
        self._gateway = gateway
        self._forwarder = PacketForwarder(hashlib.sha256(gateway.id.encode()).digest()[:EUI_BYTES])

    def start(self, generation: int) -> None:
        """The gateway's machine has started: pull, until it starts again."""
        self._world.after(START_US, self._pull, generation)

    def hear(self, sent: OnAir, strength_dbm: float) -> None:
        """A frame has arrived."""
        snr_db = min(round(strength_dbm - NOISE_DBM, 1), MOST_SNR_DB)
        now_us = self._world.env.now_us
        data = self._forwarder.push(sent.frame, now_us, sent.frequency_hz, sent.sf, round(strength_dbm), snr_db)
        self._to_gateway(data)

    def was_transmitting(self, from_us: int, to_us: int) -> bool:
        """Whether it could not hear at some time of that span."""
        return self._forwarder.was_transmitting(from_us, to_us)

    def receive(self, data: bytes) -> None:
        """A datagram of the gateway."""
        order, answer = self._forwarder.receive(data, self._world.env.now_us)
        if answer:
            self._to_gateway(answer)
        if order is not None:
            self._world.after(order.in_us, self._transmit, order)

    def _transmit(self, order: Order) -> None:
        if self._gateway.powered:
            self._world.air.answer(self._gateway, order.frequency_hz, order.sf, order.frame)

    def _pull(self, generation: int) -> None:
        if self._gateway.powered and generation == self._gateway.starts:
            self._to_gateway(self._forwarder.pull())
            self._world.after(PULL_EVERY_MS * 1000, self._pull, generation)

    def _to_gateway(self, data: bytes) -> None:
        self._world.after(LOCAL_US, self._arrived, data)

    def _arrived(self, data: bytes) -> None:
        host = self._gateway.host
        if host is not None:
            host.receive(PORT, ADDRESS, data)
