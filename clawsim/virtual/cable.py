"""What a node and a gateway put at the ends of a wire: the node's port `up`, and the gateway's port for that node."""

import random
from typing import Any

from clawsim.virtual.link import DOWN, UP
from clawsim.virtual.wire import Wire, WireEnd
from firmware.wire.auth import Sealer
from firmware.wire.serial import SESSION_BITS
from firmware.wire.serial_session import NodeSession
from nanoclaw.core.serial_line import SerialLine


class CableSession:
    """A node's port `up` at a cable, with the verbs of `clawsim.virtual.session.Session`."""

    def __init__(self, machine: Any, rng: random.Random) -> None:
        self._machine = machine
        self._rng = rng
        self._end: WireEnd | None = None

    def plug_in(self, wire: Wire) -> None:
        """This is the cable."""
        self._end = WireEnd(wire, UP, self._machine, self._tell)

    def connect(self) -> None:
        """Say hello; the answer is the core's to wait for."""
        if self._end is not None:
            session = self._rng.getrandbits(SESSION_BITS)
            self._end.begin(NodeSession(self._machine.id, self._machine.key, session, self._end.now_ms))

    def close(self) -> None:
        """Nothing is heard any more."""
        if self._end is not None:
            self._end.begin(None)

    def send(self, send: Any) -> None:
        """Perform a core's Send; lost when the session is not up."""
        end = self._end
        if end is not None and end.session is not None:
            end.session.publish(send.topic, send.payload, end.now_ms)
            end.flush()

    def thaw(self) -> None:
        """The process goes on."""
        if self._end is not None:
            self._end.thaw()

    def _tell(self, event: Any) -> None:
        if event[0] == "message":
            self._machine.host.receive("up", event[1], event[2])
        elif event[0] == "rejected":
            self._machine.world.emit("message.rejected", self._machine.id, {"topic": "", "reason": event[1]})
        elif event[0] == "up":
            self._machine.call("link_up", "up")
        else:
            self.close()
            self._machine.call("link_down", "up")


class CablePort:
    """A gateway's port for the node at the other end of a wire."""

    def __init__(self, wire: Wire, machine: Any) -> None:
        self._machine = machine
        self._end = WireEnd(wire, DOWN, machine, self._tell)

    @property
    def is_open(self) -> bool:
        """Whether the daemon listens on it."""
        return self._end.session is not None

    def open(self, rng: random.Random) -> None:
        """The daemon runs; `rng` draws the numbers of its sessions."""
        self._end.begin(SerialLine(self._sealer_of, lambda: rng.getrandbits(SESSION_BITS)))

    def close(self) -> None:
        """The daemon is gone."""
        self._end.begin(None)

    def send(self, name: str, payload: bytes) -> None:
        """Send to the node; lost when it is not here."""
        line = self._end.session
        if line is not None:
            line.send(name, payload, self._end.now_ms)
            self._end.flush()

    def thaw(self) -> None:
        """The process goes on."""
        self._end.thaw()

    def _sealer_of(self, node_id: str) -> Sealer | None:
        node = self._machine.host.core.nodes.get(node_id)
        return None if node is None else node.sealer

    def _tell(self, event: Any) -> None:
        if event[0] == "message":
            self._machine.host.receive("nodes", event[1], event[2])
        elif event[0] == "rejected":
            self._machine.refused(event[1], event[2], "cable")
