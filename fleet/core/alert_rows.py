"""An episode as a row of `alerts`: how it begins, and how it ends by other things than a reading."""

from typing import Any

from fleet.wire.uplink import Message


def new_row(
    episode: str, node: str | None, rule: str, utc_ms: Any, value: Any, by: str, definition: Message | None
) -> Message:
    """An episode that has begun, of the rule that `definition` is, if it is known here."""
    severity = (definition or {}).get("severity", "warning")
    return {
        "id": episode,
        "node": node,
        "rule": rule,
        "state": "raised",
        "raised_utc_ms": utc_ms,
        "cleared_utc_ms": None,
        "doc": {"value": value, "by": by, "severity": severity, "acknowledged_by": None},
    }


def ended_row(row: Message, utc_ms: int, by: str) -> Message:
    """The episode once `by`, which is no reading, has ended it."""
    doc = row["doc"] | {"cleared_value": None, "cleared_by": by}
    return row | {"state": "cleared", "cleared_utc_ms": utc_ms, "doc": doc}
