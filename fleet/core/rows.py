"""The rows that the core asks its host to store, and what it says of them."""

from typing import NamedTuple

from fleet.wire.terms import Value


class Secret:
    """A value that only some may see. It has no text of its own and no library writes it, so that it leaks nowhere."""

    __slots__ = ("plain", "sealed")

    def __init__(self, plain: Value | None, sealed: str | None = None) -> None:
        """`plain` None: it cannot be read; `sealed`: as the node sealed it, in base64, and as it is stored."""
        self.plain, self.sealed = plain, sealed

    def __repr__(self) -> str:
        return "Secret()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self.sealed, _typed(self.plain)) == (other.sealed, _typed(other.plain))

    __hash__ = None  # type: ignore[assignment]  # how Python says: not hashable, for a hash would tell of the value


def plain_of(value: "Value | Secret") -> Value | None:
    """The value, for whoever may see it; None when it cannot be read."""
    return value.plain if isinstance(value, Secret) else value


def same_content(one: "Value | Secret", other: "Value | Secret") -> bool:
    """Whether two copies of a reading say the same; JSON's true is not 1, though Python's is.

    Of two sealed copies the seal counts. A value that became sensitive later is still the same value.
    """
    a, b = (value if type(value) is Secret else None for value in (one, other))
    if (a and a.sealed) or (b and b.sealed):
        return (a and a.sealed) == (b and b.sealed)
    return _typed(plain_of(one)) == _typed(plain_of(other))


def _typed(value: Value | None) -> tuple[bool, Value | None]:
    return type(value) is bool, value


class ReadingRow(NamedTuple):
    """One reading; (node, boot, seq) is its identity."""

    node: str
    boot: int
    seq: int
    metric: str
    value: Value | Secret
    unit: str | None
    utc_ms: int
    time_quality: str
    """`exact`, or `estimated` where only bounds are known."""
    gateway: str
    stored_utc_ms: int


class Stored(NamedTuple):
    """These readings are stored: one output for the many events `reading.stored` of a commit."""

    rows: list[ReadingRow]
