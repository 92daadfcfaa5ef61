"""The virtual 868 MHz band of a run: real frames for as long as they are on the air, lost as they would be.

How strong they arrive is in `clawsim.propagation`. Of two frames that overlap on one channel with one spreading factor,
a concentrator hears the one that is 6 dB stronger, or neither (Goursaud and Gorce, "Dedicated networks for IoT", 2015);
spreading factors do not disturb each other. A concentrator that transmits hears nothing. Downlinks are inverted and
disturb no uplink.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clawsim.propagation import SENSITIVITY_DBM, strength_dbm
from firmware.wire.airtime import BANDWIDTH_HZ, time_on_air_us
from firmware.wire.lora import RECEIVE_DELAY_MS

if TYPE_CHECKING:
    from clawsim.virtual.machines.gateway import GatewayMachine
    from clawsim.virtual.machines.lora_node import LoraNodeMachine

CAPTURE_DB = 6
NOISE_DBM = -174 + 10 * math.log10(BANDWIDTH_HZ) + 6
"""Thermal noise at room temperature, and the noise figure of a concentrator."""
MOST_SNR_DB = 10
WINDOW_SYMBOLS = 8
"""So long a node listens for the beginning of a downlink: the length of its preamble."""


@dataclass(eq=False)
class OnAir:
    """An uplink on its way, and which others were on the air at the same time."""

    node: "LoraNodeMachine"
    frequency_hz: int
    sf: int
    frame: bytes
    start_us: int
    end_us: int
    swallowed: set[str] = field(default_factory=set)
    """The gateways that the link kept from hearing it."""
    others: list["OnAir"] = field(default_factory=list)


class Air:
    """All radio of a run."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._on_air: dict[tuple[str, int, int], list[OnAir]] = {}

    def transmit(self, node: "LoraNodeMachine", frequency_hz: int, sf: int, frame: bytes) -> int:
        """An uplink begins; when it ends."""
        now_us = self._world.env.now_us
        sent = OnAir(node, frequency_hz, sf, frame, now_us, now_us + time_on_air_us(len(frame), sf))
        for gateway in self._world.plan.gateways_of(node.plan.site):
            if not self._world.links[node.id, gateway.id].carries_frame():
                sent.swallowed.add(gateway.id)
                self._lost(sent, gateway.id, "link")
        here = self._on_air.setdefault((node.plan.site, frequency_hz, sf), [])
        for other in here:
            other.others.append(sent)
            sent.others.append(other)
        here.append(sent)
        self._world.env.call_at(sent.end_us, self._end, sent)
        return sent.end_us

    def answer(self, gateway: "GatewayMachine", frequency_hz: int, sf: int, frame: bytes) -> None:
        """A concentrator begins a downlink: heard by nodes of its site that listen just now, if the link lets it."""
        now_us = self._world.env.now_us
        end_us = now_us + time_on_air_us(len(frame), sf, crc=False)
        for node in self._world.lora_nodes(gateway.plan.site):
            if not node.listens(frequency_hz, sf, now_us) or not self._in_reach(node, sf):
                continue
            if self._world.links[node.id, gateway.id].carries_frame():
                self._world.env.call_at(end_us, node.hear, frame)

    def _end(self, sent: OnAir) -> None:
        self._on_air[sent.node.plan.site, sent.frequency_hz, sent.sf].remove(sent)
        for gateway in self._world.plan.gateways_of(sent.node.plan.site):
            if gateway.id in sent.swallowed:
                continue
            cause = self._cause(sent, self._world.gateways[gateway.id])
            if cause:
                self._lost(sent, gateway.id, cause)
            else:
                self._world.gateways[gateway.id].concentrator.hear(sent, strength_dbm(sent.node.plan.distance_m))

    def _cause(self, sent: OnAir, gateway: "GatewayMachine") -> str:
        """Why the gateway does not hear it, or nothing."""
        if not self._in_reach(sent.node, sent.sf):
            return "too-far"
        if gateway.concentrator.was_transmitting(sent.start_us, sent.end_us):
            return "transmitting"
        ours_dbm = strength_dbm(sent.node.plan.distance_m)
        rivals = [strength_dbm(o.node.plan.distance_m) for o in sent.others if gateway.id not in o.swallowed]
        return "collision" if any(ours_dbm - theirs_dbm < CAPTURE_DB for theirs_dbm in rivals) else ""

    def _in_reach(self, node: "LoraNodeMachine", sf: int) -> bool:
        return strength_dbm(node.plan.distance_m) >= SENSITIVITY_DBM[sf]

    def _lost(self, sent: OnAir, gateway: str, cause: str) -> None:
        self._world.emit("frame.lost", "world", {"node": sent.node.id, "gateway": gateway, "cause": cause})


def window_of(end_us: int, sf: int) -> tuple[int, int]:
    """From when to when a downlink has to begin for the node whose uplink ended at `end_us`."""
    opens_us = end_us + RECEIVE_DELAY_MS * 1000
    slack_us = WINDOW_SYMBOLS * (1 << sf) * 1_000_000 // BANDWIDTH_HZ // 2
    return opens_us - slack_us, opens_us + slack_us
