"""The planted bugs: each a core, a store or a fault board that is wrong in exactly one way."""

import random
from dataclasses import replace
from itertools import count, pairwise
from typing import Any

from clawsim.scenario import Plan
from clawsim.trace import EventLog
from clawsim.virtual.faults import FaultBoard
from clawsim.virtual.link import Link
from clawsim.virtual.machines import Cores
from clawsim.virtual.memory import FleetDatabase
from clawsim.virtual.world import VirtualWorld
from firmware.core.node import NodeCore
from firmware.wire import messages
from firmware.wire.outputs import Event, Send, Store
from fleet.core.manager import FleetCore
from fleet.wire import uplink
from nanoclaw.core.gateway import GatewayCore


def with_(**cores: Any) -> type[Cores]:
    """Cores of which some are replaced."""
    return type("PlantedCores", (Cores,), dict(cores.items()))


# --- nodes ----------------------------------------------------------------------------------------------------------


class NeverClears(NodeCore):
    """Hears every acknowledgement, and keeps and repeats its readings all the same."""

    def receive(self, port: str, name: str, payload: bytes, now_ms: int) -> None:
        if name.endswith("/received"):
            body = self._sealer.open(name, payload)
            found = messages.decode_received(body) if body else None
            if found:  # only the sign of life of it
                payload = self._sealer.seal(name, messages.encode_received(found["boot"], None, [], found["n"]))
        super().receive(port, name, payload, now_ms)


class ForgetsItsCommands(NodeCore):
    """Acts before it remembers: the ids of its commands never reach its flash."""

    def take_outputs(self) -> list[Any]:
        return [_without(output, "journal") for output in super().take_outputs()]


def _without(output: Any, slot: str) -> Any:
    if not isinstance(output, Store):
        return output
    return Store(output.token, [write for write in output.writes if write[:2] != ("put", slot)])


class ReusesItsBootNumber(NodeCore):
    """Starts with the boot number of its last life."""

    def __init__(self, config: Any, flash: Any, rng: Any, now_ms: int) -> None:
        slots = dict(flash.get("slots", {}))
        if "boot" in slots:
            slots["boot"] -= 1
        super().__init__(config, {**flash, "slots": slots}, rng, now_ms)


class AsksTheWorldForChance(NodeCore):
    """Draws from the process's own randomness instead of what it was handed."""

    def __init__(self, config: Any, flash: Any, rng: Any, now_ms: int) -> None:
        super().__init__(config, flash, random.Random(), now_ms)


# --- gateways -------------------------------------------------------------------------------------------------------


class DropsItsOutbox(GatewayCore):
    """Begins anew when the cloud is back: what it kept is gone from its disk."""

    def link_up(self, port: str, now_ms: int) -> None:
        if port == "hub" and self.uplink.mode == "offline":
            kept = list(self.outbox.waiting)
            self.outbox.waiting.clear()
            self.stores.persist([("remove", kept)], None)
        super().link_up(port, now_ms)


class NeverCatchesUp(GatewayCore):
    """Sends what is live, and never what had to wait."""

    def take_outputs(self) -> list[Any]:
        outputs = super().take_outputs()
        late = {id(batch) for batch, event in pairwise(outputs) if _is_late(event)}
        return [output for output in outputs if id(output) not in late]


def _is_late(output: Any) -> bool:
    return isinstance(output, Event) and output.kind == "batch.sent" and bool(output.fields["late"])


class AcknowledgesTooEarly(GatewayCore):
    """Tells the node that a reading is on disk when it has just arrived."""

    def receive(self, port: str, name: str, payload: bytes, now_ms: int) -> None:
        super().receive(port, name, payload, now_ms)
        found = messages.decode_reading(payload) if port == "nodes" else None
        node = self.nodes.get(name.split("/")[1])
        if found and node and "boot" in found and "seq" in found:
            seq = found["seq"]
            self.send_node(node, "received", messages.encode_received(found["boot"], (seq, seq), [], node.n))


