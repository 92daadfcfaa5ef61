"""What the routes work with.

The application is put together before the core exists: that takes long, and the clock of a simulated run ticks from the
moment in which the server is handed it. Nothing is served before `open`.
"""

import time

from fleet.host.accounts import Accounts
from fleet.host.dispatch import CommandDesk
from fleet.host.keyring import Keyring
from fleet.host.pace import Pace
from fleet.host.pki.authority import Authority
from fleet.host.runtime import Runtime
from fleet.host.stream import EventStream


class Stage:
    """Set once, before the first request."""

    runtime: Runtime
    keys: Keyring
    desk: CommandDesk
    authority: Authority | None = None
    accounts: Accounts
    stream: EventStream
    pace: Pace
    opened_s: float
    opened_utc_ms: int

    def open(self, runtime: Runtime, keys: Keyring, restored: dict[str, list[dict[str, object]]]) -> None:
        """Everything is there; `restored` are the database's rows by table."""
        self.runtime, self.keys = runtime, keys
        self.opened_s, self.opened_utc_ms = time.monotonic(), runtime.clock.utc_ms()
        self.pace = Pace(runtime.totals, self.opened_s)
        self.desk, self.stream = CommandDesk(runtime), EventStream(runtime.events.listeners, runtime.core.boot)
        self.accounts = Accounts(runtime, keys, restored.get("users", []), restored.get("tokens", []))

    def close(self) -> None:
        """Lets every request that waits answer: the server is about to stop."""
        self.desk.close()
        self.stream.close()
