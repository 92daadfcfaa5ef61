"""The first tables. A database from before versions has exactly these."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NAME = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
_Columns = list[sa.Column[Any]]
_READ_AT = sa.text("coalesce(utc_ms, stored_utc_ms)")


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "readings",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("node", _NAME, nullable=False),
        sa.Column("boot", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("metric", _NAME, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("unit", sa.String(200)),
        sa.Column("utc_ms", sa.BigInteger),
        sa.Column("time_quality", sa.String(32), nullable=False),
        sa.Column("gateway", _NAME, nullable=False),
        sa.Column("stored_utc_ms", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("node", "boot", "seq", name="readings_identity"),
    )
    op.create_index("readings_by_time", "readings", ["node", _READ_AT, "id"])
    op.create_index("readings_by_metric", "readings", ["node", "metric", _READ_AT, "id"])
    for name, key, columns in _documents():
        op.create_table(name, sa.Column(key, sa.String(200), primary_key=True), *columns, sa.Column("doc", sa.Text))
    op.create_index("ix_alerts_node", "alerts", ["node"])
    op.create_index("ix_commands_target", "commands", ["target"])
    op.create_table("probe", sa.Column("id", sa.Integer, primary_key=True, autoincrement=False))


def downgrade() -> None:
    """There is no version below this one, so nothing could keep the data."""
    raise NotImplementedError("0001 is the first version")


def _documents() -> list[tuple[str, str, _Columns]]:
    alert: _Columns = [
        sa.Column("node", sa.String(32)),
        sa.Column("rule", sa.String(200)),
        sa.Column("state", sa.String(32)),
        sa.Column("raised_utc_ms", sa.BigInteger),
        sa.Column("cleared_utc_ms", sa.BigInteger),
    ]
    command: _Columns = [
        sa.Column("target", sa.String(32)),
        sa.Column("state", sa.String(32)),
        sa.Column("created_utc_ms", sa.BigInteger),
    ]
    notification: _Columns = [
        sa.Column("state", sa.String(32)),
        sa.Column("subject", sa.Text),
        sa.Column("body", sa.Text),
        sa.Column("attempts", sa.Integer),
    ]
    return [
        ("gateways", "id", []),
        ("nodes", "id", []),
        ("rules", "name", []),
        ("alerts", "id", alert),
        ("commands", "id", command),
        ("conflicts", "id", []),
        ("slots", "name", []),
        ("notifications", "id", notification),
    ]
