"""A gateway that announces itself is found by a node that scans, on the interface that both were given and no other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from firmware.hosting.tls import PinnedTls
from firmware.hosts.discovery import scan
from firmware.hosts.process import by_its_door
from nanoclaw.host.discovery import Announcer

pytestmark = pytest.mark.live

LOOPBACK = "127.0.0.1"
PIN = "ab" * 32


@asynccontextmanager
async def announced(*gateways: tuple[str, int]) -> AsyncIterator[list[Announcer]]:
    announcers = []
    for name, port in gateways:
        fields = {"id": name, "fleet": "clawland", "role": "secondary", "load": "3"}
        announcers.append(Announcer(fields, "0.0.0.0", port, LOOPBACK))
    await asyncio.gather(*(announcer.start() for announcer in announcers))
    try:
        yield announcers
    finally:
        await asyncio.gather(*(announcer.stop() for announcer in announcers))


async def test_a_scan_finds_every_gateway_with_all_that_a_node_chooses_by() -> None:
    async with announced(("gateway-08", 18081), ("gateway-09", 18082)):
        found = {gateway["id"]: gateway for gateway in await scan(LOOPBACK)}
    common = {"fleet": "clawland", "role": "secondary", "load": 3}
    assert found["gateway-08"] == {"id": "gateway-08", "target": "127.0.0.1:18081", **common}
    assert found["gateway-09"] == {"id": "gateway-09", "target": "127.0.0.1:18082", **common}


async def test_ten_nodes_that_scan_at_once_all_find_it() -> None:
    async with announced(("gateway-08", 18081)):
        answers = await asyncio.gather(*(scan(LOOPBACK) for _ in range(10)))
    assert all("gateway-08" in [gateway["id"] for gateway in answer] for answer in answers)


async def test_a_gateway_that_has_stopped_is_not_found() -> None:
    async with announced(("gateway-07", 18081)):
        pass
    assert "gateway-07" not in [gateway["id"] for gateway in await scan(LOOPBACK)]


async def test_a_changed_load_is_announced() -> None:
    async with announced(("gateway-08", 18081)) as (announcer,):
        await announcer.update({"id": "gateway-08", "fleet": "clawland", "role": "secondary", "load": "12"})
        found = {gateway["id"]: gateway["load"] for gateway in await scan(LOOPBACK)}
    assert found["gateway-08"] == 12


async def test_a_gateway_with_tls_tells_its_port_and_certificate() -> None:
    fields = {"id": "gateway-08", "fleet": "clawland", "tls": "8883", "fingerprint": PIN}
    announcer = Announcer(fields, LOOPBACK, 18084, LOOPBACK)
    await announcer.start()
    try:
        (found,) = [gateway for gateway in await scan(LOOPBACK) if gateway["id"] == "gateway-08"]
    finally:
        await announcer.stop()
    assert (found["target"], found["tls"], found["fingerprint"]) == ("127.0.0.1:18084", "8883", PIN)


def test_each_node_goes_to_the_door_that_is_for_it() -> None:
    pinned, others = PinnedTls(("cd" * 32, PIN)), PinnedTls(("cd" * 32,))
    plain = {"id": "gateway-08", "target": "127.0.0.1:1883"}
    both = plain | {"tls": "8883", "fingerprint": PIN}
    only_tls = both | {"target": "127.0.0.1:8883"}
    doors = {
        name: [
            found and found["target"][-4:]
            for found in (by_its_door(plain, tls), by_its_door(both, tls), by_its_door(only_tls, tls))
        ]
        for name, tls in (("none", None), ("pinned", pinned), ("others", others))
    }
    assert doors == {"none": ["1883", "1883", None], "pinned": [None, "8883", "8883"], "others": [None, None, None]}


async def test_a_record_that_is_no_gateway_of_ours_is_ignored() -> None:
    stranger = Announcer({"id": "Not An Id!", "fleet": "clawland"}, LOOPBACK, 18083, LOOPBACK)
    await stranger.start()
    try:
        found = await scan(LOOPBACK)
    finally:
        await stranger.stop()
    assert 18083 not in [int(gateway["target"].rpartition(":")[2]) for gateway in found]


async def test_an_interface_that_is_not_there_is_an_empty_answer_and_a_missing_announcement() -> None:
    assert await scan("192.0.2.77", scan_s=0.1) == []
    nowhere = Announcer({"id": "gateway-08", "fleet": "clawland"}, "0.0.0.0", 1, "192.0.2.77")
    await nowhere.start()
    await nowhere.stop()
