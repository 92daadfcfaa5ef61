"""What the routes work with.

The application is put together before the core exists: that takes long, and the clock of a simulated run ticks from the
moment in which the server is handed it. Nothing is served before `runtime`, `key` and `desk` are there.
"""

from fleet.host.dispatch import CommandDesk
from fleet.host.pki.authority import Authority
from fleet.host.runtime import Runtime


class Stage:
    """Set once, before the first request."""

    runtime: Runtime
    key: bytes
    desk: CommandDesk
    authority: Authority | None = None
