"""The database's versions, one file each, for Alembic. `fleet.host.migrate` runs them.

A change of `tables.py` needs a new file here, numbered one more; a test compares what they make with the tables. Each
goes up and down with the data kept.
"""
