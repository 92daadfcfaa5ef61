"""The rows that the core asks its host to store, and what it says of them."""

from typing import NamedTuple

Value = int | float | bool | str


class ReadingRow(NamedTuple):
    """One reading; (node, boot, seq) is its identity."""

    node: str
    boot: int
    seq: int
    metric: str
    value: Value
    unit: str | None
    utc_ms: int
    time_quality: str
    """`exact`, or `estimated` where only bounds are known."""
    gateway: str
    stored_utc_ms: int


class Stored(NamedTuple):
    """These readings are stored: one output for the many events `reading.stored` of a commit."""

    rows: list[ReadingRow]
