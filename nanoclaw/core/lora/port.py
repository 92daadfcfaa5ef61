"""The port `lora`: datagrams of concentrators come in, messages of nodes come out, answers go back.

The first copy of a frame is opened and taken at once; copies by other concentrators only help to choose which of them
sends the answer. What of a node is inside is taken like its MQTT messages. Every gateway of a site takes them; only the
one that the fleet manager named for the node answers, and says whether it is up.
"""

from typing import TYPE_CHECKING, Any

from firmware.wire import lora, lora_contents
from firmware.wire.messages import decode_command, decode_received
from firmware.wire.outputs import Send
from firmware.wire.topics import topic
from fleet.wire.uplink import Message, Rejected
from nanoclaw.core.lora import gwmp
from nanoclaw.core.lora.concentrators import Concentrator, Concentrators
from nanoclaw.core.lora.config import LoraConfig
from nanoclaw.core.lora.guard import Guard
from nanoclaw.core.lora.keys import Keys
from nanoclaw.core.lora.windows import Copy, Window, Windows
from nanoclaw.core.roster import Node

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

PORT = "lora"
SLOT = "air:"
SPENT_SLOT = "transmitted:"
COPIES_MS = 3_000
"""A frame that comes again so soon was heard by another concentrator."""
MOST_FRAMES = 1_000
MOST_REASONS = 64
_LONGEST = {12: 64, 11: 64, 10: 64, 9: 128}
"""Bytes of a frame by spreading factor, as LoRaWAN has it in EU868 (RP002): short where the air is dear."""


