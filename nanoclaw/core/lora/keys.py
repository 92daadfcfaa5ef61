"""Whose frame it is: nodes by their address on the air, and the key that opens it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from firmware.wire.lora import address, frame_key, open_uplink

MOST_OF_AN_ADDRESS = 8
"""Nodes that share one; 4 bytes make two of 500 nodes share one with 3 chances in 100,000."""

Block = Callable[[bytes], bytes]


class Opened(NamedTuple):
    """A frame that a node's key has opened."""

    node: str
    block: Block
    contents: bytes


class Keys:
    """The site's nodes by address."""

    def __init__(self, fleet: str) -> None:
        self._fleet = fleet
        self._by_address: dict[bytes, list[str]] = {}
        self._blocks: dict[str, tuple[bytes, Block]] = {}

    def configure(self, keys: Mapping[str, bytes]) -> None:
        """These are the nodes, with their pre-shared keys."""
        self._blocks = {node: kept for node, kept in self._blocks.items() if keys.get(node) == kept[0]}
        self._by_address = {}
        for node, key in keys.items():
            sharing = self._by_address.setdefault(address(self._fleet, node), [])
            if len(sharing) < MOST_OF_AN_ADDRESS:
                sharing.append(node)
            if node not in self._blocks:
                self._blocks[node] = (key, _aes(frame_key(key)))

    def know(self, node_address: bytes) -> bool:
        """Whether a node of ours has this address."""
        return node_address in self._by_address

    def open(self, node_address: bytes, frame: bytes) -> Opened | None:
        """Try the keys of all nodes with this address; None if none of them has sealed the frame."""
        for node in self._by_address.get(node_address, ()):
            block = self._blocks[node][1]
            contents = open_uplink(block, frame)
            if contents is not None:
                return Opened(node, block, contents)
        return None


def _aes(key: bytes) -> Block:
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update  # noqa: S305 - one block at a time is AES itself
