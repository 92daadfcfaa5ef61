"""What nodes publish under which topic: who it is about, what it is, and what checks it."""

from collections.abc import Callable, Container
from typing import Any

import orjson

from firmware.wire import messages
from firmware.wire.topics import split
from fleet.wire.uplink import Message, Rejected

MOST_TOPICS = 20_000
Check = Callable[[Any], Message | None]
Parts = tuple[str, str, Check | None]
_CHECKS: dict[str, Check | None] = {
    "heartbeat": messages.check_heartbeat,
    "beacon": messages.check_beacon,
    "ack": messages.check_ack,
    "received": None,
    "cmd": None,
}


class NodeTopics:
    """The topics of nodes, those of known ones split once."""

    def __init__(self) -> None:
        self.known: dict[str, Parts] = {}

    def split(self, name: str, nodes: Container[str]) -> Parts:
        """Node, verb (or metric) and what checks such a message (None: our own, heard back). Raises Rejected."""
        found = split(name)
        if found is None:
            raise Rejected("not a topic of ours")
        node_id, verb = found
        parts = node_id, verb, _CHECKS.get(verb, messages.check_reading)
        if node_id in nodes and len(self.known) < MOST_TOPICS:
            self.known[name] = parts
        return parts


def parsed(payload: bytes) -> Any:
    """The JSON in a node's message. Raises Rejected."""
    if len(payload) > messages.MAX_NODE_MESSAGE_BYTES:
        raise Rejected(f"longer than {messages.MAX_NODE_MESSAGE_BYTES} bytes")
    try:
        return orjson.loads(payload)
    except ValueError as error:
        raise Rejected("not JSON") from error
