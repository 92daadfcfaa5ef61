"""Times that are on disk for the next life of a gateway: in UTC where it is known, else by uptime.

What was written in UTC, and is read while UTC is known, has an exact place in core time. Otherwise nobody knows how
long the gateway was down, and ages go on from where they were at the last write: what lasts for a time then lasts too
long rather than too short.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

LIFE = "life"


def stamped(core: "GatewayCore", now_ms: int) -> tuple[dict[str, Any], int]:
    """What says how times were written and when, to be kept beside them; what to add to each to write it so."""
    if core.utc_offset_ms is not None:
        return {"at": now_ms + core.utc_offset_ms}, core.utc_offset_ms
    return {LIFE: core.boot, "at": now_ms - core.start_ms}, -core.start_ms


def offsets(core: "GatewayCore", kept: dict[str, Any], now_ms: int) -> tuple[int | None, int | None]:
    """What to take from the times that an earlier life wrote, None while that cannot be known; and that same number if
    it is but assumed, as if the gateway had written a moment ago."""
    if LIFE not in kept and core.utc_offset_ms is not None:
        return core.utc_offset_ms, None
    assumed_ms = kept["at"] - now_ms if "at" in kept else None
    return assumed_ms, assumed_ms
