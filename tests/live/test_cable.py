"""Serial cables between real processes: what faults do to bytes, and a story told over them."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from clawsim.live.cable import RealCable
from clawsim.scenario.plan import SERIAL, FaultAction, LinkPlan
from tests.live.plans import TEMP, plan
from tests.live.stage import play

S = 1_000_000


@pytest.fixture
async def cable(tmp_path: Path) -> AsyncIterator[RealCable]:
    made = RealCable((tmp_path / "a", tmp_path / "b"), 0.0, random.Random(1), timescale=10)
    yield made
    made.close()


async def through(cable: RealCable, directory: Path, data: bytes, wait_s: float = 0.02) -> bytes:
    """What comes out at the other end, after a while."""
    sender, receiver = (os.open(directory / end, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK) for end in "ab")
    try:
        os.write(sender, data)
        await asyncio.sleep(wait_s)
        return os.read(receiver, 4096)
    except BlockingIOError:
        return b""
    finally:
        os.close(sender)
        os.close(receiver)


async def test_bytes_cross_as_they_are(cable: RealCable, tmp_path: Path) -> None:
    assert await through(cable, tmp_path, bytes(range(256)), 0.2) == bytes(range(256))


async def test_a_cut_swallows_them_for_good(cable: RealCable, tmp_path: Path) -> None:
    cable.cut()
    assert await through(cable, tmp_path, b"gone", 0.2) == b""
    cable.heal()
    assert await through(cable, tmp_path, b"here", 0.2) == b"here"
    assert (cable.blocked, cable.crossed_while_cut) == (1, 0)


async def test_a_loss_spoils_lines_and_is_evidence(cable: RealCable, tmp_path: Path) -> None:
    cable.loss = 1.0
    data = await through(cable, tmp_path, b"one\ntwo\n", 0.2)
    assert len(data) == 8 and data != b"one\ntwo\n"
    assert cable.disturbed == 2


async def test_a_delay_is_in_core_time(cable: RealCable, tmp_path: Path) -> None:
    cable.extra_us = 600 * S
    assert await through(cable, tmp_path, b"late", 0.2) == b""
    cable.extra_us = S
    assert await through(cable, tmp_path, b"soon", 0.6) == b"soon"
    assert cable.disturbed == 2


@pytest.mark.live
@pytest.mark.timeout(180)
async def test_nodes_at_cables_lose_nothing_to_noise_a_drawn_plug_and_a_dead_gateway(tmp_path: Path) -> None:
    first, second = (("sensor-01", "gateway-01"),), (("sensor-02", "gateway-01"),)
    timeline = (
        FaultAction("noise", 20 * S, "loss", "sensor-01 <-> gateway-01", first, for_us=40 * S, rate=0.5),
        FaultAction("plug", 30 * S, "cut", "sensor-02 <-> gateway-01", second, for_us=30 * S),
        FaultAction("dead", 90 * S, "kill", "gateway-01", entity="gateway-01", for_us=20 * S),
    )
    here = plan(nodes=2, minutes=2.5, timeline=timeline)
    links = {**here.links, SERIAL: LinkPlan(SERIAL, 1_000, 0, 0.0)}
    sensors = (replace(TEMP, every_ms=5_000),)
    here = replace(here, links=links, nodes=tuple(replace(n, link=SERIAL, sensors=sensors) for n in here.nodes))
    played = await play(here, tmp_path)
    account = played.account
    assert account.balanced and account.delivered == account.produced > 40, account
    assert not played.result.buffered and played.result.without_effect == []
    assert not played.result.failures and not played.of("message.rejected")
    assert (tmp_path / "run" / "cable" / "sensor-01.gateway-01").is_symlink()
