"""Readings can be removed by age: every one has a time, PostgreSQL has partitions, and what went is remembered.

On PostgreSQL all readings move into the default partition, and from there, month by month, as the server makes
partitions. On SQLite the table is rewritten once.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_COLUMNS = "id, node, boot, seq, metric, value, unit, utc_ms, time_quality, gateway, stored_utc_ms"
_NAME = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
_SHAPE = """
    id bigint NOT NULL DEFAULT nextval('readings_id_seq'),
    node varchar(32) COLLATE "C" NOT NULL,
    boot bigint NOT NULL,
    seq bigint NOT NULL,
    metric varchar(32) COLLATE "C" NOT NULL,
    value text NOT NULL,
    unit varchar(200),
    utc_ms bigint{nullable},
    time_quality varchar(32) NOT NULL,
    gateway varchar(32) COLLATE "C" NOT NULL,
    stored_utc_ms bigint NOT NULL
"""


def upgrade() -> None:
    """Up from 0001."""
    op.create_table(
        "forgotten_readings",
        sa.Column("node", _NAME, primary_key=True),
        sa.Column("boot", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("ranges", sa.Text, nullable=False),
    )
    _drop_indexes()
    op.execute("UPDATE readings SET utc_ms = stored_utc_ms WHERE utc_ms IS NULL")
    if _is_postgresql():
        _make_partitions()
    else:
        _set_nullable(False)
    _make_indexes("utc_ms")


def downgrade() -> None:
    """Down to 0001: what was removed is no longer remembered."""
    op.drop_table("forgotten_readings")
    _drop_indexes()
    if _is_postgresql():
        _make_whole()
    else:
        _set_nullable(True)
    _make_indexes("coalesce(utc_ms, stored_utc_ms)")


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _drop_indexes() -> None:
    op.drop_index("readings_by_time", "readings")
    op.drop_index("readings_by_metric", "readings")


def _make_indexes(read_at: str) -> None:
    op.create_index("readings_by_time", "readings", ["node", sa.text(read_at), "id"])
    op.create_index("readings_by_metric", "readings", ["node", "metric", sa.text(read_at), "id"])


def _set_nullable(nullable: bool) -> None:
    with op.batch_alter_table("readings") as readings:
        readings.alter_column("utc_ms", existing_type=sa.BigInteger(), nullable=nullable)


def _make_partitions() -> None:
    op.execute("ALTER TABLE readings RENAME TO readings_before")
    op.execute("ALTER TABLE readings_before DROP CONSTRAINT readings_pkey, DROP CONSTRAINT readings_identity")
    shape = _SHAPE.format(nullable=" NOT NULL")
    op.execute(f"CREATE TABLE readings ({shape}, PRIMARY KEY (id, utc_ms)) PARTITION BY RANGE (utc_ms)")
    op.execute("CREATE TABLE readings_default PARTITION OF readings DEFAULT")
    op.create_table(
        "reading_identities",
        sa.Column("node", _NAME, primary_key=True),
        sa.Column("boot", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("utc_ms", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO reading_identities SELECT node, boot, seq, utc_ms FROM readings_before")
    _take_over()


def _make_whole() -> None:
    op.execute("ALTER TABLE readings RENAME TO readings_before")
    op.execute("ALTER TABLE readings_before DROP CONSTRAINT readings_pkey")
    identity = "CONSTRAINT readings_identity UNIQUE (node, boot, seq)"
    op.execute(f"CREATE TABLE readings ({_SHAPE.format(nullable='')}, PRIMARY KEY (id), {identity})")
    op.drop_table("reading_identities")
    _take_over()


def _take_over() -> None:
    """The rows with their numbers, and the sequence that goes on from there, into the new table."""
    op.execute(f"INSERT INTO readings ({_COLUMNS}) SELECT {_COLUMNS} FROM readings_before")  # noqa: S608 - our own names
    op.execute("ALTER SEQUENCE readings_id_seq OWNED BY readings.id")
    op.execute("DROP TABLE readings_before")
