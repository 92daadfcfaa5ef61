"""LoRa frames: what they cost, what opens them, and that a message comes out as it would have over MQTT."""

import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from hypothesis import given
from hypothesis import strategies as st

from firmware.core.profiles import SENSORS
from firmware.hosting.aes import aes_block
from firmware.wire import lora, messages
from firmware.wire.lora_contents import (
    ACK,
    COMMAND,
    EARLIER,
    EVENTS,
    HEARTBEAT,
    HEARTBEAT_MEMBERS,
    READINGS,
    contents_of,
    pack_ack,
    pack_command,
    pack_heartbeat,
    pack_readings,
    pack_received,
    unpack_downlink,
    unpack_uplink,
)  # fmt: skip
from firmware.wire.lora_kinds import KINDS
from firmware.wire.messages import MAX_BOOT, MAX_MISSING
from tests.wire.strategies import BOOTS, METRICS, NAMES, SEQS, SPANS_MS

KEY = bytes(range(32))
BLOCK = aes_block(lora.frame_key(KEY))
NODE, GATEWAY = lora.address("farm", "soil-01"), lora.address("farm", "barn")
COUNTS = st.integers(0, lora.MAX_COUNT)
TEXTS = st.one_of(
    st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 6)).map(lambda pair: messages.fixed_point(*pair)),
    st.booleans().map(json.dumps),
    NAMES.map(json.dumps),
)
RECORDS = st.tuples(SEQS, st.sampled_from([kind[0] for kind in KINDS]) | METRICS, TEXTS, st.just('"x"'), SPANS_MS)


def opened(contents: bytes) -> list[tuple[str, dict[str, Any]]] | None:
    said = unpack_uplink(contents, "farm", 7, 3)
    return None if said is None else [(verb, json.loads(payload)) for verb, payload in said]


@given(BOOTS, COUNTS, st.binary(max_size=100), st.booleans())
def test_an_uplink_opens_under_its_key_and_says_who_sent_it(boot: int, count: int, contents: bytes, asks: bool) -> None:
    frame = lora.seal_uplink(BLOCK, NODE, boot, count, contents, asks)
    assert len(frame) == lora.UPLINK_BYTES + len(contents)
    assert lora.head_of(frame) == (False, asks, NODE, boot, count)
    assert lora.open_uplink(BLOCK, frame) == contents
    assert lora.open_uplink(aes_block(bytes(16)), frame) is None


@given(BOOTS, COUNTS, st.binary(max_size=100))
def test_the_library_opens_what_we_seal_by_the_layout_in_the_manual(boot: int, count: int, contents: bytes) -> None:
    frame = lora.seal_uplink(BLOCK, NODE, boot, count, contents, False)
    nonce = b"\x00" + NODE + boot.to_bytes(4, "big") + count.to_bytes(3, "big") + b"\x00"
    assert AESCCM(lora.frame_key(KEY), 4).decrypt(nonce, frame[12:], frame[:12]) == contents
    answer = lora.seal_downlink(BLOCK, NODE, boot, count, GATEWAY, contents)
    about = answer[:9] + boot.to_bytes(4, "big") + count.to_bytes(3, "big")
    nonce = b"\x02" + GATEWAY + boot.to_bytes(4, "big") + count.to_bytes(3, "big") + b"\x00"
    assert AESCCM(lora.frame_key(KEY), 4).decrypt(nonce, answer[9:], about) == contents


