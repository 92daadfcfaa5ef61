"""What a fleet does to its managers all day: batches until each is acknowledged, commands, changes; all of it kept."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx

from tests.fleet_host.several import Several
from tests.fleet_host.stand import NODE, Gateway, gateway_at

READINGS = 20
AGAIN_S = 1.0
MOST_OPEN = 8


def fresh_batch(number: int, value: float, boot: int) -> bytes:
    """Batch `number`, read just now."""
    utc_ms = int(time.time() * 1000)
    common = {"sensor": NODE, "boot": boot, "metric": "temp", "value": value, "unit": "C", "utc_ms": utc_ms}
    seqs = range(number * READINGS, (number + 1) * READINGS)
    readings = [common | {"seq": seq} for seq in seqs]
    return json.dumps({"v": 1, "batch": f"b-{number}", "readings": readings, "stats": []}).encode()


class Load:
    """Runs beside a test; each promise that a manager has given is in it."""

    def __init__(self, gateway: Gateway, boot: int) -> None:
        """`boot`: of the node, one that no other load has."""
        self.gateway, self.boot = gateway, boot
        self._open: dict[int, tuple[bytes, float]] = {}
        self._number = 0
        self._ending = False
        self.value = 21.5
        self.executed: Counter[str] = Counter()
        """How often the node was given each command, by its id."""
        self.done: dict[str, str] = {}
        """Commands that a manager said were done, by Idempotency-Key."""
        self.sites: dict[str, str] = {}
        """Titles of sites that a manager said were kept."""
        self.troubles: Counter[str] = Counter()

    @property
    def acknowledged(self) -> set[int]:
        """Numbers of the batches that a manager said were stored."""
        return {int(name.removeprefix("b-")) for name in self.gateway.acknowledged}

    async def more_batches(self, count: int) -> None:
        """Until so many more are acknowledged than now."""
        wanted = len(self.gateway.acknowledged) + count
        async with asyncio.timeout(60):
            while len(self.gateway.acknowledged) < wanted:  # noqa: ASYNC110 - the gateway counts
                await asyncio.sleep(0.02)

    async def finish(self) -> None:
        """No new work, and everything that was begun is answered."""
        self._ending = True
        async with asyncio.timeout(60):
            while self._open:  # noqa: ASYNC110 - the gateway counts
                await asyncio.sleep(0.05)

    async def send_batches(self) -> None:
        """As a gateway does: some at a time, and again what is not acknowledged."""
        beat_s = 0.0
        while True:
            now_s = time.monotonic()
            self._open = {n: each for n, each in self._open.items() if n not in self.acknowledged}
            while len(self._open) < MOST_OPEN and not self._ending:
                self._open[self._number] = (fresh_batch(self._number, self.value, self.boot), 0.0)
                self._number += 1
            for number, (payload, sent_s) in list(self._open.items()):
                if now_s - sent_s >= AGAIN_S:
                    self._open[number] = (payload, now_s)
                    await self.gateway.publish("batch", payload)
            if now_s - beat_s >= AGAIN_S:
                beat_s = now_s
                await self.gateway.heartbeat()
            await asyncio.sleep(0.05)

    async def answer_commands(self) -> None:
        """As a node does: an id is carried out once, and acknowledged each time that it comes."""
        place = 0
        while True:
            for verb, message in self.gateway.messages[place:]:
                place += 1
                if verb == "cmd":
                    self.executed[message["id"]] += 1
                    answer = {"v": 1, "id": message["id"], "target": message.get("target"), "status": "restarted"}
                    await self.gateway.publish("ack", json.dumps(answer).encode())
            await asyncio.sleep(0.02)

    async def ask(self, http: httpx.AsyncClient) -> None:
        """Commands and changes through nginx, each repeated until a manager has said what has become of it."""
        number = 0
        while not self._ending:
            number += 1
            key, site, title = f"key-{self.boot}-{number}", f"site-{self.boot}-{number}", f"number {number}"
            command = {"headers": {"Idempotency-Key": key}, "params": {"timeout": 10}}
            found = await self._insist(http, "POST", f"/api/nodes/{NODE}/restart", **command)
            self.done[key] = found["command"]["id"]
            await self._insist(http, "PUT", f"/api/v1/fleet/sites/{site}", json={"title": title})
            self.sites[site] = title

    async def _insist(self, http: httpx.AsyncClient, method: str, path: str, **more: Any) -> Any:
        while True:
            try:
                response = await http.request(method, path, **more)
            except httpx.HTTPError as error:
                self.troubles[type(error).__name__] += 1
            else:
                if response.status_code in (200, 201):
                    return response.json()
                self.troubles[str(response.status_code)] += 1
                assert response.status_code in (202, 502, 503, 504), response.text
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def load_on(several: Several, boot: int) -> AsyncIterator[Load]:
    """All of it at work."""
    with several.api(several.url) as api:
        headers = api.headers
    async with (
        gateway_at(several.hub) as gateway,
        httpx.AsyncClient(base_url=several.url, headers=headers, timeout=40) as http,
    ):
        await gateway.until_manager_hears()
        load = Load(gateway, boot)
        works = (load.send_batches(), load.answer_commands(), load.ask(http))
        tasks = [asyncio.create_task(each) for each in works]
        try:
            yield load
            await tasks[2]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
