"""Logs of processes that have no structlog: one line a record, on stderr."""

import logging

LEVELS = ("debug", "info", "warning", "error")


def log_to_stderr(level: str, who: str) -> None:
    """Send everything from `level` up to stderr, marked with `who` this process is."""
    # A percent sign in `who` would be formatting; ids have none.
    form = f"%(asctime)s.%(msecs)03d %(levelname)-8s {who} %(name)s: %(message)s"
    logging.basicConfig(level=level.upper(), format=form, datefmt="%Y-%m-%d %H:%M:%S")
    logging.captureWarnings(True)
