"""A gateway with a primary and a backup uplink to the same hub, driven by hand."""

from typing import Any

import orjson

from firmware.wire.outputs import Connect, Disconnect, Send
from nanoclaw.core.lines import LineConfig
from tests.nanoclaw_core.rig import GATEWAY, Station

PRIMARY, BACKUP = "hub", "hub:4g"


class TwoWays(Station):
    """`there` says of each port whether an attempt succeeds (True), is refused (False) or hears nothing (None).

    Like the hub, it lets a second connection of the same gateway replace the first.
    """

    def __init__(self, daily_bytes: int | None = None, **config: Any) -> None:
        super().__init__(lines=(LineConfig("ethernet"), LineConfig("4g", daily_bytes)), **config)
        self.there: dict[str, bool | None] = {PRIMARY: True, BACKUP: True}
        self.up: str | None = None
        self.sent_over: list[str] = []
        self._hung: set[str] = set()

    def online(self) -> "TwoWays":
        self.cloud_answers = True
        self.power_on()
        self.at(self.now_ms)
        self.configured()
        return self

    def cut(self, port: str) -> None:
        """The line is unplugged: an established connection drops, an attempt is refused."""
        self.there[port] = False
        if self.up == port:
            self._lose()
        elif port in self._hung:
            self._answer(port)
        if self.alive:
            self.at(self.now_ms)

    def hush(self, port: str) -> None:
        """The line swallows everything and says nothing."""
        self.there[port] = None

    def restore(self, port: str) -> None:
        self.there[port] = True

    def _lose(self) -> None:
        port, self.up = self.up, None
        if port is not None:
            self.core.link_down(port, self.now_ms)
            self.pump()

    def _perform(self, output: Any) -> None:
        if isinstance(output, Connect):
            self.outputs.append(output)
            self._answer(output.port)
        elif isinstance(output, Disconnect):
            self.outputs.append(output)
            self._hung.discard(output.port)
            self.up = None if self.up == output.port else self.up
        elif isinstance(output, Send) and output.port != "nodes":
            self.outputs.append(output)
            if self.up == output.port and self.there[output.port]:
                self.sent_over.append(output.port)
                self._cloud(output)
        else:
            super()._perform(output)

    def _cloud(self, send: Send) -> None:
        self.answers_on = send.port
        super()._cloud(send)

    def raw(self, port: str, topic: str, payload: bytes) -> None:
        super().raw(self.answers_on if port == "hub" else port, topic, payload)

    answers_on = PRIMARY

    def to_cloud(self, verb: str) -> list[dict[str, Any]]:
        sent = [each for each in self.of(Send) if each.port != "nodes"]
        return [orjson.loads(each.payload) for each in sent if each.topic == f"clawland/{GATEWAY}/{verb}"]

    def _answer(self, port: str) -> None:
        self._hung.discard(port)
        if self.there[port] is None:
            self._hung.add(port)
        elif self.there[port]:
            self._lose()  # the hub knows one connection of a gateway
            self.up = port
            self.core.link_up(port, self.now_ms)
            self.pump()
        else:
            self.core.link_down(port, self.now_ms)
            self.pump()
