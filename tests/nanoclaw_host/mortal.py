"""A gateway in a process of its own that can be killed at any instant: the real core, pump and outbox file.

Its broker and its uplink are one pipe to the test: (port, topic, payload) each way.
"""

import asyncio
import random
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from firmware.hosting.clock import ScaledClock
from firmware.hosting.pump import Pump
from firmware.wire.outputs import Connect, Credentials, Disconnect, Send, Store
from nanoclaw.core.config import GatewayConfig
from nanoclaw.core.gateway import GatewayCore
from nanoclaw.host.outbox_store import OutboxStore, StoreError


def live(pipe: Connection, config: GatewayConfig, data: Path, clock: ScaledClock, life: int) -> None:
    """Until it is killed."""
    asyncio.run(_live(pipe, config, data, clock, life))


async def _live(pipe: Connection, config: GatewayConfig, data: Path, clock: ScaledClock, life: int) -> None:
    store = OutboxStore(data)
    core = GatewayCore(config, store.load(), random.Random(life), clock.now_ms())

    async def write(output: Any) -> None:
        try:
            await store.write(output.writes)
        except StoreError as error:
            pump.feed(core.store_failed, output.token, str(error))
        else:
            pump.feed(core.stored, output.token)

    def connect(_output: Any) -> None:
        asyncio.get_running_loop().call_soon(pump.link_up, "hub")

    def nothing(_output: Any) -> None:
        pass

    handlers: dict[type, Any] = {
        Send: lambda output: pipe.send((output.port, output.topic, output.payload)),
        Store: write,
        Connect: connect,
        Disconnect: nothing,
        Credentials: nothing,
    }
    pump = Pump(core, clock, handlers)
    core.learn_utc(clock.utc_ms(), clock.now_ms())

    def read() -> None:
        while pipe.poll():
            pump.receive(*pipe.recv())

    asyncio.get_running_loop().add_reader(pipe.fileno(), read)
    pump.start()
    await pump.failed()
