"""A gateway that is killed again and again under load, with its real outbox on a real disk."""

import asyncio
import multiprocessing
import os
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from firmware.hosting.clock import ScaledClock
from firmware.wire import messages
from firmware.wire.auth import Sealer
from firmware.wire.outputs import Send
from fleet.wire import snapshot, uplink
from nanoclaw.core.config import GatewayConfig
from nanoclaw.host.outbox_store import OutboxStore
from tests.conftest import FULL
from tests.fleet_core.rig import Cloud
from tests.nanoclaw_core.rig import BOOT, EPOCH_MS, GATEWAY, KEY, NODE_KEYS
from tests.nanoclaw_host import mortal

KILLS = 200 if FULL else 10
TIMESCALE = 500  # a commit every 10 ms, a window every 120 ms
LONGEST_LIFE_S = 0.25
NODE = "sensor-01"
MOST_UNACKNOWLEDGED = 200


class Story:
    """A node that sends until it is told `received`, a gateway that dies, a fleet manager that stores."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.clock = ScaledClock(time.monotonic_ns(), TIMESCALE, EPOCH_MS)
        self.config = GatewayConfig(id=GATEWAY, key=KEY)
        self.cloud = Cloud().started()
        self.cloud.forget()
        self.unacknowledged: dict[int, int] = {}
        self.acknowledged: set[int] = set()
        self.next_seq = self.lives = 0
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload([mortal.__name__])  # a life begins at once
        self._sealer = Sealer(NODE_KEYS[NODE])

    def life(self, seconds: float, load: bool = True) -> None:
        """From the start of the gateway's process until SIGKILL."""
        self.lives += 1
        ours, theirs = self._processes.Pipe()
        arguments = (theirs, self.config, self.data, self.clock, self.lives)
        process = self._processes.Process(target=mortal.live, args=arguments, daemon=True)
        process.start()
        theirs.close()
        try:
            assert ours.poll(30), "the gateway never said a word"
            for seq in self.unacknowledged:
                self._send(ours, seq)
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                if load and len(self.unacknowledged) < MOST_UNACKNOWLEDGED:
                    self._read_something(ours)
                while ours.poll(0.002):
                    self._hear(ours, *ours.recv())
        finally:
            process.kill()
            process.join()
        self._hear_the_rest(ours)

    def _hear_the_rest(self, pipe: Connection) -> None:
        """What it said before it died was said."""
        try:
            while pipe.poll():
                self._hear(None, *pipe.recv())
        except (EOFError, OSError):
            pass
        pipe.close()

    def _read_something(self, pipe: Connection) -> None:
        for _ in range(5):
            self.unacknowledged[self.next_seq] = self.clock.now_ms()
            self._send(pipe, self.next_seq)
            self.next_seq += 1

    def _send(self, pipe: Connection, seq: int) -> None:
        age_ms = self.clock.now_ms() - self.unacknowledged[seq]
        payload = messages.encode_reading(str(seq / 10), '"C"', BOOT, seq, "age_ms", age_ms)
        pipe.send(("nodes", f"clawland/{NODE}/temp", payload))

    def _hear(self, pipe: Connection | None, port: str, topic: str, payload: bytes) -> None:
        if port == "nodes":
            found = messages.decode_received(self._sealer.open(topic, payload) or b"")
            for seq in range(found["from"], found["upto"] + 1) if found and "upto" in found else ():
                if seq not in found["missing"] and self.unacknowledged.pop(seq, None) is not None:
                    self.acknowledged.add(seq)
            return
        self.cloud.raw(topic, payload)
        for output in self.cloud.of(Send):
            if pipe is not None and output.topic.startswith(f"clawland/{GATEWAY}/"):
                pipe.send(("hub", output.topic, output.payload))
        self.cloud.forget()


@pytest.fixture
def story(tmp_path: Path) -> Story:
    store = OutboxStore(tmp_path)
    built = snapshot.build(1, [], NODE_KEYS, GATEWAY, KEY, bytes(12))
    asyncio.run(store.write([("put", "snapshot", uplink.encode(built).decode())]))
    store.close()
    return Story(tmp_path)


@pytest.mark.live
def test_killed_at_random_under_load_it_loses_nothing_that_it_acknowledged_and_nothing_is_stored_twice(
    story: Story,
) -> None:
    moments = random.Random(int(os.environ.get("CLAWSIM_SEED", "11")))
    for _ in range(KILLS):
        story.life(moments.uniform(0, LONGEST_LIFE_S))
    assert len(story.acknowledged) > 10 * KILLS, "too little load to prove anything"
    deadline_s = time.monotonic() + 60
    stored: set[int] = set()
    while not story.acknowledged <= stored and time.monotonic() < deadline_s:
        story.life(1.0, load=False)
        rows = [row[:3] for row in story.cloud.rows()]
        assert len(rows) == len(set(rows))
        stored = {seq for node, boot, seq in rows if (node, boot) == (NODE, BOOT)}
    assert story.acknowledged <= stored
