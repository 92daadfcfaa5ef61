"""Sessions of nodes with their gateway over one serial line: each message once and in order, under the node's key."""

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.wire.auth import Sealer
from firmware.wire.serial import MAX_LINE_BYTES, MAX_NUMBER, MAX_TRIES, MAX_WAITING, MOST_RETRY_MS, encode_line, fits
from firmware.wire.serial_session import NodeSession
from nanoclaw.core.serial_line import MAX_OUT_BYTES, SerialLine

NODES = ("sensor-01", "sensor-02")
KEYS = {node: node.encode().ljust(32, b"k") for node in NODES}
DEAD_MS = 2 * MAX_TRIES * MOST_RETRY_MS  # longer than any end goes on asking
TEMP, CMD = "clawland/sensor-01/temp", "clawland/sensor-01/cmd"

Spoil = Callable[[bytes], bytes]


def whole(data: bytes) -> bytes:
    return data


class Line:
    """A line between nodes and a gateway, and a clock. `spoil` is what happens to bytes on their way."""

    def __init__(self, *nodes: str, spoil: Spoil = whole) -> None:
        self.rng = random.Random(7)
        self.nodes: dict[str, NodeSession] = {}
        self.keys = dict(KEYS)
        self.now_ms = 0
        self.spoil = spoil
        self.at_nodes: dict[str, list[tuple[Any, ...]]] = {}
        self.at_gateway: list[tuple[Any, ...]] = []
        self.restart_gateway()
        for node in nodes or NODES[:1]:
            self.connect(node)

    @property
    def node(self) -> NodeSession:
        return self.nodes[NODES[0]]

    @property
    def at_node(self) -> list[tuple[Any, ...]]:
        return self.at_nodes[NODES[0]]

    def connect(self, node: str = NODES[0], key: bytes = b"") -> None:
        self.nodes[node] = NodeSession(node, key or KEYS[node], self.rng.getrandbits(30), self.now_ms)
        self.at_nodes.setdefault(node, [])

    def restart_gateway(self) -> None:
        sealers = {node: Sealer(key) for node, key in self.keys.items()}
        self.gateway = SerialLine(sealers.get, lambda: self.rng.getrandbits(30))

    def run(self, for_ms: int, step_ms: int = 10) -> "Line":
        end_ms = self.now_ms + for_ms
        while self.now_ms < end_ms:
            self.now_ms += step_ms
            down, up = self._take(self.gateway), b""
            for name, node in self.nodes.items():
                self.at_nodes[name] += node.on_timer(self.now_ms) + node.receive(down, self.now_ms)
                up += self._take(node)
            self.at_gateway += self.gateway.on_timer(self.now_ms) + self.gateway.receive(up, self.now_ms)
        return self

    def _take(self, end: Any) -> bytes:
        data = bytes(end.out)
        end.sent(len(data))
        return self.spoil(data) if data else b""

    def connected(self) -> "Line":
        self.run(100)
        assert all(node.up for node in self.nodes.values())
        self.at_gateway.clear()
        return self


