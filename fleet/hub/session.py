"""What is on its way to one subscriber: bounded, and for QoS 1 kept until acknowledged, across reconnections."""

from asyncio import Queue
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from amqtt.mqtt.publish import PublishPacket
from amqtt.session import OutgoingApplicationMessage, Session

from fleet.hub.frames import Will

MAX_GRANTED_QOS = 1
MAX_IN_FLIGHT = 20  # Mosquitto's max_inflight_messages
MAX_QUEUED_MESSAGES = 10_000  # a burst of every node of a large site; Mosquitto is configured to the same

UNUSED: "Queue[Any]" = Queue()  # amqtt makes four of 3 KB for each client, and we put nothing in any


class ConnectionState:
    """The one attribute of amqtt's state machine that its broker reads; the machine itself costs and logs too much."""

    def __init__(self) -> None:
        self.state = "new"


@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way to subscribers; its QoS 0 form is encoded once, however many there are."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    encoded: bytes

    @classmethod
    def of(cls, topic: str, payload: bytes, qos: int, retain: bool = False) -> "Message":
        packet = PublishPacket.build(topic, payload, None, False, 0, retain)
        return cls(topic, payload, qos, retain, packet.to_bytes())


class HubSession(Session):
    """One identity's session. Sans I/O: messages are offered, frames are taken."""

    def __init__(self, identity: str, clean: bool, max_queued_bytes: int) -> None:
        super().__init__()
        self.retained_messages = self.delivered_message_queue = UNUSED
        self.client_id = identity
        self.identity = identity
        self.clean_session = clean
        self.will: Will | None = None
        self.dropped: Counter[int] = Counter()  # by QoS
        self.received_qos2: set[int] = set()
        self._max_queued_bytes = max_queued_bytes
        self._queued_bytes = 0
        self._fleeting: deque[Message] = deque()
        self._lasting: deque[Message] = deque()
        self._again: deque[int] = deque()

    def _init_states(self) -> None:
        self._state = ConnectionState()
        self.transitions = self._state  # type: ignore[assignment]

    @property
    def waiting(self) -> int:
        """Messages queued and not yet sent."""
        return len(self._fleeting) + len(self._lasting)

    @property
    def connected(self) -> bool:
        return self._state.state == "connected"

    def connect(self) -> None:
        """A connection took the session up: what was sent and never acknowledged is sent again [MQTT-4.4.0-1]."""
        self._state.state = "connected"
        self._again = deque(self.inflight_out)

    def disconnect(self) -> None:
        """The connection ended: QoS 0 is not kept for those who are away."""
        self._state.state = "disconnected"
        self._queued_bytes -= sum(len(message.encoded) for message in self._fleeting)
        self._fleeting.clear()

    def offer(self, message: Message, granted_qos: int) -> bool:
        """Queue a message at the lower of its and the subscription's QoS; False if something was dropped for it."""
        qos = min(message.qos, granted_qos)
        if qos == 0 and not self.connected:
            return True
        dropped = self._make_room(len(message.encoded))
        if self._is_full(len(message.encoded)):
            self.dropped[qos] += 1
            return False
        (self._lasting if qos else self._fleeting).append(message)
        self._queued_bytes += len(message.encoded)
        return not dropped

    def next_frame(self) -> bytes | None:
        """The next packet to write, or None while there is nothing that may be sent."""
        while self._again:
            waiting = self.inflight_out.get(self._again.popleft())
            if waiting is not None:
                return waiting.build_publish_packet(dup=True).to_bytes()
        if self._lasting and len(self.inflight_out) < MAX_IN_FLIGHT:
            return self._send_lasting(self._pop(self._lasting))
        return self._pop(self._fleeting).encoded if self._fleeting else None

    def next_frames(self, room_bytes: int) -> bytes:
        """Packets to write in one go: at least one if there is any, no more once `room_bytes` are full."""
        batch: list[bytes] = []
        while room_bytes >= 0 and (frame := self.next_frame()) is not None:
            batch.append(frame)
            room_bytes -= len(frame)
        return b"".join(batch)

    def acknowledge(self, packet_id: int) -> None:
        """PUBACK; one for an unknown identifier is ignored, since a repeated PUBLISH brings two."""
        self.inflight_out.pop(packet_id, None)

    def _make_room(self, size_bytes: int) -> int:
        dropped = 0
        while self._fleeting and self._is_full(size_bytes):
            self._pop(self._fleeting)
            dropped += 1
        self.dropped[0] += dropped
        return dropped

    def _is_full(self, size_bytes: int) -> bool:
        return self.waiting >= MAX_QUEUED_MESSAGES or self._queued_bytes + size_bytes > self._max_queued_bytes

    def _send_lasting(self, message: Message) -> bytes:
        packet_id = self.next_packet_id
        outgoing = OutgoingApplicationMessage(packet_id, message.topic, 1, message.payload, message.retain)
        self.inflight_out[packet_id] = outgoing
        return outgoing.build_publish_packet().to_bytes()

    def _pop(self, queue: "deque[Message]") -> Message:
        message = queue.popleft()
        self._queued_bytes -= len(message.encoded)
        return message
