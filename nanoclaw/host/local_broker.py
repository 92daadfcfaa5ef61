"""The broker that nodes connect to, and the daemon's own connection to it."""

import asyncio
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from firmware.hosting.dial import dialled, dialled_at
from firmware.hosting.lifecycle import CannotRun
from firmware.hosting.mqtt import Listener, Login, MqttPort
from firmware.wire.messages import MAX_NODE_MESSAGE_BYTES
from fleet.hub import EmbeddedBroker, HubError, MosquittoBroker, NodeAccess
from nanoclaw.host.sensor_tls import TlsFront

_log = logging.getLogger("clawland.local-broker")

RECONNECT_S = 1.0

EventSink = Callable[[str, Mapping[str, Any]], None]


class LocalBroker:
    """The embedded broker or Mosquitto, with the node passwords that the core last asked for."""

    def __init__(
        self, kind: str, gateway: str, host: str, port: int, data: Path, front: TlsFront | None = None
    ) -> None:
        """With `front` nodes speak TLS to that."""
        self._front = front
        self.login = Login(gateway, os.urandom(16).hex().encode())
        self._on_event: EventSink | None = None
        self._passwords: dict[str, bytes] = {}
        access = NodeAccess(gateway, self.login.password, self._passwords)
        # By process, since a stand-by may wait beside the one that runs.
        self._files = data / f"mosquitto-{os.getpid()}"
        self._broker: EmbeddedBroker | MosquittoBroker
        if kind == "mosquitto":
            self._broker = MosquittoBroker(
                host=host,
                port=port,
                access=access,
                max_payload_bytes=MAX_NODE_MESSAGE_BYTES,
                directory=self._files,
                on_event=self._event,
            )
        else:
            self._broker = EmbeddedBroker(
                host=host, port=port, access=access, max_payload_bytes=MAX_NODE_MESSAGE_BYTES, on_event=self._event
            )

    @property
    def port(self) -> int:
        """The TCP port, the real one once started."""
        return self._broker.port

    @property
    def tls_port(self) -> int | None:
        """The TCP port for TLS, the real one once started; None when there is none."""
        return None if self._front is None else self._front.port

    @property
    def fingerprint(self) -> str | None:
        """What nodes pin, once started; None without TLS."""
        return None if self._front is None else self._front.fingerprint

    @property
    def target(self) -> str:
        """Where the daemon itself connects to."""
        return dialled_at(self._broker.host, self.port)

    async def start(self) -> None:
        """Listen; raises `CannotRun` when the port is taken or Mosquitto is missing."""
        _remove_leftovers(self._files)
        try:
            await self._broker.start()
        except HubError as error:
            raise CannotRun(f"the local broker: {error}") from None
        if self._front is not None:
            try:
                await self._front.start((dialled(self._broker.host), self.port))
            except CannotRun:
                await self.stop()
                raise

    async def stop(self) -> None:
        """Close every connection and the port."""
        if self._front is not None:
            await self._front.stop()
        await self._broker.stop()
        shutil.rmtree(self._files, ignore_errors=True)

    def report_to(self, on_event: EventSink) -> None:
        """Tell `on_event` of messages that the broker rejects and, of the embedded one, clients that come and go."""
        self._on_event = on_event

    async def set_passwords(self, passwords: Mapping[str, bytes]) -> None:
        """Put the whole table into force; who is no longer in it, or under another password, is disconnected."""
        stale = [node for node, password in self._passwords.items() if passwords.get(node) != password]
        changed = dict(passwords) != self._passwords
        self._passwords.clear()
        self._passwords.update(passwords)
        if isinstance(self._broker, EmbeddedBroker):
            for node in stale:
                self._broker.disconnect(node)
        elif changed:
            await self._reload(self._broker)

    async def _reload(self, broker: MosquittoBroker) -> None:
        try:
            await broker.reload()
        except HubError as error:
            raise CannotRun(f"the local broker: {error}") from None

    def _event(self, kind: str, fields: Mapping[str, Any]) -> None:
        if self._on_event is None:
            return
        if kind == "message.rejected":  # in the words of the core's own rejections
            fields = {"topic": fields.get("topic"), "reason": fields.get("reason"), "from": fields.get("identity")}
        self._on_event(kind, fields)


def _remove_leftovers(own: Path) -> None:
    """Remove Mosquitto's files of daemons that were killed."""
    for directory in own.parent.glob("mosquitto-*"):
        if not Path("/proc", directory.name.partition("-")[2]).exists():
            shutil.rmtree(directory, ignore_errors=True)


class NodesPort:
    """The core's port `nodes`: the local broker is always there, so a lost connection is made again at once."""

    def __init__(self, broker: LocalBroker, listener: Listener) -> None:
        self._listener = listener
        self._port = MqttPort("nodes", broker.login, ["clawland/+/+"], self, target=broker.target)
        self._retry: asyncio.TimerHandle | None = None

    @property
    def up(self) -> bool:
        """Whether the daemon is connected to its broker."""
        return self._port.up

    def start(self) -> None:
        """Connect, and stay connected."""
        self._port.connect()

    def send(self, topic: str, payload: bytes) -> None:
        """Publish to nodes."""
        self._port.send(topic, payload)

    async def close(self) -> None:
        """Disconnect for good."""
        if self._retry is not None:
            self._retry.cancel()
        await self._port.close()

    # the port's listener

    def link_up(self, port: str) -> None:
        self._listener.link_up(port)

    def link_down(self, port: str) -> None:
        _log.warning("the connection to the local broker is lost: %s", self._port.last_failure)
        self._listener.link_down(port)
        self._retry = asyncio.get_running_loop().call_later(RECONNECT_S, self._port.connect)

    def receive(self, port: str, topic: str, payload: bytes) -> None:
        self._listener.receive(port, topic, payload)

    def congested(self) -> bool:
        return self._listener.congested()
