"""The pump performs what a core asks for, in its order, whatever is slow, late or broken."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from firmware.hosting.pump import CONGESTED_OUTPUTS, HostError, Pump
from firmware.wire.outputs import Event, Sample, Send, Store
from tests.hosting.virtual import LoopClock, run


class EchoCore:
    """Answers every message with a store, a trace line and a send; asks to be woken at `deadline_ms`."""

    def __init__(self) -> None:
        self.deadline_ms: int | None = None
        self.woken_ms: list[int] = []
        self.answers: list[Any] = []
        self.outputs: list[Any] = []

    def receive(self, port: str, topic: str, payload: bytes, now_ms: int) -> None:
        if payload == b"bug":
            raise ZeroDivisionError("a planted bug")
        self.outputs += [
            Store(len(self.answers), [payload]),
            Event("echo", {"n": payload.decode()}),
            Send(port, topic, payload),
        ]

    def stored(self, token: int, now_ms: int) -> None:
        self.answers.append((token, now_ms))

    def sampled(self, index: int, value: int, now_ms: int) -> None:
        self.outputs.append(Send("up", "sampled", b"%d" % value))

    def link_up(self, port: str, now_ms: int) -> None: ...
    def link_down(self, port: str, now_ms: int) -> None: ...

    def on_timer(self, now_ms: int) -> None:
        self.woken_ms.append(now_ms)
        self.deadline_ms = now_ms + 1000 if len(self.woken_ms) < 100 else None

    def next_deadline(self) -> int | None:
        return self.deadline_ms

    def take_outputs(self) -> list[Any]:
        outputs, self.outputs = self.outputs, []
        return outputs


class Bench:
    """A pump around an `EchoCore` whose stores take `store_s`; `done` lists what was performed, in order."""

    def __init__(self, store_s: float = 0.0, timescale: float = 1.0) -> None:
        self.core = EchoCore()
        self.done: list[str] = []
        self.store_s = store_s
        clock = LoopClock(timescale)
        handlers = {Send: self._send, Store: self._store, Sample: self._sample}
        self.pump = Pump(self.core, clock, handlers, self)

    def write(self, kind: str, fields: Mapping[str, Any], now_ms: int) -> None:
        self.done.append(f"{kind} {fields.get('n', fields)} at {now_ms}")

    def _send(self, output: Any) -> None:
        self.done.append(f"send {output.payload.decode()}")

    def _sample(self, output: Any) -> None:
        self.pump.feed(self.core.sampled, output.index, 7)

    async def _store(self, output: Any) -> None:
        await asyncio.sleep(self.store_s)
        if output.writes == [b"full"]:
            raise OSError("disk full")
        self.done.append(f"store {output.writes[0].decode()}")
        self.pump.feed(self.core.stored, output.token)


def test_outputs_keep_their_order_behind_a_slow_store() -> None:
    async def body() -> None:
        bench = Bench(store_s=5)
        for n in (b"1", b"2", b"3"):
            bench.pump.receive("up", "t", n)
        assert bench.done == []
        await bench.pump.drained()
        assert bench.done == [x for n in (1, 2, 3) for x in (f"store {n}", f"echo {n} at 0", f"send {n}")]

    run(body())


def test_inputs_reach_the_core_while_a_store_is_slow_and_its_timer_still_fires() -> None:
    async def body() -> None:
        bench = Bench(store_s=5)
        bench.core.deadline_ms = 1000
        bench.pump.start()
        bench.pump.receive("up", "t", b"1")
        await asyncio.sleep(3.5)
        assert bench.core.woken_ms == [1000, 2000, 3000]
        assert bench.done == []
        await bench.pump.close()

    run(body())


def test_an_output_performed_at_once_may_feed_the_core_and_what_follows_queues_behind() -> None:
    async def body() -> None:
        bench = Bench()
        bench.core.outputs = [Sample(0), Send("up", "t", b"first")]
        bench.pump.start()
        assert bench.done == ["send first", "send 7"]

    run(body())


def test_the_timer_follows_a_scaled_clock() -> None:
    async def body() -> None:
        bench = Bench(timescale=30)
        bench.core.deadline_ms = 60_000
        bench.pump.start()
        await asyncio.sleep(1.99)
        assert bench.core.woken_ms == []
        await asyncio.sleep(0.02)
        assert bench.core.woken_ms == [60_000]

    run(body())


def test_an_input_that_brings_the_deadline_forward_rearms_the_timer() -> None:
    async def body() -> None:
        bench = Bench()
        bench.core.deadline_ms = 60_000
        bench.pump.start()
        bench.core.deadline_ms = 2000
        bench.pump.link_up("up")
        await asyncio.sleep(2.1)
        assert bench.core.woken_ms == [2000]

    run(body())


def test_timer_lateness_is_reported_every_thirty_seconds_of_core_time() -> None:
    async def body() -> None:
        bench = Bench()
        bench.core.deadline_ms = 1000
        bench.pump.start()
        await asyncio.sleep(65.5)
        lag = [line for line in bench.done if line.startswith("host.lag")]
        assert lag == [f"host.lag {{'worst_ms': 0, 'timers': 30}} at {at}" for at in (30_000, 60_000)]
        await bench.pump.close()

    run(body())


@pytest.mark.parametrize("payload", [b"bug", b"full"])
def test_a_core_or_handler_that_raises_stops_the_host_with_one_line(
    payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        bench = Bench()
        bench.pump.receive("up", "t", payload)
        with pytest.raises(HostError):
            await bench.pump.failed()
        done = list(bench.done)
        bench.pump.receive("up", "t", b"later")
        assert bench.done == done
        await bench.pump.close()

    with caplog.at_level(logging.INFO):
        run(body())
    assert len(caplog.records) == 1
    assert "test_pump.py:" in caplog.records[0].message


def test_an_unknown_output_is_a_host_error() -> None:
    async def body() -> None:
        bench = Bench()
        bench.core.outputs = ["not an output"]
        bench.pump.start()
        with pytest.raises(HostError, match="performing str"):
            await bench.pump.failed()

    run(body())


def test_what_a_request_raises_is_the_callers_and_the_host_goes_on() -> None:
    async def body() -> None:
        bench = Bench()

        def refuse(now_ms: int) -> None:
            bench.core.outputs.append(Send("up", "t", b"refused"))
            raise ValueError("no such node")

        with pytest.raises(ValueError, match="no such node"):
            bench.pump.ask(refuse)
        assert bench.pump.ask(lambda now_ms: now_ms + 1) == 1
        assert bench.done == ["send refused"]

    run(body())


def test_a_pile_of_outputs_behind_a_store_is_congestion() -> None:
    async def body() -> None:
        bench = Bench(store_s=1)
        while not bench.pump.congested():
            bench.pump.receive("up", "t", b"1")
        assert len(bench.done) == 0
        await bench.pump.close()
        assert CONGESTED_OUTPUTS == 10_000

    run(body())


def test_closing_lets_a_begun_store_finish_and_performs_nothing_more() -> None:
    async def body() -> None:
        bench = Bench(store_s=5)
        bench.pump.receive("up", "t", b"1")
        await asyncio.sleep(1)
        await bench.pump.close()
        assert bench.done == ["store 1"]

    run(body())


def test_a_pump_lives_while_its_timer_is_not_overdue_and_it_takes_inputs() -> None:
    async def main() -> None:
        bench = Bench()
        bench.core.deadline_ms = 1000
        assert bench.pump.alive(late_ms=500), "the deadline is ahead"
        await asyncio.sleep(1.4)  # the pump was never started, so nobody serves the timer
        assert bench.pump.alive(late_ms=500)
        await asyncio.sleep(0.2)
        assert not bench.pump.alive(late_ms=500)
        bench.core.deadline_ms = None
        assert bench.pump.alive(late_ms=500), "a core without a deadline waits for its inputs"
        bench.pump.stop()
        assert not bench.pump.alive(late_ms=500)

    run(main())
