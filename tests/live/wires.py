"""A broker that only repeats, and clients with a source address of their own: what the proxy's claims are made of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from clawsim.live.proxy import FaultProxy

ADDRESSES = {"127.77.0.1": "sensor-01", "127.77.0.2": "sensor-02"}
ADDRESS_OF = {client: address for address, client in ADDRESSES.items()}

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Broker:
    """Repeats every byte, and keeps the connections it was given."""

    port: int = 0
    heard: bytearray = field(default_factory=bytearray)
    accepted: asyncio.Queue[Streams] = field(default_factory=asyncio.Queue)
    ended: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.put_nowait((reader, writer))
        how = "closed"
        try:
            while chunk := await reader.read(65536):
                self.heard += chunk
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            how = "reset"
        self.ended.put_nowait(how)
        writer.close()


@contextlib.asynccontextmanager
async def echo_broker() -> AsyncIterator[Broker]:
    broker = Broker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    yield broker
    server.close()
    while not broker.accepted.empty():
        broker.accepted.get_nowait()[1].close()


@contextlib.asynccontextmanager
async def proxied(timescale: float = 1.0, latency_ms: float = 0.0) -> AsyncIterator[tuple[FaultProxy, Broker]]:
    async with echo_broker() as broker:
        proxy = FaultProxy("gateway-01", ADDRESSES, timescale, latency_ms)
        await proxy.start()
        proxy.point_at("127.0.0.1", broker.port)
        yield proxy, broker
        await proxy.close()


async def dial(proxy: FaultProxy, client: str = "sensor-01") -> Streams:
    return await asyncio.open_connection("127.0.0.1", proxy.port, local_addr=(ADDRESS_OF[client], 0))


async def round_trip(streams: Streams, message: bytes) -> bytes:
    reader, writer = streams
    writer.write(message)
    return await asyncio.wait_for(reader.readexactly(len(message)), 5)


async def others_pass(proxy: FaultProxy) -> None:
    """A round trip of another client: whatever the proxy was going to do before, it has done after it."""
    other = await dial(proxy, "sensor-02")
    for i in range(3):
        await round_trip(other, b"still here %d" % i)
    other[1].close()
