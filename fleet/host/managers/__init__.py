"""Several managers on one PostgreSQL: one leads, the others serve reads and hand what changes anything to it."""
