"""Whether the cloud is there, in this gateway's own view: a table of modes, and what takes it from one to another.

`TABLE` is all of it; what is not in it changes nothing. The first row that fits counts. Each row says one Event.

In `probing` nobody knows: the cloud has not answered yet since the start, or it is late, or the line is gone and
another may come. The gateway goes on as before and decides nothing by itself. In `offline` it decides alone and sends
nothing but heartbeats. In `catching-up` it is online, and what it kept is on its way.
"""

from typing import NamedTuple

ONLINE, PROBING, OFFLINE, CATCHING_UP = "online", "probing", "offline", "catching-up"
MODES = (ONLINE, PROBING, OFFLINE, CATCHING_UP)

ANSWERED = "a heartbeat is answered"
LATE = "the answer is late"
SILENT = "the silence is too long"
LOST = "the line is lost"
BEHIND = "kept readings wait"
CAUGHT_UP = "nothing kept waits"
CAUSES = (ANSWERED, LATE, SILENT, LOST, BEHIND, CAUGHT_UP)

ALWAYS = ""
NEW = "it has not answered since the start"
KNOWN = "it has answered since the start"
HOPE = "another line may come up"
NO_HOPE = "no other line may come up"
KNOWN_NO_HOPE = "it has answered since the start, and no other line may come up"
KNOWN_BEHIND = "it has answered since the start, and kept readings wait"


class Row(NamedTuple):
    """In `mode`, upon `cause` and if `guard` holds, the mode becomes `becomes`, and `says` is the Event."""

    mode: str
    cause: str
    guard: str
    becomes: str
    says: str


TABLE = (
    Row(PROBING, ANSWERED, NEW, ONLINE, "gateway.online"),
    Row(PROBING, ANSWERED, KNOWN_BEHIND, CATCHING_UP, "gateway.answered"),
    Row(PROBING, ANSWERED, KNOWN, ONLINE, "gateway.answered"),
    Row(PROBING, BEHIND, ALWAYS, PROBING, "gateway.catching-up"),
    Row(PROBING, CAUGHT_UP, ALWAYS, PROBING, "gateway.caught-up"),
    Row(PROBING, LOST, KNOWN_NO_HOPE, OFFLINE, "gateway.offline"),
    Row(PROBING, SILENT, ALWAYS, OFFLINE, "gateway.offline"),
    Row(ONLINE, LATE, ALWAYS, PROBING, "gateway.probing"),
    Row(ONLINE, LOST, HOPE, PROBING, "gateway.probing"),
    Row(ONLINE, LOST, NO_HOPE, OFFLINE, "gateway.offline"),
    Row(ONLINE, SILENT, ALWAYS, OFFLINE, "gateway.offline"),
    Row(ONLINE, BEHIND, ALWAYS, CATCHING_UP, "gateway.catching-up"),
    Row(CATCHING_UP, CAUGHT_UP, ALWAYS, ONLINE, "gateway.caught-up"),
    Row(CATCHING_UP, LATE, ALWAYS, PROBING, "gateway.probing"),
    Row(CATCHING_UP, LOST, HOPE, PROBING, "gateway.probing"),
    Row(CATCHING_UP, LOST, NO_HOPE, OFFLINE, "gateway.offline"),
    Row(CATCHING_UP, SILENT, ALWAYS, OFFLINE, "gateway.offline"),
    Row(OFFLINE, ANSWERED, ALWAYS, ONLINE, "gateway.online"),
)


def step(mode: str, cause: str, new: bool, hope: bool, behind: bool) -> Row | None:
    """The row that applies, or None: nothing changes.

    `new`: the cloud has not answered since the start; `hope`: another line may come up; `behind`: kept readings wait.
    """
    holds = {
        ALWAYS: True,
        NEW: new,
        KNOWN: not new,
        HOPE: hope,
        NO_HOPE: not hope,
        KNOWN_NO_HOPE: not new and not hope,
        KNOWN_BEHIND: not new and behind,
    }
    return next((row for row in TABLE if row.mode == mode and row.cause == cause and holds[row.guard]), None)


def as_markdown() -> str:
    """The table for people."""
    lines = ["| mode | when | if | becomes | says |", "|---|---|---|---|---|"]
    lines += [f"| {row.mode} | {row.cause} | {row.guard} | {row.becomes} | `{row.says}` |" for row in TABLE]
    return "\n".join(lines)
