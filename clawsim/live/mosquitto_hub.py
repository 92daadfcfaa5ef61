"""Mosquitto as the Event Hub of a live run, as a process that speaks the `--sim-clock` protocol."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from firmware.hosting.lifecycle import CannotRun, run_process, stop_on_signals, until
from firmware.hosting.simclock import start_clock
from firmware.hosting.trace import open_trace
from fleet.host.hub_server import HubVoice, read_credentials
from fleet.host.local_hub import MAX_PAYLOAD_BYTES
from fleet.hub import HubError, MosquittoBroker

HUB = "hub"
LOOK_EVERY_S = 0.5


async def serve(credentials: Path, directory: Path, trace: Path) -> None:
    """Serves until a signal or the end of stdin; :class:`CannotRun` when Mosquitto cannot run, or ends by itself."""
    stop = stop_on_signals()
    access = read_credentials(credentials)
    voice = HubVoice()
    broker = MosquittoBroker(
        access=access, max_payload_bytes=MAX_PAYLOAD_BYTES, directory=directory, on_event=voice.say
    )
    try:
        await broker.start()
        voice.begin(await start_clock(True, {"mqtt_port": broker.port}, stop), open_trace(trace, HUB))
        await until(stop, _ended(broker))
    except HubError as error:
        raise CannotRun(str(error)) from None
    finally:
        await broker.stop()


async def _ended(broker: MosquittoBroker) -> None:
    while broker.running:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_EVERY_S)
    raise CannotRun(f"Mosquitto ended by itself; see {broker.log_file}")


def main() -> None:
    """`CREDENTIALS DIRECTORY TRACE`"""
    credentials, directory, trace = map(Path, sys.argv[1:4])
    run_process(serve(credentials, directory, trace))
