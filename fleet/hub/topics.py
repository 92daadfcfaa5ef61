"""MQTT topic names, filters, and who is subscribed to what (MQTT 3.1.1, section 4.7)."""

MAX_TOPIC_BYTES = 65_535


def is_topic(topic: str) -> bool:
    """Whether `topic` is a name that a client may publish to: not empty, no wildcard, no NUL."""
    return bool(topic) and not any(mark in topic for mark in "+#\0") and len(topic.encode()) <= MAX_TOPIC_BYTES


def is_filter(topic_filter: str) -> bool:
    """Whether wildcards stand alone in their level and `#` only at the end."""
    if not topic_filter or "\0" in topic_filter:
        return False
    *body, last = topic_filter.split("/")
    return all(_is_level(level) and level != "#" for level in body) and _is_level(last)


def _is_level(level: str) -> bool:
    return level in ("+", "#") or ("+" not in level and "#" not in level)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a message to `topic` goes to a subscription of `topic_filter`."""
    if topic[:1] == "$" and topic_filter[:1] != "$":
        return False
    return topic_filter == topic or _levels_match(topic_filter.split("/"), topic.split("/"))


def _levels_match(wanted: list[str], levels: list[str]) -> bool:
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


def covers(granted: str, wanted: str) -> bool:
    """Whether every topic that the filter `wanted` matches is matched by the filter `granted` too."""
    allowed = granted.split("/")
    for index, level in enumerate(wanted.split("/")):
        if index >= len(allowed):
            return False
        if allowed[index] == "#":
            return True
        if level == "#" or allowed[index] not in ("+", level):
            return False
    length = wanted.count("/") + 1
    return len(allowed) == length or allowed[length:] == ["#"]


class SubscriptionTable:
    """Filters by subscriber. A topic without wildcards is found by one look-up, however many clients there are."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, int]] = {}
        self._wild: dict[str, dict[str, int]] = {}
        self._wild_levels: dict[str, list[str]] = {}
        self._filters: dict[str, set[str]] = {}

    def add(self, identity: str, topic_filter: str, qos: int) -> None:
        """Subscribe; the same filter again replaces its QoS [MQTT-3.8.4-3]."""
        table = self._table_of(topic_filter)
        table.setdefault(topic_filter, {})[identity] = qos
        if table is self._wild:
            self._wild_levels[topic_filter] = topic_filter.split("/")
        self._filters.setdefault(identity, set()).add(topic_filter)

    def remove(self, identity: str, topic_filter: str) -> None:
        """Unsubscribe; a filter that was never subscribed is no error [MQTT-3.10.4-5]."""
        self._filters.get(identity, set()).discard(topic_filter)
        table = self._table_of(topic_filter)
        subscribers = table.get(topic_filter, {})
        subscribers.pop(identity, None)
        if not subscribers:
            table.pop(topic_filter, None)
            self._wild_levels.pop(topic_filter, None)

    def remove_all(self, identity: str) -> None:
        for topic_filter in self._filters.pop(identity, set()).copy():
            self.remove(identity, topic_filter)

    def clear(self) -> None:
        for table in (self._exact, self._wild, self._wild_levels, self._filters):
            table.clear()

    def receivers(self, topic: str) -> dict[str, int]:
        """Who gets a message to `topic`, each once, at the highest QoS of the filters that match."""
        found = dict(self._exact.get(topic, {}))
        levels = topic.split("/")
        for topic_filter, wanted in self._wild_levels.items():
            if _levels_match(wanted, levels) and matches(topic_filter, topic):
                for identity, qos in self._wild[topic_filter].items():
                    found[identity] = max(qos, found.get(identity, 0))
        return found

    def _table_of(self, topic_filter: str) -> dict[str, dict[str, int]]:
        return self._wild if "+" in topic_filter or "#" in topic_filter else self._exact
