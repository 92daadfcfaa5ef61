"""Messages between node and gateway: what is written is read again, and what is not ours is refused without a raise."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.wire import messages as m
from firmware.wire.auth import Sealer
from tests.wire.strategies import (
    BOOTS,
    IDS,
    KEYS,
    METRICS,
    NAMES,
    SEQS,
    SHORT_NAMES,
    SPANS_MS,
    VALUES,
    garbage,
)

DECODERS: dict[str, tuple[Callable[[bytes], Any], tuple[str, ...]]] = {
    "reading": (m.decode_reading, ("value", "unit", "boot", "seq", "age_ms", "up_ms")),
    "heartbeat": (
        m.decode_heartbeat,
        ("fleet", "boot", "n", "attach", "interval_ms", "uptime_ms", "next_seq", "dropped", "backlog", "version"),
    ),
    "beacon": (m.decode_beacon, ("fleet", "boot", "n", "attach")),
    "ack": (m.decode_ack, ("id", "status", "reason")),
    "received": (m.decode_received, ("boot", "n", "from", "upto", "missing")),
    "command": (m.decode_command, ("action", "id", "ttl_ms", "by")),
}


@given(VALUES, NAMES, BOOTS, SEQS, st.sampled_from(["age_ms", "up_ms"]), SPANS_MS)
def test_a_reading_is_read_as_it_was_written(value: Any, unit: str, boot: int, seq: int, clock: str, ms: int) -> None:
    payload = m.encode_reading(json.dumps(value), json.dumps(unit), boot, seq, clock, ms)
    if len(payload) > m.MAX_NODE_MESSAGE_BYTES:
        assert m.decode_reading(payload) is None
        return
    assert m.decode_reading(payload) == {"value": value, "unit": unit, "boot": boot, "seq": seq, clock: ms}


@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_a_fixed_point_value_says_exactly_the_measured_decimal(value: int, exp: int) -> None:
    text = m.fixed_point(value, exp)
    assert Decimal(text) == Decimal(value).scaleb(-exp)
    assert json.loads(text, parse_float=Decimal) == Decimal(value).scaleb(-exp)


@given(SHORT_NAMES, BOOTS, SEQS, SEQS, st.integers(1000, m.MAX_MS), SPANS_MS, SEQS, SEQS, SEQS, st.none() | SEQS)
def test_a_heartbeat_is_read_as_it_was_written(
    version: str,
    boot: int,
    n: int,
    attach: int,
    interval_ms: int,
    uptime_ms: int,
    next_seq: int,
    dropped: int,
    backlog: int,
    free_memory_kb: int | None,
) -> None:
    health = m.encode_health(free_memory_kb, 3300)
    version = version.replace('"', "").replace("\\", "")
    found = m.decode_heartbeat(
        m.encode_heartbeat(
            "clawland", boot, n, attach, interval_ms, uptime_ms, next_seq, dropped, backlog, version, health
        )
    )
    wanted = {
        "fleet": "clawland",
        "boot": boot,
        "n": n,
        "attach": attach,
        "interval_ms": interval_ms,
        "version": version,
    }
    wanted |= {"uptime_ms": uptime_ms, "next_seq": next_seq, "dropped": dropped, "backlog": backlog, "battery_mv": 3300}
    assert found == wanted | ({} if free_memory_kb is None else {"free_memory_kb": free_memory_kb})


def test_a_heartbeat_faster_than_one_a_second_is_refused() -> None:
    payload = m.encode_heartbeat("clawland", 1, 1, 1, 999, 0, 0, 0, 0, "", "")
    assert m.decode_heartbeat(payload) is None


@given(IDS, BOOTS, SEQS, SEQS)
def test_a_beacon_is_read_as_it_was_written(fleet: str, boot: int, n: int, attach: int) -> None:
    found = m.decode_beacon(m.encode_beacon(fleet, boot, n, attach))
    assert found == {"fleet": fleet, "boot": boot, "n": n, "attach": attach}


@given(NAMES, st.sampled_from(["done", "restarted", "failed"]), SHORT_NAMES | st.just(""))
def test_an_answer_is_read_as_it_was_written(command_id: str, status: str, reason: str) -> None:
    payload = m.encode_ack(command_id, status, reason)
    wanted = {"id": command_id, "status": status} | ({"reason": reason} if reason else {})
    assert m.decode_ack(payload) == (wanted if len(payload) <= m.MAX_NODE_MESSAGE_BYTES else None)


@given(BOOTS, SEQS, SEQS, st.lists(SEQS, max_size=m.MAX_MISSING), SEQS)
def test_a_received_is_read_as_it_was_written(boot: int, first: int, upto: int, missing: list[int], n: int) -> None:
    first, upto = sorted((first, upto))
    found = m.decode_received(m.encode_received(boot, (first, upto), missing, n))
    assert found == {"boot": boot, "from": first, "upto": upto, "missing": missing, "n": n}
    assert m.decode_received(m.encode_received(boot, None, [], n)) == {"boot": boot, "n": n}


def test_the_longest_received_still_fits_a_node_when_sealed() -> None:
    body = m.encode_received(m.MAX_BOOT, (m.MAX_SEQ, m.MAX_SEQ), [m.MAX_SEQ] * m.MAX_MISSING, m.MAX_SEQ)
    assert len(Sealer(bytes(32)).seal("clawland/" + "n" * 32 + "/received", body)) <= m.MAX_NODE_MESSAGE_BYTES


@given(
    st.sampled_from(["alert", "restart", "identify"]),
    SHORT_NAMES,
    st.integers(0, m.MAX_TTL_MS),
    st.sampled_from(["cloud", "gateway"]),
    st.dictionaries(METRICS, st.integers() | NAMES, max_size=1),
)
def test_a_command_is_read_as_it_was_written(
    action: str, command_id: str, ttl_ms: int, by: str, params: dict[str, Any]
) -> None:
    payload = m.encode_command(action, command_id, ttl_ms, by, params)
    wanted = params | {"action": action, "id": command_id, "ttl_ms": ttl_ms, "by": by}
    assert m.decode_command(payload) == (wanted if len(payload) <= m.MAX_NODE_MESSAGE_BYTES else None)


def test_parameters_of_a_command_cannot_pose_as_its_id_or_sender() -> None:
    payload = m.encode_command("alert", "c-1", 1000, "gateway", {"id": "c-2", "by": "cloud", "action": "restart"})
    found = m.decode_command(payload)
    assert found is not None
    assert (found["id"], found["by"], found["action"]) == ("c-1", "gateway", "alert")


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.data())
def test_garbage_is_refused_or_checked_and_never_raises(name: str, data: st.DataObject) -> None:
    decode, members = DECODERS[name]
    found = decode(data.draw(garbage(*members)))
    assert found is None or isinstance(found, dict)


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_longer_than_512_bytes_is_refused_whatever_it_says(name: str) -> None:
    decode, _ = DECODERS[name]
    good = {
        "value": 1,
        "fleet": "f",
        "boot": 1,
        "n": 1,
        "attach": 1,
        "id": "c",
        "status": "done",
        "action": "alert",
        "interval_ms": 60000,
        "uptime_ms": 1,
        "next_seq": 1,
        "dropped": 0,
        "backlog": 0,
        "seq": 1,
    }
    assert decode(json.dumps(good).encode()) is not None
    assert decode(json.dumps(good | {"padding": "x" * 512}).encode()) is None


@pytest.mark.parametrize("value", ["null", "[]", "{}", "1e999", "NaN", "-Infinity", str(1 << 49), '"' + "x" * 65 + '"'])
def test_a_value_that_nobody_could_store_is_refused(value: str) -> None:
    assert m.decode_reading(f'{{"value":{value}}}'.encode()) is None


@pytest.mark.parametrize(
    "member",
    [
        '"boot":1',
        '"seq":1',
        '"boot":true,"seq":1',
        '"boot":-1,"seq":1',
        '"boot":1.0,"seq":1',
        '"boot":1,"seq":2147483648',
        '"boot":1073741824,"seq":0',
    ],
)
def test_half_an_identity_is_none(member: str) -> None:
    assert m.decode_reading(f'{{"value":1,{member}}}'.encode()) is None


def test_a_bare_board_may_send_nothing_but_a_value_and_unknown_members_are_ignored() -> None:
    assert m.decode_reading(b'{"value": 25.0}') == {"value": 25.0}
    found = m.decode_reading(b'{"value": true, "colour": [1, 2]}')
    assert found is not None and found["value"] is True


@given(KEYS, IDS, BOOTS, SEQS)
def test_what_was_sealed_opens_to_the_very_same_body(key: bytes, node: str, boot: int, n: int) -> None:
    body, topic = m.encode_received(boot, None, [], n), f"clawland/{node}/received"
    assert Sealer(key).open(topic, Sealer(key).seal(topic, body)) == body
