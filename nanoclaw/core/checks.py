"""What a node may say: by verb, what checks such a message."""

from collections.abc import Callable
from typing import Any

import orjson

from firmware.wire import messages
from fleet.wire.uplink import Message, Rejected

Check = Callable[[Any], Message | None]

CHECKS: dict[str, Check | None] = {
    "heartbeat": messages.check_heartbeat,
    "beacon": messages.check_beacon,
    "ack": messages.check_ack,
    "received": None,
    "cmd": None,
}


def parsed(payload: bytes) -> Any:
    """The JSON in a node's message. Raises Rejected."""
    if len(payload) > messages.MAX_NODE_MESSAGE_BYTES:
        raise Rejected(f"longer than {messages.MAX_NODE_MESSAGE_BYTES} bytes")
    try:
        return orjson.loads(payload)
    except ValueError as error:
        raise Rejected("not JSON") from error
