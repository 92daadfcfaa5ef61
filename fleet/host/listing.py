"""Pages of lists, of what the core has in memory and of what the database holds."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query

from fleet.host.problems import Problem, unavailable
from fleet.host.readings import BadCursor
from fleet.host.stage import Stage
from fleet.host.storage import StorageError

# An alert's id holds the names of its rule and node, and the numbers of a reading.
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=1000)]


def page(name: str, key: str, found: Sequence[dict[str, Any]], cursor: str | None, limit: int) -> dict[str, Any]:
    """The page of a list in memory after the entry whose `key` is `cursor`: what is new at its head shifts nothing."""
    start = 0
    if cursor is not None:
        places = [number for number, entry in enumerate(found) if entry[key] == cursor]
        if not places:
            raise Problem(400, "invalid", "query.cursor: no entry of this list; start again without it")
        start = places[0] + 1
    some = found[start : start + limit]
    more = start + limit < len(found)
    return {name: some, "next_cursor": some[-1][key] if more else None}


async def read(stage: Stage, query: Any, *args: Any) -> Any:
    """What a query of the database finds. Raises Problem."""
    try:
        return await stage.runtime.read(query, *args)
    except BadCursor as error:
        raise Problem(400, "invalid", f"query.cursor: {error}") from None
    except StorageError as error:
        raise unavailable(str(error)) from None
