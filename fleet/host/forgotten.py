"""What retention removed: a copy of it that arrives late is acknowledged, and does not come back as a new reading.

For each boot of a node the sequence numbers are kept as ranges, a few integers however many readings went. They are
kept for good: a gateway may replay what it holds on disk after any time.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, insert, select

from fleet.core.rows import ReadingRow
from fleet.host.tables import FORGOTTEN
from fleet.wire.ranges import SeqRanges

Identity = tuple[str, int, int]
Range = tuple[int, int]


class Forgotten:
    """The removed identities, in memory as in the database."""

    def __init__(self) -> None:
        self._ranges: dict[tuple[str, int], SeqRanges] = {}

    def load(self, connection: Connection) -> dict[tuple[str, int], SeqRanges]:
        """Reads all of them, by (node, boot)."""
        found = connection.execute(select(FORGOTTEN.c.node, FORGOTTEN.c.boot, FORGOTTEN.c.ranges))
        self._ranges = {(node, boot): SeqRanges(map(tuple, ranges)) for node, boot, ranges in found}
        return self._ranges

    def without(self, rows: Sequence[ReadingRow]) -> Sequence[ReadingRow]:
        """Those of `rows` that were never removed."""
        if not self._ranges:
            return rows
        return [row for row in rows if row.seq not in self._ranges.get((row.node, row.boot), ())]

    def remember(self, connection: Connection, identities: Iterable[Identity]) -> None:
        """Writes down that these are removed, in the transaction that removes them.

        Should that fail, memory knows more than the database: harmless, a copy of what is stored is no news.
        """
        gone: dict[tuple[str, int], list[Range]] = {}
        for node, boot, seq in identities:
            gone.setdefault((node, boot), []).append((seq, seq))
        for (node, boot), numbers in gone.items():
            ranges = merged([*self._ranges.get((node, boot), ()), *numbers])
            self._ranges[node, boot] = SeqRanges(ranges)
            connection.execute(delete(FORGOTTEN).where(FORGOTTEN.c.node == node, FORGOTTEN.c.boot == boot))
            connection.execute(insert(FORGOTTEN).values(node=node, boot=boot, ranges=ranges))


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same numbers as ascending, disjoint closed ranges that do not touch."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found