def messages(events: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [event[1:] for event in events if event[0] == "message"]


def kinds(events: list[tuple[Any, ...]]) -> list[str]:
    return [event[0] for event in events]


def value(n: int) -> bytes:
    return b'{"value":%d}' % n


def test_a_node_that_says_hello_under_its_key_is_here() -> None:
    line = Line().run(100)
    assert line.at_gateway == [("up", "sensor-01")]
    assert line.at_node == [("up",)]
    assert line.gateway.nodes() == ["sensor-01"]


def test_messages_go_both_ways_in_order() -> None:
    line = Line().connected()
    for n in range(5):
        assert line.node.publish(TEMP, value(n), line.now_ms)
    assert line.gateway.send(CMD, b'{"id":"c1"}', line.now_ms)
    line.run(500)
    assert messages(line.at_gateway) == [(TEMP, value(n)) for n in range(5)]
    assert messages(line.at_node) == [(CMD, b'{"id":"c1"}')]


def test_two_nodes_share_a_line_and_each_hears_what_is_for_it() -> None:
    line = Line(*NODES).connected()
    for n, node in enumerate(NODES):
        line.nodes[node].publish(f"clawland/{node}/temp", value(n), line.now_ms)
        line.gateway.send(f"clawland/{node}/cmd", b'{"id":"%d"}' % n, line.now_ms)
    line.run(500)
    assert sorted(messages(line.at_gateway)) == [(f"clawland/{node}/temp", value(n)) for n, node in enumerate(NODES)]
    for n, node in enumerate(NODES):
        assert messages(line.at_nodes[node]) == [(f"clawland/{node}/cmd", b'{"id":"%d"}' % n)]


def test_on_a_bus_where_everyone_hears_everyone_an_echo_is_no_answer() -> None:
    line = Line().connected()
    line.node.publish(TEMP, value(1), line.now_ms)
    said = bytes(line.node.out)
    assert line.node.receive(said, line.now_ms) == []
    line.gateway.send(CMD, b'{"id":"c1"}', line.now_ms)
    assert line.gateway.receive(bytes(line.gateway.out), line.now_ms) == []
    line.run(500)
    assert messages(line.at_gateway) == [(TEMP, value(1))]
    assert messages(line.at_node) == [(CMD, b'{"id":"c1"}')]


def test_the_longest_message_fills_a_line_to_the_last_byte_but_its_number() -> None:
    longest = max(size for size in range(512) if fits("sensor-01", "temp", b"{%s}" % (b" " * size)))
    message = b"{%s}" % (b" " * longest)
    line = Line().connected()
    assert line.node.publish(TEMP, message[:1] + message, line.now_ms) is None
    assert line.node.publish(TEMP, message, line.now_ms)
    assert MAX_LINE_BYTES - 10 <= len(line.node.out) <= MAX_LINE_BYTES
    line.run(100)
    assert messages(line.at_gateway) == [(TEMP, message)]


def test_what_waits_is_bounded_at_both_ends() -> None:
    line = Line().connected()
    taken = [line.node.publish(TEMP, b"{}", line.now_ms) is not None for _ in range(20)]
    assert taken == [True] * MAX_WAITING + [False] * (20 - MAX_WAITING)
    taken = [line.gateway.send(CMD, b"{}", line.now_ms) for _ in range(20)]
    assert taken == [True] * MAX_WAITING + [False] * (20 - MAX_WAITING)
    for _ in range(100):
        line.node.on_timer(line.node.next_deadline() or 0)
        line.gateway.on_timer(line.gateway.next_deadline() or 0)
    assert len(line.node.out) < 2 * MAX_LINE_BYTES
    assert len(line.gateway.out) < MAX_OUT_BYTES + 5 * MAX_LINE_BYTES


def test_a_node_speaks_under_its_own_topics_only() -> None:
    line = Line(*NODES).connected()
    assert line.node.publish("clawland/sensor-02/temp", value(1), line.now_ms) is None
    assert line.node.publish("elsewhere", value(1), line.now_ms) is None
    assert not line.gateway.send("clawland/sensor-03/cmd", b"{}", line.now_ms)


def test_each_time_it_is_said_again_later_and_not_by_two_nodes_at_once() -> None:
    waits: list[list[int]] = []
    for node in NODES:
        line = Line(node).connected()
        line.nodes[node].publish(f"clawland/{node}/temp", value(1), 0)
        due_ms = [0]
        while line.nodes[node].up:
            due_ms.append(line.nodes[node].next_deadline() or 0)
            line.nodes[node].on_timer(due_ms[-1])
        waits.append([later - sooner for sooner, later in pairwise(due_ms)])
    assert all(1000 <= wait[0] < wait[1] < wait[2] and max(wait) <= 1.5 * MOST_RETRY_MS for wait in waits)
    assert all(one != other for one, other in zip(*waits, strict=True))


@pytest.mark.timeout(900)  # with the long counts
@given(st.integers(0, 2**32), st.integers(0, 40))
def test_a_bad_line_delivers_each_message_once_and_in_order(seed: int, percent: int) -> None:
    """Lines are lost, cut, spoilt, doubled, or follow noise; an end goes down only when the line is as good as dead,
    and says so."""
    rng = random.Random(seed)

    def spoil(data: bytes) -> bytes:
        if rng.randrange(100) >= percent:
            return data
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        cut = rng.randrange(len(data))
        return rng.choice([b"", data[:cut], data[cut:], bytes(flipped), rng.randbytes(20) + data, data + data])

    line = Line().connected()
    line.spoil = spoil
    up, down = [], []
    for n in range(30):
        if line.node.publish(TEMP, value(n), line.now_ms):
            up.append((TEMP, value(n)))
        if line.gateway.send(CMD, value(n), line.now_ms):
            down.append((CMD, value(n)))
        line.run(300)
    line.spoil = whole
    line.run(DEAD_MS, step_ms=100)
    for sent, arrived, told in ((up, line.at_gateway, line.at_node), (down, line.at_node, line.at_gateway)):
        if "down" not in kinds(told) and "down" not in kinds(arrived):
            assert messages(arrived) == sent
        assert len(set(messages(arrived))) == len(messages(arrived)), "none twice"
        assert [message for message in sent if message in messages(arrived)] == messages(arrived), "in order"
    assert "rejected" not in kinds(line.at_gateway + line.at_node), "noise is not an attack"


def test_a_dead_line_is_down_at_both_ends_and_comes_back_with_a_new_session() -> None:
    line = Line().connected()
    line.spoil = lambda data: b""
    line.node.publish(TEMP, value(1), line.now_ms)
    line.gateway.send(CMD, b"{}", line.now_ms)
    line.run(DEAD_MS)
    assert line.at_node[-1] == ("down", f"no answer to {MAX_TRIES} tries")
    assert line.at_gateway[-1] == ("down", "sensor-01", f"no answer to {MAX_TRIES} tries")
    assert line.gateway.nodes() == []
    assert line.node.publish(TEMP, value(2), line.now_ms) is None
    line.spoil = whole
    line.connect()
    line.run(100)
    line.node.publish(TEMP, value(3), line.now_ms)
    line.run(100)
    assert messages(line.at_gateway) == [(TEMP, value(3))]


def test_a_hello_that_nobody_answers_is_told_and_one_that_is_lost_is_said_again() -> None:
    line = Line(spoil=lambda data: b"")
    line.run(DEAD_MS)
    assert line.at_node == [("down", f"no answer to {MAX_TRIES} tries")]
    line.connect()
    line.run(100)
    line.spoil = whole
    line.run(MOST_RETRY_MS)
    assert line.at_node[-1] == ("up",)


def test_an_answer_that_was_lost_makes_no_message_arrive_twice() -> None:
    line = Line().connected()
    line.gateway.send(CMD, b"{}", line.now_ms)
    line.run(10)
    line.node.sent(len(line.node.out))  # its answer is lost
    line.run(3 * MOST_RETRY_MS)
    assert messages(line.at_node) == [(CMD, b"{}")]
    assert line.gateway.next_deadline() is None


def test_a_gateway_that_restarts_asks_who_is_there_and_is_told_at_once() -> None:
    line = Line().connected()
    line.restart_gateway()
    line.run(100)
    assert line.at_node[-1] == ("down", "the gateway has restarted")


def test_a_gateway_whose_question_was_lost_asks_at_the_next_message() -> None:
    line = Line().connected()
    line.restart_gateway()
    line.gateway.sent(len(line.gateway.out))
    line.run(DEAD_MS)
    assert line.node.up
    line.node.publish(TEMP, value(1), line.now_ms)
    line.run(100)
    assert line.at_node[-1] == ("down", "the gateway has restarted")
    assert line.at_gateway == []


def test_a_node_that_restarts_begins_anew_and_is_not_mistaken_for_its_former_self() -> None:
    line = Line().connected()
    line.node.publish(TEMP, value(1), line.now_ms)
    line.gateway.send(CMD, b'{"id":"before"}', line.now_ms)
    line.gateway.sent(len(line.gateway.out))
    line.connect()
    line.run(100)
    assert ("down", "sensor-01", "the node began anew") in line.at_gateway
    line.node.publish(TEMP, value(2), line.now_ms)
    line.gateway.send(CMD, b'{"id":"after"}', line.now_ms)
    line.run(100)
    assert messages(line.at_gateway) == [(TEMP, value(2))]
    assert messages(line.at_node) == [(CMD, b'{"id":"after"}')]


def test_a_node_with_a_strange_key_or_id_is_rejected_each_time_and_never_here() -> None:
    line = Line()
    line.connect(key=b"x" * 32)
    line.run(100)
    assert set(line.at_gateway) == {("rejected", "clawland/sensor-01/hello", "not authentic")}
    KEYS["sensor-09"] = b"y" * 32
    line.connect("sensor-09")
    del KEYS["sensor-09"]
    line.run(100)
    assert line.at_gateway[-1] == ("rejected", "clawland/sensor-09/hello", "unknown node")
    assert line.gateway.nodes() == []


def test_no_node_speaks_for_another_on_the_same_line() -> None:
    line = Line(*NODES).connected()
    forged = Sealer(KEYS["sensor-02"]).seal("serial/sensor-01/0/0/1/temp", value(99))
    line.gateway.receive(encode_line("sensor-01/temp.1", value(99)) or b"", line.now_ms)
    events = line.gateway.receive(encode_line("sensor-01/temp.1", forged) or b"", line.now_ms)
    assert events == [("rejected", TEMP, "not authentic")]


def test_what_was_recorded_from_the_line_cannot_be_said_again() -> None:
    line = Line()
    recorded: list[bytes] = []
    line.spoil = lambda data: recorded.append(data) or data  # type: ignore[func-returns-value]
    line.connected()
    line.node.publish(TEMP, value(1), line.now_ms)
    line.run(100)
    line.spoil = whole
    line.connect()
    line.run(100)
    line.at_gateway.clear()
    for data in recorded:
        line.at_gateway += line.gateway.receive(data, line.now_ms)
    assert messages(line.at_gateway) == []
    line.connect()
    line.run(100)
    line.node.publish(TEMP, value(2), line.now_ms)
    line.run(100)
    assert messages(line.at_gateway) == [(TEMP, value(2))]


def test_a_gateway_under_another_key_is_not_believed() -> None:
    line = Line()
    hi = Sealer(b"x" * 32).seal("serial/sensor-01/hi", b'{"v":1,"s":1,"r":1}')
    assert line.node.receive(encode_line("sensor-01:hi", hi) or b"", 0) == [("rejected", "hi: not authentic")]
    assert not line.node.up


def test_a_node_that_left_the_roster_is_heard_no_more() -> None:
    line = Line().connected()
    sealers = {node: Sealer(key) for node, key in KEYS.items()}
    line.gateway._sealer_of = sealers.get
    del sealers["sensor-01"]
    line.node.publish(TEMP, value(1), line.now_ms)
    line.run(100)
    assert line.at_gateway == [("rejected", TEMP, "unknown node")]
    assert line.gateway.nodes() == []


def test_another_version_of_the_protocol_is_told_and_not_spoken() -> None:
    line = Line()
    sealer = Sealer(KEYS["sensor-01"])
    line.gateway.sent(len(line.gateway.out))
    hello = sealer.seal("serial/sensor-01/hello", b'{"v":2,"s":77}')
    events = line.gateway.receive(encode_line("sensor-01/hello", hello) or b"", 0)
    assert events == [("rejected", "clawland/sensor-01/hello", "it speaks version 2 of the line's protocol")]
    assert line.gateway.out == b""
    line.node._session = 77
    hi = sealer.seal("serial/sensor-01/hi", b'{"v":2,"s":1,"r":77}')
    events = line.node.receive(encode_line("sensor-01:hi", hi) or b"", 0)
    assert events == [("rejected", "hi: it speaks version 2 of the line's protocol")]


def test_when_all_numbers_are_used_up_the_node_begins_anew() -> None:
    line = Line().connected()
    line.node._number = line.gateway._ends["sensor-01"]._expected = MAX_NUMBER
    line.node.publish(TEMP, value(1), line.now_ms)
    line.run(100)
    assert messages(line.at_gateway) == [(TEMP, value(1))]
    assert line.at_node[-1] == ("down", "its numbers are used up")


words = st.sampled_from(["hello", "hi", "ok", "who", "temp.1", "temp.0", "t.x", "t.", "x", "cmd.99999999999"])
marks = st.sampled_from(["sensor-01/", "sensor-01:", ":", "/", "", "sensor-09/", "é:"])
bodies = st.one_of(
    st.binary(max_size=60).map(lambda data: data.replace(b"\n", b" ")),
    st.sampled_from([b"{}", b"[]", b'{"n":1,"s":0}', b'{"v":1,"s":1}', b'{"n":{}}', b"[" * 200]),
)


@given(st.lists(st.tuples(marks, words, bodies), max_size=8), st.binary(max_size=300))
def test_no_line_can_break_an_end(sent: list[tuple[str, str, bytes]], noise: bytes) -> None:
    line = Line().connected()
    for mark, word, body in sent:
        data = encode_line(mark + word, body) or b""
        line.node.receive(data, line.now_ms)
        line.gateway.receive(data + noise, line.now_ms)
    assert len(line.node.out) < 5 * MAX_LINE_BYTES
    assert len(line.gateway.out) < MAX_OUT_BYTES + 5 * MAX_LINE_BYTES


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_million_spoilt_frames_do_no_more_than_be_counted() -> None:
    fuzz(1_000_000)


def test_thousands_of_spoilt_frames_do_no_more_than_be_counted() -> None:
    fuzz(3_000)


def fuzz(frames: int) -> None:
    rng = random.Random(11)
    line = Line(*NODES).connected()
    said = [
        encode_line("sensor-01/temp.1", value(1)),
        encode_line("sensor-02/hello", b'{"v":1,"s":1}'),
        encode_line("sensor-01/ok", b'{"n":1,"s":1}'),
        encode_line("sensor-09/hello", b"{}"),
        rng.randbytes(700),
    ]
    arrived = 0
    for _ in range(frames):
        data = bytearray(rng.choice(said) or b"")
        for _ in range(rng.randrange(3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        arrived += len(messages(line.gateway.receive(bytes(data), line.now_ms)))
        line.gateway.sent(len(line.gateway.out))
    assert arrived == 0
    assert len(line.gateway._ends) == 2
    line.at_gateway += line.gateway.receive(b"\n", line.now_ms)
    line.node.publish(TEMP, value(1), line.now_ms)
    line.run(100)
    assert messages(line.at_gateway) == [(TEMP, value(1))]
