"""LoRa frames: a header that travels openly, then contents (see `lora_contents`) under AES-CCM (RFC 3610).

    uplink    kind 1   node 4      boot 4   count 3   contents   code 4
    downlink  kind 1   node 4   gateway 4             contents   code 4

`kind` is 0xE0 + 4 × (0 uplink, 1 uplink that asks for an answer, 2 downlink) + version: what LoRaWAN calls a
proprietary message (TS001, section 4.2.1.1), so both can share a channel. Addresses are the first bytes of SHA-256 over
fleet and id. `count` rises with every frame of a boot, and boot numbers never come twice. A downlink answers the uplink
that its node sent last: boot and count of that one are covered by its code without being sent.

The nonce is direction, address of who speaks, boot and count: two gateways that answer one uplink do not share it, and
one gateway answers an uplink once.
"""

import hashlib
from collections import namedtuple

from firmware.wire.auth import hmac_sha256
from firmware.wire.ccm import decrypt, encrypt
from firmware.wire.messages import MAX_BOOT

VERSION = 0
TAG_BYTES = 4  # a forger gets a guess a frame, and the gateway counts rejections
ADDRESS_BYTES = 4
MAX_COUNT = (1 << 24) - 1
UPLINK_BYTES = 12 + TAG_BYTES  # beside the contents
DOWNLINK_BYTES = 9 + TAG_BYTES
MAX_FRAME_BYTES = 222
RECEIVE_DELAY_MS = 1000  # from the end of an uplink to the downlink that answers it: same channel, same data rate
_PROPRIETARY = 0xE0
_UP, _ASKS, _DOWN = 0, 1, 2

Head = namedtuple("Head", ("down", "asks", "node", "boot", "count"))
"The open part of a frame: `node` is an address; `boot` and `count` are None on a downlink."


def address(fleet: str, who: str) -> bytes:
    """The address of a node or gateway; of two nodes that share one, the right key opens the frame."""
    return hashlib.sha256(("clawland lora\n%s\n%s" % (fleet, who)).encode()).digest()[:ADDRESS_BYTES]


def frame_key(key: bytes) -> bytes:
    """The AES-128 key of a node's frames, derived from its pre-shared key."""
    return hmac_sha256(key, b"clawland lora frames")[:16]


def head_of(frame: bytes) -> "Head | None":
    """The open part of a frame, or None when it is none of ours, of another version, or cut off."""
    if not frame or len(frame) > MAX_FRAME_BYTES:
        return None
    kind = (frame[0] - _PROPRIETARY) >> 2
    if frame[0] != _PROPRIETARY | kind << 2 | VERSION or kind not in (_UP, _ASKS, _DOWN):
        return None
    if len(frame) < (DOWNLINK_BYTES if kind == _DOWN else UPLINK_BYTES):
        return None
    node = frame[1:5]
    if kind == _DOWN:
        return Head(True, False, node, None, None)
    boot = int.from_bytes(frame[5:9], "big")
    return Head(False, kind == _ASKS, node, boot, int.from_bytes(frame[9:12], "big")) if boot <= MAX_BOOT else None


def seal_uplink(block, node: bytes, boot: int, count: int, contents: bytes, asks: bool) -> bytes:
    """The frame; `block` is AES under the node's `frame_key`. Raises ValueError when a number does not fit."""
    head = _head(_ASKS if asks else _UP, node) + _numbers(boot, count)
    return head + encrypt(block, _nonce(_UP, node, boot, count), contents, head, TAG_BYTES)


def open_uplink(block, frame: bytes) -> "bytes | None":
    """The contents, or None when anything was changed or the key is another's. The count is for the caller to judge."""
    head = head_of(frame)
    if head is None or head.down:
        return None
    nonce = _nonce(_UP, head.node, head.boot, head.count)
    return decrypt(block, nonce, frame[12:], frame[:12], TAG_BYTES)


def seal_downlink(block, node: bytes, boot: int, count: int, gateway: bytes, contents: bytes) -> bytes:
    """The answer of `gateway` (an address) to the uplink (`boot`, `count`) of `node`: at most one a gateway."""
    head = _head(_DOWN, node) + gateway
    about = head + _numbers(boot, count)
    return head + encrypt(block, _nonce(_DOWN, gateway, boot, count), contents, about, TAG_BYTES)


def open_downlink(block, frame: bytes, boot: int, count: int) -> "bytes | None":
    """The contents of an answer to the uplink (`boot`, `count`), or None."""
    head = head_of(frame)
    if head is None or not head.down:
        return None
    about = frame[:9] + _numbers(boot, count)
    return decrypt(block, _nonce(_DOWN, frame[5:9], boot, count), frame[9:], about, TAG_BYTES)


def _head(kind: int, node: bytes) -> bytes:
    return bytes([_PROPRIETARY | kind << 2 | VERSION]) + node


def _numbers(boot: int, count: int) -> bytes:
    if not 0 <= boot <= MAX_BOOT or not 0 <= count <= MAX_COUNT:
        raise ValueError("a boot of 30 bits, a count of 24")
    return boot.to_bytes(4, "big") + count.to_bytes(3, "big")


def _nonce(direction: int, who: bytes, boot: int, count: int) -> bytes:
    return bytes([direction]) + who + _numbers(boot, count) + bytes(1)
