"""The table `requests`: what was asked of managers that do not lead, and what the leader answered. Blocking code."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, or_, select, update

from fleet.host.managers.bell import ANSWERED, ASKED, ring
from fleet.host.tables import REQUESTS

MOST_AT_ONCE = 64
KEPT_MS = 15 * 60_000  # then whoever asked is gone


@dataclass(frozen=True)
class Asked:
    """A request that the leader has taken up; `orphaned`: one before it had done so, and did not answer."""

    id: str
    again: bool
    orphaned: bool
    request: bytes


def put(connection: Connection, row: str, request: bytes, again: bool, utc_ms: int) -> None:
    """Asks. `again`: carrying it out twice does no harm."""
    connection.execute(insert(REQUESTS).values(id=row, asked_utc_ms=utc_ms, again=again, request=request))
    ring(connection, ASKED)


def take(connection: Connection, epoch: int, most: int = MOST_AT_ONCE) -> list[Asked]:
    """The next requests for the leader of `epoch`, in the order in which they came."""
    mine = or_(REQUESTS.c.epoch.is_(None), REQUESTS.c.epoch < epoch)
    query = select(REQUESTS).where(REQUESTS.c.answer.is_(None), mine)
    rows = connection.execute(query.order_by(REQUESTS.c.asked_utc_ms).limit(most).with_for_update()).all()
    if rows:
        taken = [row.id for row in rows]
        connection.execute(update(REQUESTS).where(REQUESTS.c.id.in_(taken)).values(epoch=epoch))
    return [Asked(row.id, row.again, row.epoch is not None, bytes(row.request)) for row in rows]


def answer(connection: Connection, row: str, epoch: int, sealed: bytes) -> None:
    """Answers what this leader has taken up."""
    mine = (REQUESTS.c.id == row, REQUESTS.c.epoch == epoch)
    connection.execute(update(REQUESTS).where(*mine).values(answer=sealed))
    ring(connection, ANSWERED, row)


def look(connection: Connection, row: str) -> tuple[bool, bytes | None]:
    """Whether a leader has taken the request up, and its answer."""
    found = connection.execute(select(REQUESTS.c.epoch, REQUESTS.c.answer).where(REQUESTS.c.id == row)).one_or_none()
    if found is None:
        return True, None
    return found.epoch is not None, None if found.answer is None else bytes(found.answer)


def withdraw(connection: Connection, row: str) -> bool:
    """Takes the request back; False when a leader has taken it up already."""
    return connection.execute(delete(REQUESTS).where(REQUESTS.c.id == row, REQUESTS.c.epoch.is_(None))).rowcount == 1


def drop(connection: Connection, row: str) -> None:
    """It is answered, or nobody waits for it any more."""
    connection.execute(delete(REQUESTS).where(REQUESTS.c.id == row))


def forget_old(connection: Connection, utc_ms: int) -> None:
    """What managers that died had asked."""
    connection.execute(delete(REQUESTS).where(REQUESTS.c.asked_utc_ms < utc_ms - KEPT_MS))
