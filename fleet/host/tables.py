"""The tables of the fleet manager, in dialect-neutral SQLAlchemy Core, as the latest migration leaves them.

Every table but `readings` mirrors a part of the core's memory: its key, the few columns that a query needs, and the
rest as one JSON document, so that the core can grow without a migration. Readings are its only bulk data: they are
written and never restored.
"""

from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)


class Json(TypeDecorator[Any]):
    """JSON as it is written: a database's own type would turn 25.0 into 25, or 1e22 into an integer."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """To the database."""
        return value if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """From the database."""
        return value if value is None else orjson.loads(value)


class ReadingValue(Json):
    """JSON, or a text that begins with `~` and is to be opened with the reading's identity: see `fleet.core.vault`."""

    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """From the database."""
        return Closed(value) if value[0] == "~" else orjson.loads(value)


class Closed(NamedTuple):
    """A value that is not to be read without its key."""

    text: str


METADATA = MetaData()
ID_CHARS = 32
KEY_CHARS = 200

# SQLite numbers rows by itself only in a column of type INTEGER; everywhere else the serial number needs 64 bits.
_SERIAL = BigInteger().with_variant(Integer(), "sqlite")
# Ids are ASCII: compared as bytes, which is what SQLite does and far quicker than the rules of a language.
_NAME = String(ID_CHARS).with_variant(String(ID_CHARS, collation="C"), "postgresql")

READINGS = Table(
    "readings",
    METADATA,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("node", _NAME, nullable=False),
    Column("boot", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("metric", _NAME, nullable=False),
    Column("value", ReadingValue, nullable=False),
    Column("unit", String(KEY_CHARS)),
    Column("utc_ms", BigInteger, nullable=False),
    Column("time_quality", String(ID_CHARS), nullable=False),
    Column("gateway", _NAME, nullable=False),
    Column("stored_utc_ms", BigInteger, nullable=False),
)
Index("readings_by_time", READINGS.c.node, READINGS.c.utc_ms, READINGS.c.id)
Index("readings_by_metric", READINGS.c.node, READINGS.c.metric, READINGS.c.utc_ms, READINGS.c.id)

# Which readings are stored, and where the constraint that makes it once lives. PostgreSQL demands the time in every
# unique constraint of a table that is partitioned by it, and a copy may come with another time: so identities have a
# table of their own there. SQLite has one table, and the constraint in it.
IDENTITIES = Table(
    "reading_identities",
    MetaData(),
    Column("node", _NAME, primary_key=True),
    Column("boot", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("utc_ms", BigInteger, nullable=False),  # names the partition: no look-up has to ask all of them
)

# What retention removed, as ranges of sequence numbers: a late copy of it is no new reading.
FORGOTTEN = Table(
    "forgotten_readings",
    METADATA,
    Column("node", _NAME, primary_key=True),
    Column("boot", BigInteger, primary_key=True, autoincrement=False),
    Column("ranges", Json, nullable=False),
)


def _documents(name: str, key: str, *columns: "Column[Any]") -> Table:
    return Table(name, METADATA, Column(key, String(KEY_CHARS), primary_key=True), *columns, Column("doc", Json))


_documents("gateways", "id")
_documents("nodes", "id")
_documents("rules", "name")
_documents(
    "alerts",
    "id",
    Column("node", String(ID_CHARS), index=True),
    Column("rule", String(KEY_CHARS)),
    Column("state", String(ID_CHARS)),
    Column("raised_utc_ms", BigInteger),
    Column("cleared_utc_ms", BigInteger),
)
_documents(
    "commands",
    "id",
    Column("target", String(ID_CHARS), index=True),
    Column("state", String(ID_CHARS)),
    Column("created_utc_ms", BigInteger),
)
_documents("conflicts", "id")
_documents("slots", "name")
_documents(
    "notifications",
    "id",
    Column("state", String(ID_CHARS)),
    Column("subject", Text),
    Column("body", Text),
    Column("attempts", Integer),
)
_documents("maintenance", "id")
_documents("pending", "id")
_documents("agents", "id")
_documents("retired", "id")
_documents("sites", "id")
_documents("groups", "id")
_documents("users", "name")
_documents("tokens", "id")
_documents("liveness", "id")
_documents("sensitive", "id")
_documents("sealing", "id")
CORE_TABLES = {name: table for name, table in METADATA.tables.items() if table not in (READINGS, FORGOTTEN)}

# What is only ever added to, and never restored: who did what over the API, and what agents reported beside readings.
AUDIT = Table(
    "audit",
    METADATA,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("utc_ms", BigInteger, nullable=False),
    Column("who", String(KEY_CHARS), nullable=False),
    Column("role", String(ID_CHARS)),
    Column("method", String(ID_CHARS), nullable=False),
    Column("route", String(KEY_CHARS), nullable=False),
    Column("status", Integer, nullable=False),
    Column("doc", Json),
)
NODE_EVENTS = Table(
    "node_events",
    METADATA,
    Column("id", String(KEY_CHARS), primary_key=True),
    Column("node", String(ID_CHARS), nullable=False),
    Column("kind", String(ID_CHARS), nullable=False),
    Column("severity", String(ID_CHARS), nullable=False),
    Column("utc_ms", BigInteger, nullable=False),
    Column("stored_utc_ms", BigInteger, nullable=False),
    Column("doc", Json),
)
Index("node_events_by_time", NODE_EVENTS.c.node, NODE_EVENTS.c.utc_ms, NODE_EVENTS.c.id)
LOG_TABLES = {"audit": AUDIT, "node_events": NODE_EVENTS}

# One row, written to find out whether the database takes writes again.
PROBE = Table("probe", METADATA, Column("id", Integer, primary_key=True, autoincrement=False))


# Several managers on one database. `leadership` has two rows: the epoch with who leads, and the leader's heartbeat.
LEADERSHIP = Table(
    "leadership",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("doc", Json),
)
# Which rows of the core's tables a commit touched, for those that keep a copy of them.
CHANGES = Table(
    "changes",
    METADATA,
    Column("version", _SERIAL, primary_key=True, autoincrement=True),
    Column("epoch", BigInteger, nullable=False),
    Column("doc", Json),
)
# What was asked of a manager that does not lead; `epoch`: of the leader that has taken it up.
REQUESTS = Table(
    "requests",
    METADATA,
    Column("id", String(KEY_CHARS), primary_key=True),
    Column("asked_utc_ms", BigInteger, nullable=False),
    Column("again", Boolean, nullable=False),
    Column("epoch", BigInteger),
    Column("request", LargeBinary, nullable=False),
    Column("answer", LargeBinary),
)


def key_column(table: Table) -> "Column[Any]":
    """The one column of a core table's primary key."""
    return next(iter(table.primary_key.columns))
