"""What `nanoclaw status` says of the concentrators, in lines for people."""

from collections.abc import Iterator
from typing import Any


def radio_lines(found: dict[str, Any]) -> Iterator[str]:
    """A line for the port and one for each concentrator; none for a gateway without."""
    lora = found.get("lora")
    if not lora:
        return
    each = lora["concentrators"]
    heard = "no concentrator has been heard yet" if not each else f"concentrators {len(each)}"
    text = f"on UDP port {found.get('lora_port')}: {heard}; frames of others {lora['foreign']:,}"
    yield text + _reasons("rejected", lora["rejected"]) + _reasons("windows missed", lora["missed"])
    for one in each:
        yield _concentrator(one)


def _concentrator(one: dict[str, Any]) -> str:
    text = f"{one['eui']}: heard {one['silent_ms'] // 1000} s ago"
    if not one["reachable"]:
        text += ", not waiting for downlinks"
    text += f"; packets {one['packets']:,}, spoilt {one['crc_failed']:,}, heard by another before {one['copies']:,}"
    text += f"; downlinks {one['downlinks']:,}, {one['airtime_ms'] / 1000:.1f} s on the air in an hour"
    return text + _reasons("not sent", one["tx_errors"])


def _reasons(what: str, counts: dict[str, int]) -> str:
    if not counts:
        return ""
    named = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))
    return f"; {what} {sum(counts.values()):,} ({named})"
