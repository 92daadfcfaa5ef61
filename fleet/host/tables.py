"""The tables of the fleet manager, in dialect-neutral SQLAlchemy Core.

Every table but `readings` mirrors a part of the core's memory: its key, the few columns that a query needs, and the
rest as one JSON document, so that the core can grow without a migration. Readings are its only bulk data: they are
written and never restored.
"""

from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    func,
)
from sqlalchemy.types import TypeEngine


class Json(TypeDecorator[Any]):
    """JSON as it is written: SQLite would keep a column declared JSON as numbers, and turn 25.0 into 25."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text, and on PostgreSQL its own binary JSON."""
        if not _is_native(dialect):
            return dialect.type_descriptor(Text())
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB(none_as_null=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """To the database."""
        return value if value is None or _is_native(dialect) else orjson.dumps(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """From the database."""
        return value if value is None or _is_native(dialect) else orjson.loads(value)


def _is_native(dialect: Dialect) -> bool:
    return dialect.name == "postgresql"


METADATA = MetaData()
ID_CHARS = 32
KEY_CHARS = 200

# SQLite numbers rows by itself only in a column of type INTEGER; everywhere else the serial number needs 64 bits.
_SERIAL = BigInteger().with_variant(Integer(), "sqlite")

READINGS = Table(
    "readings",
    METADATA,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("node", String(ID_CHARS), nullable=False),
    Column("boot", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("metric", String(ID_CHARS), nullable=False),
    Column("value", Json, nullable=False),
    Column("unit", String(KEY_CHARS)),
    Column("utc_ms", BigInteger),
    Column("time_quality", String(ID_CHARS), nullable=False),
    Column("gateway", String(ID_CHARS), nullable=False),
    Column("stored_utc_ms", BigInteger, nullable=False),
    UniqueConstraint("node", "boot", "seq", name="readings_identity"),
)

# When it was read; a reading whose time is unknown counts as of when it was stored.
READ_AT = func.coalesce(READINGS.c.utc_ms, READINGS.c.stored_utc_ms)
Index("readings_by_time", READINGS.c.node, READ_AT, READINGS.c.id)
Index("readings_by_metric", READINGS.c.node, READINGS.c.metric, READ_AT, READINGS.c.id)


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
CORE_TABLES = {name: table for name, table in METADATA.tables.items() if table is not READINGS}

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


def key_column(table: Table) -> "Column[Any]":
    """The one column of a core table's primary key."""
    return next(iter(table.primary_key.columns))
