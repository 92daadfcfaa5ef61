"""`fleet check`: what is wrong before a server runs. Nothing is changed, and no server that runs is disturbed."""

from collections.abc import Iterator, Sequence

from firmware.hosting.lifecycle import EXIT_MISSING, EXIT_OK, EXIT_USAGE, CannotRun
from fleet.host.checks.files import FILES
from fleet.host.checks.finding import Check, Finding
from fleet.host.checks.services import SERVICES
from fleet.host.settings import ServeSettings, SettingsError

__all__ = ["Finding", "exit_code", "run"]


def run(settings: ServeSettings) -> list[Finding]:
    """Everything that was found out, in the order in which a server needs it."""
    return [finding for check in (*FILES, *SERVICES) for finding in _carried_out(check, settings)]


def exit_code(findings: Sequence[Finding]) -> int:
    """That of a server with these findings: what the user can mend in settings comes before what is out of reach."""
    codes = {finding.code for finding in findings}
    return EXIT_USAGE if EXIT_USAGE in codes else EXIT_MISSING if EXIT_MISSING in codes else EXIT_OK


def _carried_out(check: Check, settings: ServeSettings) -> Iterator[Finding]:
    try:
        yield from check.work(settings)
    except SettingsError as error:
        yield Finding(check.what, str(error), "BAD", EXIT_USAGE)
    except CannotRun as error:
        yield Finding(check.what, str(error), "BAD", EXIT_MISSING)
