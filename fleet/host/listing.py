"""Pages of what the core has in memory: the cursor of a page is the id of its last entry."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query

from fleet.host.problems import Problem

Cursor = Annotated[str | None, Query(max_length=80, description="`next_cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=1000)]


def page(name: str, key: str, found: Sequence[dict[str, Any]], cursor: str | None, limit: int) -> dict[str, Any]:
    """The page after the entry that `cursor` names; a list that has grown at its head does not shift it."""
    start = 0
    if cursor is not None:
        places = [number for number, entry in enumerate(found) if entry[key] == cursor]
        if not places:
            raise Problem(400, "invalid", "query.cursor: no entry of this list; start again without it")
        start = places[0] + 1
    some = found[start : start + limit]
    more = start + limit < len(found)
    return {name: some, "next_cursor": some[-1][key] if more else None}
