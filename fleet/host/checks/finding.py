"""What a check finds out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from fleet.host.settings import ServeSettings


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `state` is ok, warn or BAD, and `code` what a server would exit with because."""

    what: str
    found: str
    state: str = "ok"
    code: int = 0

    def json(self) -> dict[str, object]:
        """For machines."""
        return {"what": self.what, "found": self.found, "state": self.state.lower()}


class Check(NamedTuple):
    """A check; what its `work` raises (SettingsError, CannotRun) is a finding about `what`."""

    what: str
    work: Callable[[ServeSettings], Iterable[Finding]]


def warning(what: str, found: str) -> Finding:
    """Something that a server can run with, and that a person should look at."""
    return Finding(what, found, "warn")
