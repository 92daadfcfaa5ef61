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
    text += _many(len(each), "concentrator") if each else "no concentrator has been heard yet"
    text += f"; {_many(lora['foreign'], 'frame')} of others" if lora["foreign"] else ""
    yield text + _reasons("rejected", lora["rejected"]) + _reasons("answers missed", lora["missed"])
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
    text += f"; {_many(one['packets'], 'packet')}, {one['crc_failed']:,} of them spoilt, "
    text += f"{one['copies']:,} heard by another before"
    text += f"; {_many(one['downlinks'], 'downlink')}, {one['airtime_ms'] / 1000:.1f} s on the air in the last hour"
    return text + _reasons("not sent", one["tx_errors"])


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _reasons(what: str, counts: dict[str, int]) -> str:
    if not counts:
        return ""
    named = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))
    return f"; {sum(counts.values()):,} {what} ({named})"