class NeverReissuesAlarms(GatewayCore):
    """Goes offline and says nothing of the alarms that are still true."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.decisions.take_over = lambda now_ms: None  # type: ignore[method-assign]


class HidesWhatItSummarised(GatewayCore):
    """Makes summaries, and says of no reading that it went into one."""

    def take_outputs(self) -> list[Any]:
        return [o for o in super().take_outputs() if not (isinstance(o, Event) and o.kind == "reading.summarised")]


class NeverMissesANode(GatewayCore):
    """Takes every node for alive for ever."""

    def __init__(self, config: Any, *args: Any) -> None:
        super().__init__(replace(config, down_after_intervals=1000), *args)


# --- the fleet manager ----------------------------------------------------------------------------------------------


class StoresTwice(FleetCore):
    """Takes every copy for a new reading."""

    def take_outputs(self) -> list[Any]:
        return [_copies_too(output) for output in super().take_outputs()]


def _copies_too(output: Any) -> Any:
    if not isinstance(output, Store):
        return output
    return Store(output.token, [("readings", w[1]) if w[0] == "compare" else w for w in output.writes])


class TakesCopies(FleetDatabase):
    """A table without its unique constraint."""

    def __init__(self) -> None:
        super().__init__()
        self._copies: list[Any] = []

    def _insert(self, rows: Any) -> None:
        for row in rows:
            if row.seq in self.readings.get((row.node, row.boot), {}):
                self._copies.append(row)
            else:
                super()._insert([row])

    def identities(self) -> Any:
        yield from super().identities()
        yield from (row[:3] for row in self._copies)


class AcknowledgesBeforeTheCommit(FleetCore):
    """Lets the gateway forget a batch that is not stored yet."""

    def receive(self, port: str, name: str, payload: bytes, now_ms: int) -> None:
        if name.endswith("/batch"):
            self.acknowledge(name.split("/")[1], str(uplink.decode_batch(payload)[0]))
        super().receive(port, name, payload, now_ms)


class InventsReadings(FleetCore):
    """Stores a reading with each batch that nobody took."""

    def take_outputs(self) -> list[Any]:
        return [_one_more(output) for output in super().take_outputs()]


def _one_more(output: Any) -> Any:
    if not isinstance(output, Store):
        return output
    writes = [
        ("readings", [*w[1], w[1][0]._replace(seq=w[1][0].seq + 1_000_000)]) if w[0] == "readings" else w
        for w in output.writes
    ]
    return Store(output.token, writes)


class BelievesLateReadings(FleetCore):
    """Judges an hour-old reading as if it were now."""

    def __init__(self, config: Any, *args: Any) -> None:
        super().__init__(replace(config, late_ms=10**12), *args)


class NeverTellsPeople(FleetCore):
    """Knows that a node is down, and keeps it to itself."""

    def notify(self, *args: Any, **more: Any) -> None:
        return


class SendsCommandsAnew(FleetCore):
    """Gives a command another id each time that it asks again."""

    _fresh = count(1)

    def take_outputs(self) -> list[Any]:
        return [self._renamed(output) for output in super().take_outputs()]

    def _renamed(self, output: Any) -> Any:
        if not isinstance(output, Send) or not output.topic.endswith("/cmd"):
            return output
        message = uplink.decode(output.payload)
        message["id"] += f"-{next(self._fresh)}"
        return Send(output.port, output.topic, uplink.encode(message))


# --- the world ------------------------------------------------------------------------------------------------------


class AnnouncesOnly(FaultBoard):
    """Says that a fault was requested, and does nothing."""

    def apply(self, fault: Any) -> None:
        return


class LiesAboutFaults(AnnouncesOnly):
    """Does nothing, and says that it worked."""

    def _applied(self, fault: Any) -> bool:
        return True


class _Leaking(Link):
    """Says that it is cut, and lets everything through."""

    def transmit(self, *args: Any) -> bool:
        was, self.is_cut = self.is_cut, False
        try:
            return super().transmit(*args)
        finally:
            self.is_cut = was


class AnnouncingWorld(VirtualWorld):
    def __init__(self, plan: Plan, log: EventLog, cores: type[Cores] = Cores) -> None:
        super().__init__(plan, log, cores)
        self.faults = AnnouncesOnly(self)


class LyingWorld(VirtualWorld):
    def __init__(self, plan: Plan, log: EventLog, cores: type[Cores] = Cores) -> None:
        super().__init__(plan, log, cores)
        self.faults = LiesAboutFaults(self)


class _Sieve(Link):
    """Holds the first message of a cut, so that it seems to work, and lets all others through."""

    def transmit(self, direction: int, size: int, arrive: Any, value: Any) -> bool:
        if not self.is_cut or not self.blocked:
            return super().transmit(direction, size, arrive, value)
        self.env.call_at(self.env.now_us + self.latency_us, arrive, value)
        return True


class SieveWorld(VirtualWorld):
    """All links of this world are sieves."""

    def _make_links(self) -> None:
        super()._make_links()
        for link in self.links.values():
            link.__class__ = _Sieve


class LeakingWorld(VirtualWorld):
    def __init__(self, plan: Plan, log: EventLog, cores: type[Cores] = Cores) -> None:
        super().__init__(plan, log, cores)
        for link in self.links.values():
            link.__class__ = _Leaking
