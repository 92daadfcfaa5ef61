"""Values as the database has them, opened; and shown to those who may see them.

The keys come with the connection: queries are functions of one, whoever runs them.
"""

from typing import Any

from sqlalchemy import Connection

from fleet.core.rows import Secret
from fleet.core.vault import Vault
from fleet.host.problems import Problem
from fleet.host.tables import Closed
from fleet.host.tokens import Caller

ROLE = "operator"  # sees sensitive values; below it they are sealed


def opened(connection: Connection, value: Any, node: str, boot: int, seq: int, metric: str) -> Any:
    """A stored value: as it is, or as a Secret."""
    if type(value) is not Closed:
        return value
    vault: Vault = connection.get_execution_options()["vault"]
    return vault.opened(value.text, node, boot, seq, metric)


def show(reading: dict[str, Any], sensitive: bool, caller: Caller) -> dict[str, Any]:
    """The `reading` (or latest value) with its value as `caller` may see it; `sensitive`: its metric is, by now.

    A sensitive one carries `sealed`; of an operator's that cannot be opened the value is null.
    """
    value = reading["value"]
    if type(value) is Secret:
        reading |= {"value": value.plain if caller.may(ROLE) else None, "sealed": True}
        if value.plain is None and caller.may(ROLE):
            reading["unreadable"] = True
    elif sensitive:
        reading |= {"value": value if caller.may(ROLE) else None, "sealed": True}
    return reading


def refuse_sealed(metric: str) -> Problem:
    """What somebody gets who asks for extremes of what they may not see."""
    return Problem(
        403, "sealed", f"{metric} is sensitive: only the role {ROLE} or above sees what its readings come to"
    )
