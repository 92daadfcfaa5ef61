"""A large site: 500 nodes that all connect at the same moment, as they do when the power comes back."""

import asyncio
import time
from collections.abc import Callable

import pytest

from fleet.hub import NodeAccess
from tests.hub.client import RawClient, connect_packet, publish_packet, subscribe_packet
from tests.hub.conftest import GATEWAY, Site, StartSite

NODES = 500
CONNECT_WITHIN_S = 5.0
CONNACK_AND_SUBACK_BYTES = 4 + 5


async def _join(site: Site, node: str) -> RawClient:
    client = await site.open()
    client.send(connect_packet(node, node, site.passwords[node]) + subscribe_packet(f"clawland/{node}/cmd"))
    answer = await client.reader.readexactly(CONNACK_AND_SUBACK_BYTES)
    assert (answer[3], answer[8]) == (0, 0)
    return client


@pytest.mark.live
async def test_500_nodes_connect_and_subscribe_at_once_and_each_is_reached(
    start_site: StartSite, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    passwords = {f"sensor-{number:03d}": b"key-%d" % number for number in range(NODES)}
    site = await start_site(NodeAccess(GATEWAY, b"key-of-the-gateway", passwords), passwords)
    gateway = await site.connect(GATEWAY)
    await gateway.subscribe("clawland/#")

    begin_s = time.perf_counter()
    nodes = dict(zip(passwords, await asyncio.gather(*(_join(site, node) for node in passwords)), strict=True))
    connected_s = time.perf_counter() - begin_s
    for node, client in nodes.items():
        client.send(publish_packet(f"clawland/{node}/temp", b'{"value": 25.0}'))
    heard = {(await gateway.delivery()).topic for _ in nodes}
    for node, client in nodes.items():
        gateway.publish(f"clawland/{node}/cmd", node.encode())
        assert (await client.delivery()).payload == node.encode()

    with capsys.disabled():
        print(f"\n{type(site.broker).__name__}: {NODES} clients connected and subscribed in {connected_s:.2f} s")
    record_property("connected_s", connected_s)
    assert heard == {f"clawland/{node}/temp" for node in passwords}
    assert connected_s < CONNECT_WITHIN_S
