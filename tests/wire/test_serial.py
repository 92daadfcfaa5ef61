"""Messages cross a serial line whole, in order and once, whatever the line does to bytes, or the line is down."""

import binascii
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.wire.serial import (
    MAX_LINE_BYTES,
    MAX_TRIES,
    MAX_WAITING,
    RETRY_MS,
    Endpoint,
    Lines,
    crc16,
    decode_line,
    encode_line,
)

bodies = st.binary(max_size=100).map(lambda data: data.replace(b"\n", b" "))
kinds = st.text("abcdefgh.0123456789", min_size=1, max_size=20)


class Line:
    """A line between a node and a gateway, and a clock. `spoil` is what happens to bytes on their way."""

    def __init__(self, spoil: Any = None) -> None:
        self.node = Endpoint("sensor-01", 77, opens=True)
        self.gateway = Endpoint("gateway-01", 88, opens=False)
        self.now_ms = 0
        self.spoil = spoil or (lambda data: data)
        self.at_node: list[tuple[Any, ...]] = []
        self.at_gateway: list[tuple[Any, ...]] = []

    def run(self, for_ms: int) -> None:
        end_ms = self.now_ms + for_ms
        while self.now_ms < end_ms:
            self.now_ms += 10
            self.at_node += self.node.on_timer(self.now_ms) + self.node.receive(self._take(self.gateway), self.now_ms)
            self.at_gateway += self.gateway.on_timer(self.now_ms)
            self.at_gateway += self.gateway.receive(self._take(self.node), self.now_ms)

    def _take(self, end: Endpoint) -> bytes:
        data = bytes(end.out)
        end.sent(len(data))
        return bytes(self.spoil(data)) if data else b""

    def connected(self) -> "Line":
        self.node.connect(self.now_ms)
        self.run(100)
        assert self.node.up
        assert self.gateway.up
        return self

    def restart_gateway(self) -> None:
        self.gateway = Endpoint("gateway-01", 89, opens=False)


