"""What the tests of sensitive values have in common: values that look like nothing else, and where to look for them."""

import json
import os
from typing import Any

from sqlalchemy import text

from firmware.hosting.aes import aes_block
from firmware.wire.sealing import seal
from fleet.core.vault import Vault
from fleet.host.storage import Storage
from tests.fleet_host.stand import NODE, UTC_MS, Served

FLEET = "/api/v1/fleet"
SECRET = 8314.4626  # looks like nothing else that is stored
KEYS = [bytes([number]) * 32 for number in range(3)]
SEALING_KEY = "5e" * 32


def vault_of(*numbers: int) -> Vault:
    return Vault([KEYS[number] for number in numbers], os.urandom)


def readings(name: str, *values: Any, metric: str = "co2", first: int = 0, sealed_by: str | None = None) -> bytes:
    """A batch; sealed under that key."""
    found = []
    for seq, value in enumerate(values, first):
        reading = {"sensor": NODE, "boot": 7, "seq": seq, "metric": metric, "value": value, "utc_ms": UTC_MS + seq}
        if sealed_by is not None:
            block = aes_block(bytes.fromhex(sealed_by))
            reading["sealed"] = seal(block, NODE, metric, 7, seq, json.dumps(reading.pop("value")))[1:]
        found.append(reading)
    return json.dumps({"v": 1, "batch": name, "readings": found, "stats": []}).encode()


async def mark(fleet: Served, metric: str = "co2", **doc: Any) -> None:
    response = await fleet.http.put(f"{FLEET}/sensitive/{metric}", json=doc, headers=fleet.as_role("admin"))
    assert response.status_code in (200, 201), response.text


async def ask(fleet: Served, path: str, role: str = "operator", **params: Any) -> Any:
    return (await fleet.http.get(f"{FLEET}/{path}", params=params, headers=fleet.as_role(role))).json()


def stored(storage: Storage) -> list[str]:
    """The texts of all values, in the order of storage."""
    with storage.reading() as connection:
        return [found for (found,) in connection.execute(text("SELECT value FROM readings ORDER BY id"))]


def everything(storage: Storage) -> str:
    """All that the database holds, as text."""
    tables = (
        "readings",
        *("alerts", "conflicts", "notifications", "nodes", "slots", "sealing", "audit", "node_events"),
    )
    with storage.reading() as connection:
        return str([connection.execute(text(f"SELECT * FROM {table}")).all() for table in tables])


async def seals(fleet: Served, *metrics: str) -> str:
    """The node seals these; its new key."""
    url = f"{FLEET}/nodes/{NODE}/sealing"
    response = await fleet.http.put(url, json={"metrics": list(metrics)}, headers=fleet.as_role("admin"))
    return str(response.json()["sealing_key"])
