"""Several managers on one database: who leads, which rows changed, who was heard of, and requests for the leader."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Up from the version before."""
    op.create_table(
        "leadership",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("doc", sa.Text),
    )
    op.create_table(
        "changes",
        sa.Column("version", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("doc", sa.Text),
    )
    op.create_table("liveness", sa.Column("id", sa.String(200), primary_key=True), sa.Column("doc", sa.Text))
    op.create_table(
        "requests",
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("asked_utc_ms", sa.BigInteger, nullable=False),
        sa.Column("again", sa.Boolean, nullable=False),
        sa.Column("epoch", sa.BigInteger),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary),
    )


def downgrade() -> None:
    """Down again: one manager keeps nothing in these that it would miss."""
    for name in ("requests", "liveness", "changes", "leadership"):
        op.drop_table(name)
