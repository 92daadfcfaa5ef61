"""Gateways that do nothing but send batches and hear their acknowledgements, over bare MQTT 3.1.1.

One thread serves them all and every packet is made beforehand, so that the machine's time goes to what is measured.
"""

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from firmware.wire.auth import mqtt_password
from tests.hub.client import connect_packet, publish_packet, subscribe_packet

KEY = "11" * 32
ANSWER_S = 30.0
_PUBLISH = 3


class _Gateway:
    """One connection; acknowledgements come in the order of the batches."""

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name = name
        self.sent_s: deque[float] = deque()
        self._buffer = b""
        self.socket = socket.create_connection((host, port), ANSWER_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(connect_packet(name, name, mqtt_password(bytes.fromhex(KEY))))
        self.socket.sendall(subscribe_packet(f"clawland/{name}/batch/ack"))
        answers: list[tuple[int, bytes]] = []
        while len(answers) < 2:
            answers += self._packets()
        assert [kind for kind, _ in answers] == [2, 9] and answers[0][1][1] == 0, answers

    def send(self, packet: bytes) -> None:
        self.sent_s.append(time.perf_counter())
        self.socket.sendall(packet)

    def hear(self, took_s: list[float]) -> None:
        """Notes how long each of the batches that are acknowledged now took."""
        now_s = time.perf_counter()
        for kind, _ in self._packets():
            if kind == _PUBLISH:
                took_s.append(now_s - self.sent_s.popleft())

    def _packets(self) -> Iterator[tuple[int, bytes]]:
        """Kind and body of what has arrived; none of it is longer than two bytes of length can say."""
        more = self.socket.recv(1 << 16)
        assert more, f"the hub has dropped {self.name}"
        data = self._buffer + more
        while len(data) > 1:
            length, at = data[1], 2
            if length & 128:
                if len(data) < 3:
                    break
                length, at = (length & 127) | data[2] << 7, 3
            if len(data) < at + length:
                break
            yield data[0] >> 4, data[at : at + length]
            data = data[at + length :]
        self._buffer = data


class Gateways:
    """Connected gateways, by the names that the batches' topics bear."""

    def __init__(self, names: Sequence[str], hub: str) -> None:
        host, _, port = hub.rpartition(":")
        self._by_name = {name: _Gateway(name, host, int(port)) for name in names}
        self._selector = selectors.DefaultSelector()
        for gateway in self._by_name.values():
            self._selector.register(gateway.socket, selectors.EVENT_READ, gateway)

    def packet(self, topic: str, payload: bytes) -> tuple[str, bytes]:
        """A batch, ready to be sent: by whom, and the packet."""
        return topic.split("/")[1], publish_packet(topic, payload)

    def pour(self, packets: Sequence[tuple[str, bytes]], in_flight: int) -> list[float]:
        """Sends all, with at most `in_flight` unacknowledged; seconds to each acknowledgement."""
        took_s: list[float] = []
        for number, (name, packet) in enumerate(packets, 1):
            self._by_name[name].send(packet)
            if number >= in_flight:
                self._hear(took_s, lambda number=number: len(took_s) > number - in_flight)
        self._hear(took_s, lambda: len(took_s) == len(packets))
        return took_s

    def pace(self, packets: Sequence[tuple[str, bytes]], per_s: float) -> list[float]:
        """Sends `per_s` of them a second, whatever is acknowledged; seconds to each acknowledgement."""
        took_s: list[float] = []
        begun_s = time.perf_counter()
        for number, (name, packet) in enumerate(packets):
            while (wait_s := begun_s + number / per_s - time.perf_counter()) > 0:
                self._hear_for(took_s, wait_s)
            self._by_name[name].send(packet)
        self._hear(took_s, lambda: len(took_s) == len(packets))
        return took_s

    def close(self) -> None:
        """Without a word."""
        self._selector.close()
        for gateway in self._by_name.values():
            gateway.socket.close()

    def _hear(self, took_s: list[float], enough: Callable[[], bool]) -> None:
        while not enough():
            assert self._hear_for(took_s, ANSWER_S), f"{len(took_s)} batches were acknowledged, and no more"

    def _hear_for(self, took_s: list[float], wait_s: float) -> bool:
        """Whether anything came."""
        ready = self._selector.select(wait_s)
        for key, _ in ready:
            key.data.hear(took_s)
        return bool(ready)
