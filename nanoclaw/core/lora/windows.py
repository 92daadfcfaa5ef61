"""The receive windows of nodes: an answer leaves a second after the uplink, by the concentrator that heard it best.

| after the first copy of an uplink | then                                                                   |
|-----------------------------------|------------------------------------------------------------------------|
| 200 ms                            | copies by other concentrators have come; a complete answer is sent     |
| until 700 ms                      | it waits for the disk: nothing is acknowledged that is not on it       |
| 700 ms                            | what can be said is sent; nothing, if the disk does not know the frame |
| 850 ms                            | too late: a concentrator programs its modem ahead                      |

A concentrator that refuses is followed by the next best one while there is time. What is missed is said, and comes with
the next uplink: the node asks again.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from firmware.wire.airtime import time_on_air_us
from firmware.wire.lora import RECEIVE_DELAY_MS
from nanoclaw.core.lora import gwmp
from nanoclaw.core.lora.concentrators import Concentrator
from nanoclaw.core.lora.gwmp import Downlink, Packet
from nanoclaw.core.lora.keys import Block

if TYPE_CHECKING:
    from nanoclaw.core.lora.port import LoraPort
    from nanoclaw.core.orders import Order
    from nanoclaw.core.roster import Node

GATHER_MS = 200
DECIDE_MS = 700
LATEST_MS = 850
UNANSWERED_MS = 5_000
MOST_WINDOWS = 1_000


class Copy(NamedTuple):
    """An uplink as one concentrator heard it."""

    by: Concentrator
    packet: Packet

    @property
    def strength_dbm(self) -> float:
        """Of the signal alone, without the noise that RSSI measures along (SX1276 data sheet, section 5.5.5)."""
        return self.packet.rssi_dbm + min(self.packet.snr_db, 0)


class Window:
    """One receive window of one node, and the answer that is made for it once: its nonce must not come twice."""

    def __init__(self, node: "Node", head: Any, block: Block, copies: list[Copy], now_ms: int) -> None:
        """`head` is the uplink's, `block` opens the node's frames, `copies` may still become more."""
        self.node = node
        self.boot: int = head.boot
        self.count: int = head.count
        self.block = block
        self.copies = copies
        self.gathered_ms = now_ms + GATHER_MS
        self.decide_ms = now_ms + DECIDE_MS
        self.latest_ms = now_ms + LATEST_MS
        self.recorded = False
        """Whether the disk knows that this uplink has come, so that no restart answers it again."""
        self.answer = b""
        self.order: Order | None = None
        """The command in the answer."""
        self.tried: set[str] = set()

    def best(self) -> list[Copy]:
        """The concentrators that have not refused yet, best first."""
        left = [copy for copy in self.copies if copy.by.eui not in self.tried]
        return sorted(left, key=lambda copy: copy.strength_dbm, reverse=True)


class _OnAir(NamedTuple):
    """A downlink that a concentrator was given, until it says what became of it."""

    window: Window
    by: Concentrator
    frequency_hz: int
    air_us: int
    until_ms: int


class Windows:
    """The windows that are open, and the downlinks on their way."""

    def __init__(self, port: "LoraPort", power_dbm: int, token: int) -> None:
        """`token`: where the numbers of downlinks begin."""
        self._port = port
        self._power_dbm = power_dbm
        self._token = token
        self._open: list[Window] = []
        self._on_air: dict[int, _OnAir] = {}
        self.due_ms: int | None = None
        self.missed: dict[str, int] = {}
        """How many windows had no answer, by reason."""

    def open(self, window: Window, now_ms: int) -> None:
        """A node listens soon."""
        if len(self._open) >= MOST_WINDOWS:
            self._miss(window, "too-many")
        else:
            self._open.append(window)
            self._arm(now_ms)

    def ready(self, now_ms: int) -> None:
        """What windows wait for may be on the disk now."""
        self._look(now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Send what is complete or cannot wait; give up on what no concentrator has answered."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        self._look(now_ms)
        late = [token for token, sent in self._on_air.items() if now_ms >= sent.until_ms]
        for token in late:
            sent = self._on_air.pop(token)
            sent.by.failed("unanswered")
            self._settle(sent, True, now_ms)
        self._arm(now_ms)

    def on_tx_ack(self, by: Concentrator, token: int, error: str, now_ms: int) -> bool:
        """A concentrator says what became of a downlink; whether it was given one with that token."""
        sent = self._on_air.get(token)
        if sent is None or sent.by is not by:
            return False
        del self._on_air[token]
        self._settle(sent, not error, now_ms)
        if error:
            by.failed(error)
            self._send(sent.window, error, now_ms)
        else:
            by.downlinks += 1
            window = sent.window
            self._port.tell(
                "downlink.sent", {"node": window.node.id, "concentrator": by.eui, "bytes": len(window.answer)}
            )
        self._arm(now_ms)
        return True

    def _look(self, now_ms: int) -> None:
        for window in list(self._open):
            if now_ms < window.gathered_ms:
                continue
            waits = not window.recorded or self._port.unstored(window.node)
            if waits and now_ms < window.decide_ms:
                continue
            self._open.remove(window)
            if not window.recorded:
                self._miss(window, "disk")
            else:
                window.answer = self._port.answer(window, now_ms)
                self._send(window, "", now_ms)
        self._arm(now_ms)

    def _send(self, window: Window, reason: str, now_ms: int) -> None:
        """Give the answer to the best concentrator that can send it; `reason`: why the one before could not."""
        for copy in window.best():
            if now_ms > window.latest_ms:
                reason = reason or "too-late"
                break
            window.tried.add(copy.by.eui)
            reason = self._give(window, copy, now_ms)
            if not reason:
                return
        self._miss(window, reason)

    def _give(self, window: Window, copy: Copy, now_ms: int) -> str:
        """Have a concentrator send the answer; "" or why it cannot."""
        by, packet, answer = copy.by, copy.packet, window.answer
        address = by.address(now_ms)
        if address is None:
            return "no-route"
        air_us = time_on_air_us(len(answer), packet.sf, crc=False) * 125_000 // packet.bandwidth_hz
        if not by.reserve(packet.frequency_hz, air_us, now_ms):
            return "duty-cycle"
        self._token = (self._token + 1) % 0x10000
        tmst_us = packet.tmst_us + RECEIVE_DELAY_MS * 1000
        power_dbm = self._power_dbm
        downlink = Downlink(answer, tmst_us, packet.frequency_hz, packet.sf, packet.bandwidth_hz, power_dbm)
        self._on_air[self._token] = _OnAir(window, by, packet.frequency_hz, air_us, now_ms + UNANSWERED_MS)
        self._port.send(address, gwmp.pull_resp(self._token, downlink))
        self._port.given(window, now_ms)
        return ""

    def _settle(self, sent: _OnAir, transmitted: bool, now_ms: int) -> None:
        sent.by.settle(sent.frequency_hz, sent.air_us, transmitted, now_ms)
        if transmitted:
            self._port.keep_spent(sent.by, now_ms)

    def _miss(self, window: Window, reason: str) -> None:
        self.missed[reason] = self.missed.get(reason, 0) + 1
        self._port.tell("downlink.missed", {"node": window.node.id, "reason": reason})

    def _arm(self, now_ms: int) -> None:
        due_ms = [each.gathered_ms if now_ms < each.gathered_ms else each.decide_ms for each in self._open]
        due_ms += [sent.until_ms for sent in self._on_air.values()]
        self.due_ms = min(due_ms, default=None)
