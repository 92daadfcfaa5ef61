"""Who was heard of when: a leader keeps that in memory, and writes it down now and then for the other managers.

In rows of their own, since those of nodes and gateways are the core's to write.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

from fleet.core.manager import FleetCore
from fleet.host.runtime import Runtime
from fleet.host.storage import Write

TELL_S = 5.0
_KEPT = ("heard_utc_ms", "health")

Doc = dict[str, Any]


async def tell(runtime: Runtime) -> None:
    """Until it is cancelled."""
    told: dict[str, Doc] = {}
    while True:
        await asyncio.sleep(TELL_S)
        writes: list[Write] = [
            ("upsert", "liveness", {"id": member, "doc": doc}) for member, doc in newer(runtime.core, told)
        ]
        writes += [("delete", "liveness", member) for member in gone(runtime.core, told)]
        if writes:
            runtime.writer.submit(writes, None)


def newer(core: FleetCore, told: dict[str, Doc]) -> Iterator[tuple[str, Doc]]:
    """What is not `told` yet, which it then is."""
    for rows in (core.registry.nodes, core.registry.gateways):
        for member, row in rows.items():
            doc = {name: row["doc"].get(name) for name in _KEPT}
            if told.get(member) != doc and any(value is not None for value in doc.values()):
                told[member] = doc
                yield member, doc


def gone(core: FleetCore, told: dict[str, Doc]) -> list[str]:
    """Who was told of and has left the fleet."""
    left = [member for member in told if not core.registry.knows(member)]
    for member in left:
        del told[member]
    return left
