"""PostgreSQL's partitions of the readings, one a calendar month (UTC) of the time at which they were read.

They are made ahead of time. What no month takes (a clock far off, a backlog from long ago) is kept in the default
partition, and moves when its month is made.
"""

from datetime import UTC, datetime

from sqlalchemy import Connection, text

DEFAULT = "readings_default"
MONTHS_BEFORE, MONTHS_AHEAD = 1, 2
# Readers hold a partition for a query's time; upkeep comes again rather than make the writer wait for a slow one.
LOCK_TIMEOUT_MS = 2_000
_PREFIX = "readings_"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def make_ahead(connection: Connection, utc_ms: int) -> None:
    """Makes the partitions of the months around `utc_ms` that are missing."""
    present = set(months(connection))
    month = month_of(utc_ms)
    for number in range(month - MONTHS_BEFORE, month + MONTHS_AHEAD + 1):
        if number not in present:
            _make(connection, number)


def months(connection: Connection) -> list[int]:
    """The months that have a partition, ascending; as numbers, 12 a year."""
    query = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'readings'::regclass")
    names = [name.removeprefix(_PREFIX) for name in connection.execute(query).scalars()]
    return sorted(int(name[:4]) * 12 + int(name[4:]) - 1 for name in names if name.isdigit())


def drop(connection: Connection, month: int) -> None:
    """Removes a month with all its rows."""
    limit_waiting(connection)
    connection.execute(text(f"DROP TABLE {name_of(month)}"))


def name_of(month: int) -> str:
    """The partition's name, as in readings_202601."""
    return f"{_PREFIX}{month // 12:04}{month % 12 + 1:02}"


def month_of(utc_ms: int) -> int:
    """The month of a time, as a number."""
    at = datetime.fromtimestamp(utc_ms / 1000, UTC)
    return at.year * 12 + at.month - 1


def starts_ms(month: int) -> int:
    """The first millisecond of a month."""
    return round((datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) - _EPOCH).total_seconds()) * 1000


def limit_waiting(connection: Connection) -> None:
    """In this transaction, a lock that is not to be had soon is an error."""
    connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))


def _make(connection: Connection, month: int) -> None:
    """Filled before it is attached, since no row of its time may be in the default partition then."""
    limit_waiting(connection)
    name, span = name_of(month), {"first": starts_ms(month), "end": starts_ms(month + 1)}
    connection.execute(text(f"CREATE TABLE {name} (LIKE readings INCLUDING DEFAULTS)"))
    moved = f"DELETE FROM {DEFAULT} WHERE utc_ms >= :first AND utc_ms < :end RETURNING *"  # noqa: S608 - our own names
    connection.execute(text(f"WITH moved AS ({moved}) INSERT INTO {name} SELECT * FROM moved"), span)  # noqa: S608 - our own names
    bounds = f"FROM ({span['first']}) TO ({span['end']})"
    connection.execute(text(f"ALTER TABLE readings ATTACH PARTITION {name} FOR VALUES {bounds}"))
