"""The fault proxy is a wire until someone cuts, slows or spoils it, and then exactly the wire asked for."""

import asyncio
import random
import socket

import pytest

from clawsim.live.link import Link
from clawsim.live.pipe import MOST_QUEUED_BYTES
from clawsim.live.proxy import MOST_CONNECTIONS, FaultProxy
from tests.live.wires import ADDRESS_OF, ADDRESSES, dial, echo_broker, others_pass, proxied, round_trip


async def test_bytes_cross_in_both_directions_and_are_counted() -> None:
    async with proxied() as (proxy, _):
        assert await round_trip(await dial(proxy), b"x" * 200_000) == b"x" * 200_000
        assert proxy.link("sensor-01").counters.passed_bytes == 400_000
        assert proxy.link("sensor-02").counters.passed_bytes == 0


async def test_the_end_of_a_stream_crosses_after_the_last_byte() -> None:
    async with proxied() as (proxy, broker):
        reader, writer = await dial(proxy)
        writer.write(b"last words")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b"last words"
        assert await asyncio.wait_for(broker.ended.get(), 5) == "closed"


async def test_a_cut_link_passes_nothing_while_others_go_on() -> None:
    async with proxied() as (proxy, broker):
        streams = await dial(proxy)
        await round_trip(streams, b"before")
        link = proxy.link("sensor-01")
        link.cut("outage")
        passed = link.counters.passed_bytes
        streams[1].write(b"into the void")
        _, from_broker = await broker.accepted.get()
        from_broker.write(b"and back")
        await others_pass(proxy)
        assert bytes(broker.heard).startswith(b"before") and b"void" not in broker.heard
        assert proxy.held("sensor-01") == (len(b"into the void") + len(b"and back"), 1)
        assert link.counters.passed_bytes == passed


async def test_a_stalled_connection_resumes_where_it_stopped() -> None:
    async with proxied() as (proxy, _):
        reader, writer = await dial(proxy)
        await round_trip((reader, writer), b"before")
        link = proxy.link("sensor-01")
        link.cut()
        writer.write(b"during")
        await others_pass(proxy)
        assert proxy.held("sensor-01") == (6, 1)
        link.clear()
        writer.write(b" after")
        assert await asyncio.wait_for(reader.readexactly(12), 5) == b"during after"
        assert link.counters.held_bytes == 6
        assert proxy.held("sensor-01") == (0, 0)


async def test_a_client_that_gave_up_during_the_cut_is_reset_at_the_broker_only_afterwards() -> None:
    async with proxied() as (proxy, broker):
        streams = await dial(proxy)
        await round_trip(streams, b"before")
        link = proxy.link("sensor-01")
        link.cut()
        streams[1].write(b"farewell")
        streams[1].close()
        await streams[1].wait_closed()
        await others_pass(proxy)
        await asyncio.wait_for(broker.ended.get(), 5)  # the other client's
        assert broker.ended.empty()
        link.clear()
        assert await asyncio.wait_for(broker.ended.get(), 5) == "reset"
        assert b"farewell" not in broker.heard


async def test_a_broker_that_hung_up_during_the_cut_is_learned_of_by_a_reset_afterwards() -> None:
    async with proxied() as (proxy, broker):
        reader, writer = await dial(proxy)
        await round_trip((reader, writer), b"before")
        link = proxy.link("sensor-01")
        link.cut()
        (await broker.accepted.get())[1].close()
        await others_pass(proxy)
        assert not reader.at_eof()
        link.clear()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 5)


async def test_a_connection_made_during_the_cut_stays_silent_and_proceeds_afterwards() -> None:
    async with proxied() as (proxy, broker):
        link = proxy.link("sensor-01")
        link.cut()
        reader, writer = await dial(proxy)
        writer.write(b"hello")
        await others_pass(proxy)
        assert b"hello" not in broker.heard
        assert proxy.held("sensor-01") == (5, 1)
        link.clear()
        assert await asyncio.wait_for(reader.readexactly(5), 5) == b"hello"


async def test_attempts_given_up_during_the_cut_never_reach_the_broker() -> None:
    async with proxied() as (proxy, broker):
        link = proxy.link("sensor-01")
        link.cut()
        for _ in range(3 * MOST_CONNECTIONS):
            _, writer = await dial(proxy)
            writer.write(b"anyone?")
            writer.close()
            await writer.wait_closed()
        await others_pass(proxy)
        link.clear()
        await others_pass(proxy)
        assert b"anyone?" not in broker.heard
        assert link.counters.held_bytes == 3 * MOST_CONNECTIONS * len(b"anyone?")


async def test_a_link_takes_a_bounded_number_of_connections() -> None:
    async with proxied() as (proxy, _):
        proxy.link("sensor-01").cut()
        kept = [await dial(proxy) for _ in range(MOST_CONNECTIONS)]
        reader, _ = await dial(proxy)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 5)
        assert proxy.held("sensor-01") == (0, len(kept))


async def test_a_sender_into_the_void_stalls_and_the_proxy_holds_a_bounded_amount() -> None:
    async with proxied() as (proxy, _):
        streams = await dial(proxy)
        await round_trip(streams, b"before")
        proxy.link("sensor-01").cut()
        raw = streams[1].get_extra_info("socket")
        sending = socket.socket(fileno=socket.dup(raw.fileno()))
        sending.setblocking(False)
        with pytest.raises(BlockingIOError):
            for _ in range(1_000):
                sending.send(b"x" * 65_536)
        await others_pass(proxy)
        assert 0 < proxy.held("sensor-01")[0] < 2 * MOST_QUEUED_BYTES
        sending.close()


