"""What became of the readings, each term from its own evidence: the API's answers, backlogs and outboxes on disk."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import httpx

from clawsim.live.actions import FleetApi
from clawsim.live.deploy import Deployment
from clawsim.scenario.plan import FLEET
from firmware.hosts.flash import read_flash
from nanoclaw.host.outbox_store import read_outbox

PAGE = 10_000

Identity = tuple[str, int, int]
"""(node, boot, seq)"""


class CollectError(Exception):
    """Readings could not be read back; the message says from where."""


async def delivered_rows(api: FleetApi) -> list[dict[str, Any]]:
    """Every stored reading as the API shows it, in the order of storage; :class:`CollectError`."""
    rows: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = await _page(api, cursor)
        rows += page["readings"]
        if not page["next_cursor"]:
            return rows
        cursor = f"&cursor={page['next_cursor']}"


def stored_rows(deployment: Deployment) -> list[dict[str, Any]]:
    """The identities of every stored reading in the database of a fleet manager that cannot be asked any more.

    In the order of storage. Raises :class:`CollectError` when the database cannot be read; there may be none yet.
    """
    from fleet.host.database import DATABASE_FILE

    file = deployment.data(FLEET) / DATABASE_FILE
    if not file.exists():
        return []
    try:
        with closing(sqlite3.connect(file)) as database:
            found = database.execute("SELECT node, boot, seq FROM readings ORDER BY id").fetchall()
    except sqlite3.Error as error:
        raise CollectError(f"cannot read the database of the fleet manager: {error}") from None
    return [{"node": node, "boot": boot, "seq": seq} for node, boot, seq in found]


async def _page(api: FleetApi, cursor: str) -> dict[str, Any]:
    try:
        answer = await api.request("GET", f"/api/v1/fleet/readings?limit={PAGE}{cursor}")
        answer.raise_for_status()
        page: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise CollectError(f"cannot read the stored readings back: {error}") from None
    return page


def backlog(deployment: Deployment, node: str) -> list[tuple[int, int]]:
    """(boot, seq) of the readings that a node's flash holds."""
    return [(boot, seq) for boot, seq, _ in read_flash(deployment.data(node)).get("readings", [])]


def outbox(deployment: Deployment, gateway: str) -> dict[int, tuple[str, bytes]]:
    """(kind, body) of what a gateway's outbox holds, by item; :class:`CollectError` when it cannot be read."""
    try:
        items = read_outbox(deployment.data(gateway))["outbox"]
    except sqlite3.Error as error:
        raise CollectError(f"cannot read the outbox of {gateway}: {error}") from None
    return {item_id: (kind, body) for item_id, kind, body in items}
