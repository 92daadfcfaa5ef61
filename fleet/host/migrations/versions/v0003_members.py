"""Agents that speak HTTP, sites and groups, users and tokens, the audit log, maintenance windows, rules under way."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DOCUMENTS = (
    ("maintenance", "id"),
    ("pending", "id"),
    ("agents", "id"),
    ("retired", "id"),
    ("sites", "id"),
    ("groups", "id"),
    ("users", "name"),
    ("tokens", "id"),
)


def upgrade() -> None:
    """Up from 0002."""
    for name, key in _DOCUMENTS:
        op.create_table(name, sa.Column(key, sa.String(200), primary_key=True), sa.Column("doc", sa.Text))
    op.create_table(
        "audit",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("utc_ms", sa.BigInteger, nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("role", sa.String(32)),
        sa.Column("method", sa.String(32), nullable=False),
        sa.Column("route", sa.String(200), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("doc", sa.Text),
    )
    op.create_table(
        "node_events",
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("node", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("severity", sa.String(32), nullable=False),
        sa.Column("utc_ms", sa.BigInteger, nullable=False),
        sa.Column("stored_utc_ms", sa.BigInteger, nullable=False),
        sa.Column("doc", sa.Text),
    )
    op.create_index("node_events_by_time", "node_events", ["node", "utc_ms", "id"])


def downgrade() -> None:
    """Down to 0002, which knows nothing of these: what they hold is gone."""
    op.drop_index("node_events_by_time", "node_events")
    for name in ("node_events", "audit", *(name for name, _ in _DOCUMENTS)):
        op.drop_table(name)
