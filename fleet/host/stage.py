"""What the routes work with.

The application is put together before the core exists: that takes long, and the clock of a simulated run ticks from the
moment in which the server is handed it. Nothing is served before `open`, nor between a `close` and the next `open`,
where a manager comes to lead or ceases to.
"""

from starlette.types import ASGIApp

from fleet.host.accounts import Accounts
from fleet.host.dispatch import CommandDesk
from fleet.host.keyring import Keyring
from fleet.host.managers.relay import Outbox
from fleet.host.pace import Pace
from fleet.host.pki.authority import Authority
from fleet.host.runtime import Runtime
from fleet.host.stream import EventStream


class Stage:
    """Set before the first request, and anew with each change of who leads."""

    entrance: ASGIApp
    """What every request passes, behind the limit on bodies."""
    outbox: Outbox | None = None
    """Of a manager that does not lead: where it takes what would change anything."""
    leader: str | None = None
    """Who leads, where several managers share a database."""
    key_trouble: str | None = None
    """Of a manager that does not lead: why what it hands to the leader cannot be read there."""
    is_open = False
    runtime: Runtime
    keys: Keyring
    desk: CommandDesk
    authority: Authority | None = None
    accounts: Accounts
    stream: EventStream
    pace: Pace
    opened_s: float
    """By the clock that the core goes by, as `now_s` is."""
    opened_utc_ms: int

    def open(
        self,
        runtime: Runtime,
        keys: Keyring,
        restored: dict[str, list[dict[str, object]]],
        outbox: Outbox | None = None,
    ) -> None:
        """Everything is there; `restored` are the database's rows by table."""
        self.runtime, self.keys, self.outbox = runtime, keys, outbox
        self.opened_s, self.opened_utc_ms = self.now_s(), runtime.clock.utc_ms()
        self.pace = Pace(runtime.totals, self.opened_s)
        self.desk = CommandDesk(runtime)
        self.stream = EventStream(runtime.events.listeners, runtime.core.boot if outbox is None else None)
        runtime.events.crowds.append(self.stream.on_stored)
        self.accounts = Accounts(runtime, keys, restored.get("users", []), restored.get("tokens", []))
        self.is_open = True

    def now_s(self) -> float:
        """The time of the core, which in a rehearsal is not that on the wall."""
        return self.runtime.clock.now_ms() / 1000

    @property
    def role(self) -> str:
        """`leader`, also where there is one server only, or `follower`."""
        return "leader" if self.is_open and self.runtime.leads else "follower"

    def close(self) -> None:
        """Lets every request that waits answer: the server is about to stop, or to change its part."""
        self.is_open = False
        self.desk.close()
        self.stream.close()