def messages(events: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [event[1:] for event in events if event[0] == "message"]


@given(st.binary(max_size=600))
def test_the_check_is_the_usual_one(data: bytes) -> None:
    assert crc16(data) == binascii.crc_hqx(data, 0xFFFF)


def test_the_check_of_the_usual_nine_digits_is_the_published_one() -> None:
    assert crc16(b"123456789") == 0x29B1


@given(kinds, bodies)
def test_a_line_comes_back(kind: str, body: bytes) -> None:
    line = encode_line(kind, body)
    assert line is not None
    assert decode_line(line[:-1]) == (kind, body)


@given(kinds, bodies, st.data())
def test_a_spoilt_bit_is_noticed(kind: str, body: bytes, data: st.DataObject) -> None:
    line = bytearray(encode_line(kind, body) or b"")[:-1]
    at = data.draw(st.integers(0, len(line) * 8 - 1))
    line[at // 8] ^= 1 << at % 8
    assert decode_line(bytes(line)) is None


def test_what_fits_no_line_is_refused() -> None:
    assert encode_line("temp.1", b"x" * MAX_LINE_BYTES) is None
    assert encode_line("temp.1", b"a\nb") is None
    line = Line().connected()
    assert not line.node.send("temp", b"x" * MAX_LINE_BYTES, 0)


@given(st.lists(st.tuples(kinds, bodies), max_size=6), st.binary(max_size=1500), st.data())
def test_after_any_noise_the_next_line_is_read_however_the_bytes_are_cut(
    sent: list[tuple[str, bytes]], noise: bytes, data: st.DataObject
) -> None:
    lines = Lines()
    stream = noise + b"\n" + b"".join(encode_line(kind, body) or b"" for kind, body in sent)
    found = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += lines.feed(stream[:size])
        assert len(lines._rest) <= MAX_LINE_BYTES
        stream = stream[size:]
    assert found == sent


def test_the_node_opens_and_the_hello_carries_version_and_identity() -> None:
    line = Line().connected()
    assert line.at_gateway == [("up", {"v": 1, "id": "sensor-01", "s": 77, "n": 1})]
    assert [event[0] for event in line.at_node] == ["up"]


def test_messages_go_both_ways_in_order() -> None:
    line = Line().connected()
    for n in range(5):
        assert line.node.send("temp", b'{"value":%d}' % n, line.now_ms)
    assert line.gateway.send("received", b'{"upto":4}', line.now_ms)
    line.run(500)
    assert messages(line.at_gateway) == [("temp", b'{"value":%d}' % n) for n in range(5)]
    assert messages(line.at_node) == [("received", b'{"upto":4}')]


def test_what_waits_is_bounded() -> None:
    line = Line().connected()
    taken = [line.node.send("temp", b"{}", 0) for _ in range(20)]
    assert taken == [True] * MAX_WAITING + [False] * (20 - MAX_WAITING)
    for _ in range(100):
        line.node.on_timer(line.node.next_deadline() or 0)
    assert len(line.node.out) < 2 * MAX_LINE_BYTES


@given(st.integers(0, 2**32), st.integers(0, 40))
def test_a_bad_line_delivers_each_message_once_and_in_order(seed: int, percent: int) -> None:
    """Lines are lost, cut, spoilt, or followed by noise; the line goes down only when it is as good as dead."""
    rng = random.Random(seed)

    def spoil(data: bytes) -> bytes:
        if rng.randrange(100) >= percent:
            return data
        return rng.choice([b"", data[: rng.randrange(len(data))], data[1:], rng.randbytes(20) + data, data + data])

    line = Line().connected()
    line.spoil = spoil
    sent: list[tuple[str, bytes]] = []
    for n in range(30):
        if line.node.send("temp", b'{"value":%d}' % n, line.now_ms):
            sent.append(("temp", b'{"value":%d}' % n))
        line.run(300)
    line.spoil = lambda data: data
    line.run(3 * RETRY_MS * MAX_WAITING)
    arrived = messages(line.at_gateway)
    if not [event for event in line.at_node if event[0] == "down"]:
        assert arrived == sent
    assert arrived == sorted(set(arrived), key=arrived.index), "none twice"
    assert [message for message in sent if message in arrived] == arrived, "in order"


def test_a_dead_line_is_down_and_comes_back_with_messages_whose_number_was_never_used() -> None:
    line = Line().connected()
    line.spoil = lambda data: b""
    line.node.send("temp", b"1", line.now_ms)
    line.run(RETRY_MS * (MAX_TRIES + 1))
    assert line.at_node[-1] == ("down", f"no answer to {MAX_TRIES} tries")
    assert not line.node.send("temp", b"2", line.now_ms)
    line.spoil = lambda data: data
    line.connected()
    line.node.send("temp", b"3", line.now_ms)
    line.run(100)
    assert messages(line.at_gateway) == [("temp", b"3")]


def test_an_answer_that_was_lost_makes_no_message_arrive_twice_even_over_a_reconnect() -> None:
    line = Line().connected()
    line.gateway.send("cmd", b"{}", line.now_ms)
    line.run(10)
    line.node.sent(len(line.node.out))  # its answer is lost
    line.node.disconnect()
    line.connected()
    line.run(3 * RETRY_MS)
    assert messages(line.at_node) == [("cmd", b"{}")]


def test_a_gateway_that_restarts_is_noticed_at_the_next_message() -> None:
    line = Line().connected()
    line.node.send("temp", b"1", line.now_ms)
    line.run(100)
    line.restart_gateway()
    line.node.send("temp", b"2", line.now_ms)
    line.run(100)
    assert line.at_node[-1] == ("down", "the gateway has restarted")
    line.connected()
    line.node.send("temp", b"3", line.now_ms)
    line.run(100)
    assert messages(line.at_gateway) == [("temp", b"1"), ("temp", b"3")]


def test_a_node_that_restarts_is_a_new_session() -> None:
    line = Line().connected()
    line.node.send("temp", b"1", line.now_ms)
    line.run(100)
    line.node = Endpoint("sensor-01", 78, opens=True)
    line.connected()
    line.node.send("temp", b"2", line.now_ms)
    line.run(100)
    assert [event[:2] for event in line.at_gateway if event[0] == "down"] == [("down", "the node has restarted")]
    assert messages(line.at_gateway) == [("temp", b"1"), ("temp", b"2")]


def test_another_version_of_the_protocol_is_told_and_not_spoken() -> None:
    line = Line()
    hello = encode_line("hello", b'{"v":2,"id":"sensor-01","s":77,"n":1}') or b""
    assert line.gateway.receive(hello, 0) == [("rejected", "it speaks version 2 of the line's protocol")]
    assert not line.gateway.up
    assert line.gateway.out == b""


@pytest.mark.parametrize("opens", [True, False])
@given(st.lists(st.tuples(st.sampled_from(["hello", "hi", "ok", "who", "t.1", "t.x", "t.", "x"]), bodies), max_size=8))
def test_no_line_can_break_an_end(opens: bool, sent: list[tuple[str, bytes]]) -> None:
    end = Endpoint("a", 1, opens)
    end.connect(0)
    for kind, body in sent:
        end.receive(encode_line(kind, body) or b"", 0)
    assert len(end.out) < 5 * MAX_LINE_BYTES
