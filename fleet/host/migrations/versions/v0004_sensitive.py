"""Which metrics are sensitive, and the sealing keys of nodes, closed with a data key."""

import sqlalchemy as sa
from alembic import op

from fleet.host.database import StorageError

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Up from 0003."""
    for name in ("sensitive", "sealing"):
        op.create_table(name, sa.Column("id", sa.String(200), primary_key=True), sa.Column("doc", sa.Text))


def downgrade() -> None:
    """Down to 0003, which cannot read values that begin with `~`: refused while there are any."""
    closed = sa.text("SELECT count(*) FROM readings WHERE value LIKE '~%'")
    if op.get_bind().execute(closed).scalar_one():
        raise StorageError("sensitive readings are stored, which version 0003 cannot read")
    for name in ("sensitive", "sealing"):
        op.drop_table(name)
