"""What `nanoclaw status` says of the concentrators, in lines for people."""

from collections.abc import Iterator
from typing import Any


def radio_lines(found: dict[str, Any]) -> Iterator[str]:
    """A line for the port and one for each concentrator; none for a gateway without."""
    lora = found.get("lora")
    if not lora:
        return
    each = lora["concentrators"]
    text = f"on UDP port {found.get('lora_port')}: "
    text += f"{len(each)} concentrator{'s' if len(each) > 1 else ''}" if each else "no concentrator has been heard yet"
    text += f"; {lora['foreign']:,} frames of others" if lora["foreign"] else ""
    yield text + _reasons("rejected", lora["rejected"]) + _reasons("windows missed", lora["missed"])
    for one in each:
        yield _concentrator(one)


def _concentrator(one: dict[str, Any]) -> str:
    silent_s = one["silent_ms"] // 1000
    text = (
        f"{one['eui']}: heard {silent_s} s ago"
        if silent_s < 120
        else f"{one['eui']}: heard {silent_s // 60} minutes ago"
    )
    text += "" if one["reachable"] else ", does not wait for downlinks"
    text += (
        f"; {one['packets']:,} packets, {one['crc_failed']:,} of them spoilt, {one['copies']:,} heard by another before"
    )
    text += f"; {one['downlinks']:,} downlinks, {one['airtime_ms'] / 1000:.1f} s on the air in the last hour"
    return text + _reasons("not sent", one["tx_errors"])


def _reasons(what: str, counts: dict[str, int]) -> str:
    if not counts:
        return ""
    named = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))
    return f"; {sum(counts.values()):,} {what} ({named})"
