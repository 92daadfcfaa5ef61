"""How the memory of an emulated board is laid out: what the board is told at power-on, and behind it its flash.

It is a file of the machine that QEMU runs on, so it outlives QEMU. What the board is told is a line of its length and
CRC-32, both in hexadecimal digits, and JSON.
"""

import binascii
import json

MEMORY_AT = 0x21000000  # of the board mps2-an385: the PSRAM, in which nothing of the program is
MEMORY_BYTES = 16 << 20
FLASH_AT = 1 << 16
_HEAD_BYTES = 18


def encode(told: dict) -> bytes:
    """The beginning of the memory for a board that is told this. Raises ValueError when it does not fit."""
    text = json.dumps(told).encode()
    if len(text) > FLASH_AT - _HEAD_BYTES:
        raise ValueError("%d bytes are too many to tell a board" % len(text))
    return b"%08x %08x\n" % (len(text), binascii.crc32(text)) + text


def decode(memory) -> "dict | None":
    """What the board is told, or None when `memory` begins with nothing of the kind."""
    head = bytes(memory[:_HEAD_BYTES])
    try:
        size, crc = int(head[:8], 16), int(head[9:17], 16)
    except ValueError:
        return None
    if head != b"%08x %08x\n" % (size, crc) or size > FLASH_AT - _HEAD_BYTES:
        return None
    text = bytes(memory[_HEAD_BYTES : _HEAD_BYTES + size])
    return json.loads(text) if len(text) == size and binascii.crc32(text) == crc else None
