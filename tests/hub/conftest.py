"""Both brokers behind one fixture: each claim about the local broker and the hub is put to both of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from fleet.hub import EmbeddedBroker, HubAccess, HubError, MosquittoBroker, NodeAccess, StaticAccess
from tests.hub.client import CONNACK, RawClient, connect_packet

MAX_PAYLOAD_BYTES = 512
GATEWAY = "gateway-01"
PASSWORDS = {"sensor-01": b"key-of-sensor-01", "sensor-02": b"key-of-sensor-02"}
HUB_PASSWORDS = {"gateway-01": b"key-of-gateway-01", "gateway-02": b"key-of-gateway-02"}

AnyBroker = EmbeddedBroker | MosquittoBroker


class Site:
    """A broker that runs, its table of passwords, and clients that are gone with the test."""

    def __init__(self, broker: AnyBroker, passwords: dict[str, bytes], access: StaticAccess) -> None:
        self.broker = broker
        self.passwords = passwords
        self.access = access
        self.clients: list[RawClient] = []

    @property
    def is_embedded(self) -> bool:
        return isinstance(self.broker, EmbeddedBroker)

    async def open(self) -> RawClient:
        client = await RawClient.open(self.broker.port)
        self.clients.append(client)
        return client

    async def attempt(self, username: str | None, password: str | bytes | None, **more: Any) -> tuple[RawClient, int]:
        """Connect. Returns the client and the CONNACK return code."""
        client = await self.open()
        client.send(connect_packet(more.pop("client_id", username or "someone"), username, password, **more))
        return client, (await client.expect(CONNACK))[1]

    async def connect(self, identity: str, **more: Any) -> RawClient:
        client, code = await self.attempt(identity, self.access.password_of(identity), **more)
        assert code == 0, f"{identity} refused with {code}"
        return client

    def drop_all(self) -> None:
        for client in self.clients:
            client.drop()

    async def reload(self) -> None:
        """Have a broker that keeps its own password file read it again; the embedded one always asks."""
        if isinstance(self.broker, MosquittoBroker):
            await self.broker.reload()


StartSite = Callable[[StaticAccess, dict[str, bytes]], Awaitable[Site]]


@pytest.fixture(params=["embedded", "mosquitto"])
async def start_site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StartSite]:
    async with AsyncExitStack() as stack:

        async def start(access: StaticAccess, passwords: dict[str, bytes]) -> Site:
            broker = _make(str(request.param), access, tmp_path)
            try:
                await stack.enter_async_context(broker)
            except HubError as error:
                pytest.fail(str(error))
            site = Site(broker, passwords, access)
            stack.callback(site.drop_all)
            return site

        yield start


@pytest.fixture
async def site(start_site: StartSite) -> Site:
    """A gateway's local broker, with two nodes."""
    passwords = dict(PASSWORDS)
    return await start_site(NodeAccess(GATEWAY, b"key-of-the-gateway", passwords), passwords)


@pytest.fixture
async def hub(start_site: StartSite) -> Site:
    """The Event Hub, with two gateways and the manager."""
    passwords = dict(HUB_PASSWORDS)
    return await start_site(HubAccess(passwords, "manager", b"key-of-the-manager"), passwords)


def _make(kind: str, access: StaticAccess, directory: Path) -> AnyBroker:
    if kind == "embedded":
        return EmbeddedBroker(access=access, max_payload_bytes=MAX_PAYLOAD_BYTES)
    return MosquittoBroker(access=access, max_payload_bytes=MAX_PAYLOAD_BYTES, directory=directory / "mosquitto")
