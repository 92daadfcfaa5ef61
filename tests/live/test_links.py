"""A link through the proxy wears the face of a virtual link, and cannot claim an effect that it did not have."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from clawsim.live.link import Link
from clawsim.live.links import ProxyLink
from clawsim.live.proxy import FaultProxy
from tests.live.wires import Streams, dial, others_pass, proxied, round_trip


@asynccontextmanager
async def linked(base_loss: float = 0.0) -> AsyncIterator[tuple[ProxyLink, Streams, FaultProxy]]:
    async with proxied(timescale=1000) as (proxy, _):
        link = ProxyLink(proxy, "sensor-01", base_loss, random.Random(7))
        yield link, await dial(proxy), proxy


async def test_a_cut_shows_what_it_kept_back_during_and_after() -> None:
    async with linked() as (link, streams, proxy):
        await round_trip(streams, b"before")
        link.cut()
        assert link.is_cut and link.blocked == 0
        streams[1].write(b"during")
        await others_pass(proxy)
        assert link.blocked == 6
        link.heal()
        assert not link.is_cut and (link.blocked, link.crossed_while_cut) == (6, 0)


async def test_a_cut_that_is_announced_but_not_applied_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked() as (link, streams, _):
        await round_trip(streams, b"before")
        monkeypatch.setattr(Link, "is_cut", False)
        link.cut()
        await round_trip(streams, b"during")
        assert (link.blocked, link.crossed_while_cut) == (0, 2 * len(b"during"))
        link.heal()
        assert link.crossed_while_cut == 2 * len(b"during")


async def test_a_delay_shows_the_bytes_that_it_made_late() -> None:
    async with linked() as (link, streams, _):
        await round_trip(streams, b"before")
        assert link.disturbed == 0
        link.extra_us += 2_000_000
        await round_trip(streams, b"late")
        assert link.disturbed == 8
        link.extra_us -= 2_000_000
        await round_trip(streams, b"after")
        assert (link.disturbed, link.extra_us) == (8, 0)


async def test_the_loss_of_a_fault_ends_and_that_of_the_profile_stays() -> None:
    async with linked(base_loss=0.2) as (link, streams, _):
        link.loss = max(link.loss, 0.6)
        assert link.loss == 0.6
        for _ in range(10):
            await round_trip(streams, b"spoilt")
        late = link.disturbed
        assert late > 0
        link.loss = link.base_loss
        for _ in range(50):
            await round_trip(streams, b"x")
        assert late < link.disturbed < late + 100  # of 50 bytes each way


async def test_a_silent_end_and_a_cut_are_two_reasons() -> None:
    async with linked() as (link, streams, _):
        await round_trip(streams, b"before")
        link.silence()
        link.cut()
        link.heal()
        assert link.is_cut
        link.unsilence()
        assert not link.is_cut
        await round_trip(streams, b"after")


async def test_healing_a_cut_leaves_the_other_faults() -> None:
    async with linked() as (link, streams, _):
        link.extra_us = 1_000_000
        link.cut()
        link.heal()
        await round_trip(streams, b"late")
        assert link.extra_us == 1_000_000 and link.disturbed == 8