async def test_a_slow_reader_slows_the_sender_down() -> None:
    async with proxied() as (proxy, broker):
        reader, writer = await dial(proxy)
        _, from_broker = await asyncio.wait_for(broker.accepted.get(), 5)
        from_broker.write(b"y" * 20_000_000)
        await others_pass(proxy)
        assert proxy.link("sensor-01").counters.passed_bytes < 10_000_000
        assert len(await asyncio.wait_for(reader.readexactly(20_000_000), 30)) == 20_000_000
        writer.close()


async def test_overlapping_cuts_end_with_the_last_of_them() -> None:
    async with proxied() as (proxy, _):
        reader, writer = await dial(proxy)
        await round_trip((reader, writer), b"before")
        link = proxy.link("sensor-01")
        link.cut("outage")
        link.cut("power")
        link.clear("outage")
        writer.write(b"x")
        await others_pass(proxy)
        assert link.is_cut and proxy.held("sensor-01")[0] == 1
        link.clear("power")
        assert await asyncio.wait_for(reader.readexactly(1), 5) == b"x"


async def test_bytes_under_way_when_the_cut_comes_do_not_arrive_during_it() -> None:
    async with proxied() as (proxy, broker):
        streams = await dial(proxy)
        await round_trip(streams, b"before")
        link = proxy.link("sensor-01")
        link.delay(20)
        streams[1].write(b"late")
        await others_pass(proxy)  # the chunk is in the proxy now, on its way
        link.cut("outage")
        await asyncio.sleep(0.05)
        assert b"late" not in broker.heard
        link.clear("outage")
        assert await asyncio.wait_for(streams[0].readexactly(4), 5) == b"late"


async def test_a_delay_is_core_time_each_way_and_keeps_the_order() -> None:
    async with proxied(timescale=30) as (proxy, _):
        reader, writer = await dial(proxy)
        await round_trip((reader, writer), b"before")
        proxy.link("sensor-01").delay(900)
        loop = asyncio.get_running_loop()
        started = loop.time()
        for i in range(10):
            writer.write(b"%d" % i)
            await asyncio.sleep(0)
        assert await asyncio.wait_for(reader.readexactly(10), 5) == b"0123456789"
        assert loop.time() - started >= 2 * 0.9 / 30
        assert proxy.link("sensor-01").counters.delayed_bytes == 20


async def test_the_links_own_latency_is_not_counted_as_a_fault() -> None:
    async with proxied(timescale=30, latency_ms=300) as (proxy, _):
        started = asyncio.get_running_loop().time()
        await round_trip(await dial(proxy), b"hello")
        assert asyncio.get_running_loop().time() - started >= 2 * 0.3 / 30
        assert proxy.link("sensor-01").counters.delayed_bytes == 0


async def test_loss_shows_as_lateness_in_order_and_repeats_with_its_seed() -> None:
    seen = []
    for _ in range(2):
        async with proxied(timescale=1000) as (proxy, _):
            streams = await dial(proxy)
            proxy.link("sensor-01").loss(0.5, random.Random(7))
            for i in range(20):
                assert await round_trip(streams, b"%02d" % i) == b"%02d" % i
            seen.append(proxy.link("sensor-01").counters.delayed_bytes)
    assert seen[0] == seen[1] > 5 * len(b"00")


def test_a_retransmission_waits_twice_as_long_as_the_one_before() -> None:
    class Unlucky(random.Random):
        def __init__(self, losses: int) -> None:
            super().__init__(0)
            self.left = losses

        def random(self) -> float:
            self.left -= 1
            return 0.0 if self.left >= 0 else 0.99

    for losses, late_ms in [(0, 0), (1, 200), (2, 600), (3, 1400)]:
        link = Link("sensor-01", "gateway-01")
        link.loss(0.5, Unlucky(losses))
        assert link.transit_s(100) == late_ms / 1000


def test_impossible_faults_are_refused() -> None:
    link = Link("sensor-01", "gateway-01")
    with pytest.raises(ValueError, match="past"):
        link.delay(-1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        link.loss(1.5, random.Random(0))


async def test_a_broker_that_is_not_there_is_a_refusal_not_a_hang() -> None:
    proxy = FaultProxy("gateway-01", ADDRESSES)
    await proxy.start()
    reader, _ = await dial(proxy)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), 5)
    await proxy.close()


async def test_a_broker_that_moved_is_found_at_the_same_port() -> None:
    async with proxied() as (proxy, _), echo_broker() as elsewhere:
        old = await dial(proxy)
        await round_trip(old, b"old")
        proxy.point_at("127.0.0.1", elsewhere.port)
        await round_trip(await dial(proxy), b"new")
        assert bytes(elsewhere.heard) == b"new"


async def test_strangers_are_turned_away() -> None:
    async with proxied() as (proxy, broker):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, local_addr=("127.99.0.1", 0))
        writer.write(b"let me in")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 5)
        assert proxy.strangers == 1 and not broker.heard


async def test_a_taken_port_is_an_error() -> None:
    async with proxied() as (proxy, _):
        with pytest.raises(OSError, match="in use"):
            await FaultProxy("hub", ADDRESSES).start(port=proxy.port)


async def test_closing_leaves_no_port_and_no_connection() -> None:
    async with proxied() as (proxy, _):
        reader, writer = await dial(proxy)
        await round_trip((reader, writer), b"hello")
        await proxy.close()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 5)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port, local_addr=(ADDRESS_OF["sensor-01"], 0))
