"""Random streams that depend on their name only: adding an entity changes no other entity's draws."""

import hashlib
import random


def stream(seed: int, *names: str) -> random.Random:
    """The stream of `names` under `seed`, the same on every machine and with any hash seed."""
    digest = hashlib.sha256("\x1f".join([str(seed), *names]).encode()).digest()
    return random.Random(int.from_bytes(digest[:16], "big"))


def secret(seed: int, *names: str) -> bytes:
    """32 bytes for a virtual entity's key. Real entities get theirs from the operating system."""
    return hashlib.sha256("\x1f".join(["key", str(seed), *names]).encode()).digest()