class LoraPort:
    """See this module."""

    def __init__(self, core: "GatewayCore", config: LoraConfig, rng: Any) -> None:
        self._core = core
        self.concentrators = Concentrators(config, _kept(core.slots, SPENT_SLOT))
        self.windows = Windows(self, config.power_dbm, rng.getrandbits(16))
        self.foreign = 0
        """Frames of others on the same channels, LoRaWAN's for instance, and of nodes that are not ours."""
        self.rejected: dict[str, int] = {}
        self._keys = Keys(core.config.fleet_id)
        self._us = lora.address(core.config.fleet_id, core.id)
        self._answers: frozenset[str] = frozenset()
        self._heard: dict[bytes, tuple[int, list[Copy]]] = {}  # since when, in that order
        self._guards = {node: Guard(state) for node, state in _kept(core.slots, SLOT).items()}

    @property
    def due_ms(self) -> int | None:
        """When `on_timer` is wanted next."""
        return self.windows.due_ms

    def configure(self, answers: list[str], now_ms: int) -> None:
        """The nodes may be others now, and so may those that this gateway answers."""
        core = self._core
        self._answers = frozenset(answers)
        self._keys.configure({node.id: node.key for node in core.nodes.values()})
        for node in core.nodes.values():
            if node.air and node.id not in self._answers and node.state in ("up", "down"):
                core.monitor.let_go(node, now_ms)

    def receive(self, address: str, data: bytes, now_ms: int) -> None:
        """A datagram from `address` ("host:port")."""
        try:
            datagram = gwmp.decode(data)
            by = self.concentrators.get(datagram.eui, now_ms)
            if by is None:
                raise Rejected("a concentrator that is not ours")
            if datagram.kind == gwmp.PULL_DATA:
                by.pulled(address, now_ms)
                self.send(address, gwmp.pull_ack(datagram.token))
            elif datagram.kind == gwmp.TX_ACK:
                self._on_tx_ack(by, datagram, now_ms)
            else:
                self.send(address, gwmp.push_ack(datagram.token))
                for rxpk in gwmp.packets(datagram.body):
                    self._on_packet(by, rxpk, now_ms)
        except Rejected as error:
            self._reject(str(error), address)

    def on_timer(self, now_ms: int) -> None:
        """Answer whose windows open."""
        self.windows.on_timer(now_ms)

    def on_disk(self, now_ms: int) -> None:
        """Readings or frames are durable: answers may be waiting for it."""
        self.windows.ready(now_ms)

    def view(self, now_ms: int) -> Message:
        """What people want to know."""
        return {
            "concentrators": [each.view(now_ms) for each in self.concentrators.all.values()],
            "foreign": self.foreign,
            "rejected": dict(self.rejected),
            "missed": dict(self.windows.missed),
        }

    # --- frames of nodes ------------------------------------------------------------------------------------------

    def _on_packet(self, by: Concentrator, rxpk: Any, now_ms: int) -> None:
        by.packets += 1
        try:
            packet = gwmp.packet(rxpk)
            if packet.crc == gwmp.CRC_FAILED:
                by.crc_failed += 1
            elif not self._is_copy(by, packet, now_ms):
                self._on_frame(Copy(by, packet), now_ms)
        except Rejected as error:
            self._reject(str(error), by.eui)

    def _is_copy(self, by: Concentrator, packet: gwmp.Packet, now_ms: int) -> bool:
        """Whether the frame was heard just now by another one (or, on a neighbouring channel, by this one)."""
        self._forget(now_ms)
        found = self._heard.get(packet.frame)
        if found is None:
            return False
        by.copies += 1
        copies, copy = found[1], Copy(by, packet)
        same = [each for each in copies if each.by is by]
        if not same:
            copies.append(copy)
        elif copy.strength_dbm > same[0].strength_dbm:
            copies[copies.index(same[0])] = copy
        return True

    def _forget(self, now_ms: int) -> None:
        while self._heard:
            frame, (since_ms, _) = next(iter(self._heard.items()))
            if now_ms - since_ms <= COPIES_MS and len(self._heard) < MOST_FRAMES:
                break
            del self._heard[frame]

    def _on_frame(self, copy: Copy, now_ms: int) -> None:
        """The first copy of a frame. Raises Rejected."""
        frame = copy.packet.frame
        head = lora.head_of(frame)
        if head is None or head.down or not self._keys.know(head.node):
            self.foreign += 1
            return
        copies = [copy]
        self._heard[frame] = (now_ms, copies)
        opened = self._keys.open(head.node, frame)
        if opened is None:
            raise Rejected("a frame under another key")
        guard = self._guards.setdefault(opened.node, Guard())
        if not guard.is_new(head.boot, head.count):
            raise Rejected("a frame that has come before")
        fleet = self._core.config.fleet_id
        said = lora_contents.unpack_uplink(opened.contents, fleet, head.boot, head.count)
        if said is None:
            raise Rejected("malformed contents")
        guard.take(head.boot, head.count)
        node = self._core.nodes[opened.node]
        node.air = True
        if node.state == "up":
            node.heard_ms = now_ms  # a frame proves as much as a heartbeat, which may be lost on the air
        window = Window(node, head, opened.block, copies, now_ms) if node.id in self._answers else None
        self._record(node, guard, window)
        for verb, payload in said:
            self._pass_on(node, verb, payload, now_ms)
        if window is not None and (head.asks or self._core.commands.next_for_air(node) is not None):
            self._core.intake.hurry(now_ms)
            self.windows.open(window, now_ms)

    def _record(self, node: Node, guard: Guard, window: Window | None) -> None:
        """Keep on disk that the frame has come: only then it is answered, so that no restart answers it again."""

        def recorded(at_ms: int) -> None:
            if window is not None:
                window.recorded = True
                self.windows.ready(at_ms)

        self._core.stores.persist([("put", SLOT + node.id, guard.as_slot())], recorded)

    def _pass_on(self, node: Node, verb: str, payload: bytes, now_ms: int) -> None:
        """A message in a frame, as if it had come by MQTT."""
        core = self._core
        try:
            if verb == "heartbeat" and node.id not in self._answers:
                core.monitor.overhear(node, payload, now_ms)
            else:
                core.from_node(topic(node.id, verb), payload, now_ms, air=True)
        except Rejected as error:
            self._reject(str(error), node.id)

    # --- answers --------------------------------------------------------------------------------------------------

    def unstored(self, node: Node) -> bool:
        """Whether readings of the node are on their way to the disk."""
        return any(arrivals.unstored for arrivals in node.arrivals.values())

    def answer(self, window: Window, now_ms: int) -> bytes:
        """What there is to say, sealed: what the disk has, and a command that waits."""
        node, core = window.node, self._core
        found: Message = {}
        for body in node.received_messages(False):
            received = decode_received(body)
            if received is not None:
                found = lora_contents.pack_received(window.boot, received) | found
        window.order = core.commands.next_for_air(node)
        if window.order is not None:
            found = self._with_command(window, found, now_ms)
        address = lora.address(core.config.fleet_id, node.id)
        contents = lora_contents.contents_of(found)
        return lora.seal_downlink(window.block, address, window.boot, window.count, self._us, contents)

    def _with_command(self, window: Window, found: Message, now_ms: int) -> Message:
        """What is acknowledged together with a command, or the command alone where both are too long."""
        commands, order = self._core.commands, window.order
        command = decode_command(commands.encoded(order, now_ms)) if order else None
        if order is None or command is None:
            return found
        packed = lora_contents.pack_command(command)
        if len(lora_contents.contents_of(packed)) > lora.MAX_FRAME_BYTES - lora.DOWNLINK_BYTES:
            window.order = None
            commands.refuse(order, "too long for a radio frame", now_ms)
            return found
        room = _LONGEST.get(window.copies[0].packet.sf, lora.MAX_FRAME_BYTES) - lora.DOWNLINK_BYTES
        both = found | packed
        return both if len(lora_contents.contents_of(both)) <= room else packed

    def given(self, window: Window, now_ms: int) -> None:
        """A concentrator was given the answer to send."""
        if window.order is not None:
            self._core.commands.aired(window.order, now_ms)

    def send(self, address: str, data: bytes) -> None:
        """Send a datagram."""
        self._core.emit(Send(PORT, address, data))

    def keep_spent(self, by: Concentrator, now_ms: int) -> None:
        """A concentrator has transmitted: its hour counts on after a restart."""
        self._core.stores.put(SPENT_SLOT + by.eui, by.as_slot(now_ms))

    def tell(self, kind: str, fields: Message) -> None:
        """Say what happened."""
        self._core.event(kind, fields)

    def _on_tx_ack(self, by: Concentrator, datagram: gwmp.Datagram, now_ms: int) -> None:
        if not self.windows.on_tx_ack(by, datagram.token, gwmp.transmitted(datagram.body), now_ms):
            raise Rejected("an answer to no downlink of ours")

    def _reject(self, reason: str, sender: str) -> None:
        if reason in self.rejected or len(self.rejected) < MOST_REASONS:
            self.rejected[reason] = self.rejected.get(reason, 0) + 1
        self._core.reject(PORT, reason, sender)


def _kept(slots: Message, prefix: str) -> Message:
    return {slot[len(prefix) :]: value for slot, value in slots.items() if slot.startswith(prefix)}
