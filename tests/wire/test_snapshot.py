"""The configuration that a gateway is given: whole, unchanged, and its keys for nobody else."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.wire import snapshot, uplink
from fleet.wire.expression import parse
from fleet.wire.uplink import Rejected
from tests.wire.strategies import ANY_JSON, IDS, KEYS, garbage

KEY, OTHER_KEY, NONCE = b"g" * 32, b"h" * 32, bytes(12)
HOT = {"name": "hot", "when": parse("temp > 30"), "clear": parse("temp < 29"), "action": "alert"}
NODE_KEYS = {"sensor-01": b"1" * 32, "sensor-02": b"2" * 32}


def made(**changed: Any) -> dict[str, Any]:
    return snapshot.build(5, [HOT], NODE_KEYS, "gateway-01", KEY, NONCE) | changed


@given(st.dictionaries(IDS, KEYS, max_size=5), st.integers(0, uplink.MAX_UTC_MS))
def test_a_snapshot_is_read_as_it_was_built(keys: dict[str, bytes], version: int) -> None:
    built = snapshot.build(version, [HOT], keys, "gateway-01", KEY, NONCE)
    found, opened = snapshot.read(uplink.encode(built), "gateway-01", KEY)
    assert opened == keys
    assert (found["version"], found["rules"]) == (version, [HOT])


def test_whom_a_gateway_answers_travels_with_it_and_cannot_be_changed() -> None:
    built = snapshot.build(5, [], NODE_KEYS, "gateway-01", KEY, NONCE, ["sensor-02"])
    assert snapshot.read(uplink.encode(built), "gateway-01", KEY)[0]["answers"] == ["sensor-02"]
    for answers in (["sensor-01"], [], None):
        with pytest.raises(Rejected, match="hash"):
            snapshot.read(uplink.encode(built | {"answers": answers}), "gateway-01", KEY)
    for answers in ("sensor-01", [3], ["no id"], {"sensor-01": 1}):
        changed = built | {"answers": answers}
        with pytest.raises(Rejected, match="answers"):
            snapshot.read(uplink.encode(changed | {"hash": snapshot.digest(changed)}), "gateway-01", KEY)


def test_a_snapshot_of_before_there_was_radio_names_nobody() -> None:
    assert "answers" not in made()
    assert snapshot.read(uplink.encode(made()), "gateway-01", KEY)[0]["answers"] == []


def test_no_key_is_legible_in_it() -> None:
    text = uplink.encode(made())
    for key in (*NODE_KEYS.values(), KEY):
        assert key not in text and key.hex().encode() not in text


@pytest.mark.parametrize(
    ("gateway", "key"), [("gateway-01", OTHER_KEY), ("gateway-02", KEY), ("gateway-02", OTHER_KEY)]
)
def test_another_gateway_cannot_open_it(gateway: str, key: bytes) -> None:
    with pytest.raises(Rejected, match="sealed"):
        snapshot.read(uplink.encode(made()), gateway, key)


@pytest.mark.parametrize(
    "changed",
    [
        {"hash": "0" * 64},
        {"hash": None},
        {"version": 6},
        {"rules": []},
        {"rules": [HOT | {"action": "none"}]},
        {"sealed_keys": "00"},
        {"sealed_keys": None},
        {"v": 2},
    ],
    ids=str,
)
def test_a_snapshot_that_was_changed_on_the_way_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(Rejected):
        snapshot.read(uplink.encode(made(**changed)), "gateway-01", KEY)


@given(st.integers(0, 500), st.integers(0, 7))
def test_sealed_keys_with_a_changed_bit_do_not_open_even_under_a_fitting_hash(at: int, bit: int) -> None:
    built = made()
    sealed = bytearray(base64.b64decode(built["sealed_keys"]))
    sealed[at % len(sealed)] ^= 1 << bit
    built["sealed_keys"] = base64.b64encode(sealed).decode()
    built["hash"] = snapshot.digest(built)
    with pytest.raises(Rejected, match="sealed"):
        snapshot.read(uplink.encode(built), "gateway-01", KEY)


@pytest.mark.parametrize(
    "rule",
    [
        None,
        {},
        {"name": "a"},
        HOT | {"name": 3},
        HOT | {"action": "explode"},
        HOT | {"when": None},
        HOT | {"when": {"metric": "temp", "op": "~", "value": 3}},
        HOT | {"clear": {"metric": "cmd", "op": ">", "value": 3}},
        HOT | {"clear": parse("humidity < 20")},
        HOT | {"when": {"metric": "temp", "op": ">", "value": "x"}},
        HOT | {"when": {"metric": "temp", "op": ">", "value": [30]}},
    ],
    ids=str,
)
def test_rules_that_no_gateway_could_evaluate_are_refused(rule: Any) -> None:
    built = made(rules=[rule])
    built["hash"] = snapshot.digest(built)
    with pytest.raises(Rejected):
        snapshot.read(uplink.encode(built), "gateway-01", KEY)


@given(garbage("v", "version", "hash", "rules", "sealed_keys") | st.just(b"x" * (snapshot.MAX_SNAPSHOT_BYTES + 1)))
def test_garbage_instead_of_a_snapshot_is_refused_and_nothing_else_is_raised(payload: bytes) -> None:
    with pytest.raises(Rejected):
        snapshot.read(payload, "gateway-01", KEY)


@given(ANY_JSON, ANY_JSON)
def test_any_content_under_a_fitting_hash_is_taken_or_refused(rules: Any, sealed: Any) -> None:
    built = {"v": 1, "version": 1, "rules": rules, "sealed_keys": sealed}
    try:
        built["hash"] = snapshot.digest(built)
        payload = uplink.encode(built)
    except TypeError:  # numbers that JSON as orjson writes it does not have
        return
    with pytest.raises(Rejected):
        snapshot.read(payload, "gateway-01", KEY)
