"""A sensor node on a LoRa radio: no connection, frames into the air, and a receive window after each."""

from typing import Any

from clawsim.scenario.plan import NodePlan
from clawsim.virtual.air import window_of
from clawsim.virtual.machines.node import NodeMachine
from firmware.hosting.aes import aes_block
from firmware.wire.lora import frame_key


class LoraNodeMachine(NodeMachine):
    """A board with a radio."""

    def __init__(self, world: Any, plan: NodePlan) -> None:
        super().__init__(world, plan)
        self._sent: tuple[int, int, int] | None = None  # frequency, spreading factor and end of the latest uplink

    def config(self) -> dict[str, Any]:
        """What the firmware is configured with."""
        return super().config() | {"lora": {"sf": self.plan.sf}, "frame_block": aes_block(frame_key(self.key))}

    def listens(self, frequency_hz: int, sf: int, now_us: int) -> bool:
        """Whether a downlink that begins now falls into its receive window."""
        if self._sent is None or not self.responsive or self._sent[:2] != (frequency_hz, sf):
            return False
        opens_us, closes_us = window_of(self._sent[2], sf)
        return opens_us <= now_us <= closes_us

    def hear(self, frame: bytes) -> None:
        """A downlink has arrived."""
        if self.host is not None:
            self.host.receive("radio", "", frame)

    def _transmit(self, transmit: Any) -> None:
        frequency_hz, sf, frame = transmit
        self._sent = (frequency_hz, sf, self.world.air.transmit(self, frequency_hz, sf, frame))

    def _core_class(self) -> Any:
        return self.world.cores.lora

    def _disconnect(self, silent: bool) -> None:
        self._sent = None
