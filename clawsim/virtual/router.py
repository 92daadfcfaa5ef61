"""The in-process topic router that stands in for a broker: the same rights, the same delivery, no sockets.

Rights come from the very `Access` tables that the real brokers use.
"""

from collections.abc import Callable
from typing import Protocol

from fleet.hub.access import Access
from fleet.hub.topics import matches

MOST_CACHED = 50_000
_NOBODY = ""
"""The broker's own machine, which is no client."""
Reject = Callable[[str, str, str], None]
Deliver = Callable[[str, bytes], None]


class Subscriber(Protocol):
    """Someone connected to the router."""

    identity: str

    def path(self, topic: str) -> Deliver | None:
        """What takes messages on a topic that it subscribed to, until it connects again; None if it ignores them."""

    def dropped(self, silent: bool) -> None:
        """The broker is gone; `silent` means that nothing said so (power loss)."""


class TopicRouter:
    """Routes messages by exact topic or filter; refuses what `access` does not grant."""

    def __init__(self, name: str, access: Access, max_payload_bytes: int, reject: Reject) -> None:
        """`reject(topic, reason, sender)` is told of every refused message."""
        self.name = name
        self.access = access
        self.running = False
        self.messages = 0
        self.rejected = 0
        self._max_payload_bytes = max_payload_bytes
        self._reject = reject
        self._subscribers: dict[str, tuple[Subscriber, tuple[str, ...]]] = {}
        self._exact: dict[str, list[Subscriber]] = {}
        self._wild: list[tuple[str, Subscriber]] = []
        # What does not change from message to message is found once: by topic and identity, that the one may publish on
        # the other, and who hears it.
        self._paths: dict[str, dict[str, tuple[Deliver, ...]]] = {}

    def connect(self, subscriber: Subscriber, password: bytes, filters: tuple[str, ...]) -> bool:
        """Whether the broker runs and lets this identity in; an earlier session of the identity ends."""
        identity = subscriber.identity
        if not self.running or self.access.authenticate(identity, identity, password) != identity:
            return False
        if not all(self.access.may_subscribe(identity, name) for name in filters):
            return False
        known = self._subscribers.get(identity)
        if known:
            self._unsubscribe(*known)
        self._subscribers[identity] = (subscriber, filters)
        for name in filters:
            if "+" in name or "#" in name:
                self._wild.append((name, subscriber))
                self._paths.clear()
            else:
                self._exact.setdefault(name, []).append(subscriber)
                self._paths.pop(name, None)
        return True

    def disconnect(self, subscriber: Subscriber) -> None:
        """The session ends, if it still is this one."""
        known = self._subscribers.get(subscriber.identity)
        if known and known[0] is subscriber:
            del self._subscribers[subscriber.identity]
            self._unsubscribe(*known)

    def stop(self, silent: bool) -> None:
        """The broker dies, and every session with it."""
        self.running = False
        sessions, self._subscribers = self._subscribers, {}
        self._exact.clear()
        self._wild.clear()
        self._paths.clear()
        for subscriber, _ in sessions.values():
            subscriber.dropped(silent)

    def publish(self, identity: str, topic: str, payload: bytes) -> None:
        """A message from a connected identity."""
        granted = self._paths.get(topic)
        paths = granted.get(identity) if granted else None
        if paths is None or len(payload) > self._max_payload_bytes:
            paths = self._grant(identity, topic, payload)
            if paths is None:
                return
        self.messages += 1
        for deliver in paths:
            deliver(topic, payload)

    def route(self, topic: str, payload: bytes) -> None:
        """Hand a message of the broker's own machine, which needs no right, to whoever subscribed to its topic."""
        self.messages += 1
        granted = self._paths.get(topic)
        paths = granted.get(_NOBODY) if granted else None
        for deliver in self._find_paths(_NOBODY, topic) if paths is None else paths:
            deliver(topic, payload)

    def _grant(self, identity: str, topic: str, payload: bytes) -> tuple[Deliver, ...] | None:
        """Who hears this message, or None when it is refused."""
        if len(payload) > self._max_payload_bytes:
            self._refuse(topic, f"longer than {self._max_payload_bytes} bytes", identity)
        elif not self.access.may_publish(identity, topic):
            self._refuse(topic, "no right to publish", identity)
        else:
            return self._find_paths(identity, topic)
        return None

    def _find_paths(self, identity: str, topic: str) -> tuple[Deliver, ...]:
        hearing = [*self._exact.get(topic, ()), *(each for name, each in self._wild if matches(name, topic))]
        paths = [subscriber.path(topic) for subscriber in hearing]
        found = tuple(path for path in paths if path is not None)
        if len(self._paths) < MOST_CACHED:
            self._paths.setdefault(topic, {})[identity] = found
        return found

    def _refuse(self, topic: str, reason: str, identity: str) -> None:
        self.rejected += 1
        self._reject(topic, reason, identity)

    def _unsubscribe(self, subscriber: Subscriber, filters: tuple[str, ...]) -> None:
        for name in filters:
            if "+" in name or "#" in name:
                self._wild.remove((name, subscriber))
                self._paths.clear()
            else:
                self._exact[name].remove(subscriber)
                self._paths.pop(name, None)
