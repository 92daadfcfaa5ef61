"""The core's ports to the cloud: one MQTT connection for each configured line, of which the core uses one at a time."""

import asyncio

from firmware.hosting.mqtt import Listener, Login, MqttPort
from nanoclaw.core.lines import Line
from nanoclaw.host.lines_config import Way

HUB_TOPICS = ("batch/ack", "heartbeat/ack", "cmd", "config")


class HubPorts:
    """`ways` in the order of the core's `lines`."""

    def __init__(
        self, gateway: str, login: Login, ways: tuple[Way, ...], lines: list[Line], listener: Listener
    ) -> None:
        self._listener = listener
        self._names = {line.port: line.name for line in lines}
        self._ways = {way.name: way for way in ways}
        topics = [f"clawland/{gateway}/{verb}" for verb in HUB_TOPICS]
        self._ports = {
            line.port: MqttPort(
                line.port,
                login,
                topics,
                listener,
                target=way.target,
                bind_address=way.bind_address,
                interface=way.interface,
            )
            for line, way in zip(lines, ways, strict=True)
        }

    def __contains__(self, port: str) -> bool:
        return port in self._ports

    def connect(self, port: str) -> None:
        """Make one attempt over this line."""
        self._ports[port].connect()

    def disconnect(self, port: str) -> None:
        """Drop the line's connection or attempt."""
        self._ports[port].disconnect()

    def send(self, port: str, topic: str, payload: bytes) -> None:
        """Publish over this line."""
        self._ports[port].send(topic, payload)

    def redirect(self, ways: tuple[Way, ...]) -> list[str]:
        """Go another way where it was changed, by name; the names of the lines that do."""
        changed = []
        for port, name in self._names.items():
            way = next(each for each in ways if each.name == name)
            old, self._ways[name] = self._ways[name], way
            if (old.target, old.through) != (way.target, way.through):
                changed.append(name)
                self._ports[port].redirect(way.target, way.bind_address, way.interface)
                self._ports[port].disconnect()
                self._listener.link_down(port)
        return changed

    def views(self) -> dict[str, dict[str, object]]:
        """Of each line, by name: where it leads, messages sent and dropped, and why it last ended."""
        return {
            name: {
                "target": self._ways[name].target,
                "through": self._ways[name].through,
                "sent": self._ports[port].sent,
                "dropped": self._ports[port].dropped,
                "failure": self._ports[port].last_failure,
            }
            for port, name in self._names.items()
        }

    async def close(self) -> None:
        """Disconnect all, and wait until what was sent is out."""
        await asyncio.gather(*(port.close() for port in self._ports.values()))