@given(st.binary(max_size=40), st.data())
def test_one_changed_bit_anywhere_closes_a_frame(contents: bytes, data: st.DataObject) -> None:
    up = bytearray(lora.seal_uplink(BLOCK, NODE, 7, 3, contents, True))
    down = bytearray(lora.seal_downlink(BLOCK, NODE, 7, 3, GATEWAY, contents))
    for frame in (up, down):
        frame[data.draw(st.integers(0, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert lora.open_uplink(BLOCK, bytes(up)) is None
    assert lora.open_downlink(BLOCK, bytes(down), 7, 3) is None


def test_an_answer_fits_one_uplink_only_and_no_direction_passes_for_the_other() -> None:
    answer = lora.seal_downlink(BLOCK, NODE, 7, 3, GATEWAY, b"x")
    assert lora.open_downlink(BLOCK, answer, 7, 3) == b"x"
    assert lora.open_downlink(BLOCK, answer, 7, 4) is None and lora.open_downlink(BLOCK, answer, 8, 3) is None
    assert lora.open_uplink(BLOCK, answer) is None
    assert lora.open_downlink(BLOCK, lora.seal_uplink(BLOCK, NODE, 7, 3, b"x", False), 7, 3) is None


def test_two_gateways_that_answer_one_uplink_use_two_nonces() -> None:
    one = lora.seal_downlink(BLOCK, NODE, 7, 3, GATEWAY, b"same")
    other = lora.seal_downlink(BLOCK, NODE, 7, 3, lora.address("farm", "house"), b"same")
    assert one[9:13] != other[9:13]


@given(st.binary(max_size=300))
def test_noise_is_no_frame_of_ours_or_has_a_head(frame: bytes) -> None:
    assert lora.open_uplink(BLOCK, frame) is None and lora.open_downlink(BLOCK, frame, 7, 3) is None


@pytest.mark.parametrize("kind", [0x00, 0x40, 0x80, 0x60, 0xE1, 0xEC, 0xFF])
def test_frames_of_lorawan_and_of_another_version_are_none_of_ours(kind: int) -> None:
    assert lora.head_of(bytes([kind]) + bytes(20)) is None


@pytest.mark.parametrize(("boot", "count"), [(MAX_BOOT + 1, 0), (-1, 0), (0, lora.MAX_COUNT + 1), (0, -1)])
def test_numbers_that_would_repeat_a_nonce_are_refused(boot: int, count: int) -> None:
    with pytest.raises(ValueError, match="30 bits"):
        lora.seal_uplink(BLOCK, NODE, boot, count, b"", False)


def test_nodes_of_two_fleets_have_two_addresses() -> None:
    assert lora.address("farm", "soil-01") != lora.address("barn", "soil-01") != lora.address("barn", "soil-02")


@given(st.lists(RECORDS, max_size=5))
def test_readings_come_out_as_they_would_over_mqtt(records: list[tuple[int, str, str, str, int]]) -> None:
    packed = pack_readings(records)
    for key, event in ((READINGS, False), (EVENTS, True)):
        expected = [
            (metric, messages.encode_reading(value, unit, 7, seq, "age_ms", ms, event))
            for seq, metric, value, unit, ms in records
        ]
        found = unpack_uplink(contents_of({key: packed}), "farm", 7, 3)
        assert found == expected
    earlier = unpack_uplink(contents_of({EARLIER: [6, packed, []]}), "farm", 7, 3)
    assert earlier is not None
    assert [json.loads(p).get("up_ms") for _, p in earlier] == [record[4] for record in records]
    assert all(json.loads(payload)["boot"] == 6 for _, payload in earlier)


def test_every_profile_has_a_number_with_its_unit_and_resolution() -> None:
    assert [(name, s["unit"], s.get("exp", 0)) for name, s in SENSORS.items()] == list(KINDS)


def test_three_readings_of_a_minute_fit_the_51_bytes_of_sf12() -> None:
    records = [(4000 + n, "soil_moisture", "37.5", '"%"', 120_000 - 60_000 * n) for n in range(3)]
    frame = lora.seal_uplink(BLOCK, NODE, 7, 3, contents_of({READINGS: pack_readings(records)}), True)
    one = lora.seal_uplink(BLOCK, NODE, 7, 3, contents_of({READINGS: pack_readings(records[:1])}), True)
    assert len(one) <= 33 and len(frame) <= 51


def test_a_sealed_value_passes_as_it_is() -> None:
    text = "~" + "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
    (reading,) = opened(contents_of({READINGS: pack_readings([(1, "co2", text, '"ppm"', 0)])})) or []
    assert reading[1]["sealed"] == text[1:] and "value" not in reading[1]


@pytest.mark.parametrize("count", range(5, len(HEARTBEAT_MEMBERS) + 1))
def test_a_heartbeat_is_one_however_much_of_it_had_room(count: int) -> None:
    members = {"interval_ms": 600_000, "uptime_ms": 86_400_123, "next_seq": 9, "dropped": 0, "backlog": 2,
               "battery_mv": 3300, "faults": ["co2"], "version": "0.1.0"}  # fmt: skip
    ((verb, found),) = opened(contents_of({HEARTBEAT: pack_heartbeat(members, count)})) or []
    expected = {name: members[name] for name in HEARTBEAT_MEMBERS[:count] if name in members}
    assert verb == "heartbeat" and found == {**expected, "fleet": "farm", "boot": 7, "n": 3, "attach": 0}


def test_a_commands_answer_comes_out_as_it_was_given() -> None:
    ((verb, found),) = opened(contents_of({ACK: pack_ack("c-17", "failed", "too hot")})) or []
    assert (verb, found) == ("ack", {"id": "c-17", "status": "failed", "reason": "too hot"})


@given(BOOTS, SEQS, st.lists(st.booleans(), max_size=100))
def test_what_is_received_comes_out_exact_or_with_less(boot: int, first: int, held: list[bool]) -> None:
    last = min(first + len(held), messages.MAX_SEQ)
    missing = [first + at for at in range(min(len(held), last - first)) if not held[at]][:MAX_MISSING]
    received = {"boot": boot, "from": first, "upto": last, "missing": missing, "n": 1}
    for of_boot in (boot, (boot + 1) & MAX_BOOT):
        said = unpack_downlink(contents_of(pack_received(of_boot, received)), of_boot)
        assert said is not None
        found = messages.decode_received(said[0][1])
        assert found is not None and found["boot"] == boot
        kept = set(range(first, last + 1)) - set(missing)
        assert set(range(found["from"], found["upto"] + 1)) - set(found["missing"]) == kept


def test_more_gaps_than_a_message_holds_acknowledge_less() -> None:
    bits = bytes([0b10101010]) * 16
    said = unpack_downlink(contents_of({0: [0, 0, bits]}), 7)
    assert said is not None
    found = messages.decode_received(said[0][1])
    assert found is not None and len(found["missing"]) == MAX_MISSING and found["upto"] == 2 * MAX_MISSING - 1


def test_a_command_comes_out_as_it_was_given() -> None:
    command = {"action": "config", "id": "c-1", "ttl_ms": 60_000, "by": "gateway", "thresholds": {"hot": 30.5}}
    ((verb, body),) = unpack_downlink(contents_of(pack_command(command)), 7) or []
    assert verb == "cmd" and messages.decode_command(body) == command
    plain = {"action": "identify", "id": "c-2", "ttl_ms": 1, "by": "cloud"}
    ((_, body),) = unpack_downlink(contents_of(pack_command(plain)), 7) or []
    assert messages.decode_command(body) == plain


BAD_UP = [
    {READINGS: [1, 0, 5]}, {READINGS: [1, 99, 5, 0]}, {READINGS: [1, -1, 5, 0]}, {READINGS: [-1, 0, 5, 0]},
    {READINGS: [1, 0, None, 0]}, {READINGS: [1, 0, [5, 99], 0]}, {READINGS: [1, 0, [5], 0]}, {READINGS: 5},
    {READINGS: [True, 0, 5, 0]}, {READINGS: [1, ["beacon", ""], 5, 0]}, {READINGS: [1, ["a\"b", ""], 5, 0]},
    {READINGS: [1, [1, 2], 5, 0]}, {READINGS: [1, 0, 5, -1]}, {READINGS: [1, 0, 1.5, 0]}, {READINGS: [1, 0, b"x", 0]},
    {EARLIER: [6, []]}, {EARLIER: 1}, {EARLIER: [MAX_BOOT + 1, [1, 0, 5, 0], []]}, {HEARTBEAT: [1]}, {HEARTBEAT: {}},
    {HEARTBEAT: [0, 0, 0, 0, 0]}, {HEARTBEAT: [1000, -1, 0, 0, 0]}, {ACK: []}, {ACK: ["c"]}, {ACK: ["c", 9]},
    {ACK: [5, 0]}, {ACK: "c"}, [1, 2], "x", None,
]  # fmt: skip


@pytest.mark.parametrize("found", BAD_UP, ids=str)
def test_an_authentic_uplink_that_makes_no_sense_is_refused(found: dict[int, object]) -> None:
    assert unpack_uplink(contents_of(found), "farm", 7, 3) is None


BAD_DOWN = [{0: []}, {0: [1]}, {0: [-1, 1]}, {0: [1, -1]}, {0: [0, 1, bytes(17)]}, {0: [0, 1, "x"]}, {0: 5},
            {1: [1]}, {COMMAND: []}, {COMMAND: [99, "c", 1, 0]}, {COMMAND: [0, "c", 1, 0, 5]}, [1]]  # fmt: skip


@pytest.mark.parametrize("found", BAD_DOWN, ids=str)
def test_an_authentic_downlink_that_makes_no_sense_is_refused(found: dict[int, object]) -> None:
    assert unpack_downlink(contents_of(found), 7) is None


@given(st.binary(max_size=60))
def test_noise_in_an_authentic_frame_is_refused_or_makes_sense(contents: bytes) -> None:
    for verb, payload in unpack_uplink(contents, "farm", 7, 3) or []:
        assert verb and json.loads(payload)
    for verb, payload in unpack_downlink(contents, 7) or []:
        assert verb in ("received", "cmd") and json.loads(payload)


def test_another_key_does_not_open_it_in_the_library_either() -> None:
    frame = lora.seal_uplink(BLOCK, NODE, 7, 3, b"x", False)
    with pytest.raises(InvalidTag):
        AESCCM(bytes(16), 4).decrypt(bytes(13), frame[12:], frame[:12])
