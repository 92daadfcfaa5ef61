"""A client's connection to a broker over a virtual link: attempts, delivery both ways, and how it ends."""

from collections.abc import Callable
from typing import Any

from clawsim.virtual.link import DOWN, UP, Link
from clawsim.virtual.router import TopicRouter

# TCP's three-way handshake, CONNECT and SUBSCRIBE, each answered: the client may speak after three round trips.
CONNECT_CROSSINGS = 6
# TCP/IPv4 headers, acknowledged, and MQTT's fixed header with the topic's length (OASIS MQTT 3.1.1, section 3.3).
KEEPALIVE_US = 60_000_000  # the clients' MQTT keepalive; a peer is gone after one and a half (MQTT 3.1.1, 3.1.2.10)
OVERHEAD_BYTES = 2 * 40 + 4


class Session:
    """One client port. `link_up`, `link_down` and `receive` go to the client's host."""

    def __init__(
        self,
        identity: str,
        password: bytes,
        filters: tuple[str, ...],
        on_up: Callable[[], None],
        on_down: Callable[[], None],
        on_message: Callable[[str, bytes], None],
    ) -> None:
        self.identity = identity
        self.connected = False
        self._password = password
        self._filters = filters
        self._on_up = on_up
        self._on_down = on_down
        self._on_message = on_message
        self._link: Link | None = None
        self._router: TopicRouter | None = None
        self._generation = 0
        self._forgotten = False  # by a broker that has been restarted since

    def connect(self, link: Link, router: TopicRouter) -> None:
        """Make one attempt; the answer comes after three round trips, if the link lets it."""
        self.close()
        self._link, self._router = link, router
        self._handshake((self._generation, CONNECT_CROSSINGS))

    def close(self) -> None:
        """The client drops the connection or the attempt: nothing of it is heard again."""
        self._generation += 1
        if self._router is not None:
            self._router.disconnect(self)
        self.connected = False
        self._link = self._router = None

    def send(self, send: Any) -> None:
        """Perform a core's Send; lost when not connected."""
        link = self._link
        if self.connected and link is not None:
            _, topic, payload = send
            size = len(payload) + len(topic) + OVERHEAD_BYTES
            mark = link.cuts if link.is_cut else 0  # for `Link.check_mark` where it arrives
            link.transmit(UP, size, self._arrived_up, (self._generation, topic, payload, mark))

    def path(self, topic: str) -> Callable[[str, bytes], None]:
        """What takes messages for this client."""
        return self._deliver

    def _deliver(self, topic: str, payload: bytes) -> None:
        link = self._link
        if link is not None:
            size = len(payload) + len(topic) + OVERHEAD_BYTES
            mark = link.cuts if link.is_cut else 0
            link.transmit(DOWN, size, self._arrived_down, (self._generation, topic, payload, mark))

    def dropped(self, silent: bool) -> None:
        """The broker is gone. The client hears of it over the link; after a power loss only when it says something to
        the broker that came back and does not know it, or when nobody answers its pings."""
        link = self._link
        if link is None:
            return
        self._forgotten = True
        if silent:
            link.env.call_at(link.env.now_us + KEEPALIVE_US * 3 // 2, self._reset, self._generation)
        else:
            link.transmit(DOWN, OVERHEAD_BYTES, self._reset, self._generation)

    def _handshake(self, progress: tuple[int, int]) -> None:
        _, crossings = progress
        if self._link is not None:
            self._link.transmit(UP if crossings % 2 == 0 else DOWN, OVERHEAD_BYTES, self._crossed, progress)

    def _crossed(self, progress: tuple[int, int]) -> None:
        generation, crossings = progress
        if generation != self._generation or self._router is None:
            return
        if crossings > 1:
            self._handshake((generation, crossings - 1))
        elif self._router.connect(self, self._password, self._filters):
            self._forgotten = False
            self.connected = True
            self._on_up()
        else:
            self.close()
            self._on_down()

    def _arrived_up(self, sent: tuple[int, str, bytes, int]) -> None:
        generation, topic, payload, mark = sent
        if generation != self._generation or self._router is None or not self._router.running:
            return
        if mark:
            self._link.check_mark(mark)  # type: ignore[union-attr]  # a session with a router has a link
        if self._forgotten:
            self.dropped(silent=False)
        else:
            self._router.publish(self.identity, topic, payload)

    def _arrived_down(self, sent: tuple[int, str, bytes, int]) -> None:
        generation, topic, payload, mark = sent
        if generation == self._generation:
            if mark:
                self._link.check_mark(mark)  # type: ignore[union-attr]  # as long as the generation is this one
            self._on_message(topic, payload)

    def _reset(self, generation: int) -> None:
        if generation == self._generation:
            self.close()
            self._on_down()
