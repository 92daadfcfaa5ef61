"""Messages between gateway and cloud: batches and their limits, and everything that is not one."""

import gzip
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from fleet.wire import uplink
from fleet.wire.uplink import Rejected
from tests.wire.strategies import ANY_JSON, BOOTS, IDS, METRICS, NAMES, SEQS, VALUES, garbage

TEXTS = NAMES.filter(lambda text: "\0" not in text)
READINGS = st.fixed_dictionaries(
    {"sensor": IDS, "metric": METRICS, "value": VALUES, "boot": BOOTS, "seq": SEQS},
    optional={"unit": TEXTS, "utc_ms": st.integers(0, uplink.MAX_UTC_MS), "time_quality": st.just("estimated")},
)


def batch_of(*readings: Any, **more: Any) -> bytes:
    return json.dumps({"v": 1, "batch": "b-1", "readings": list(readings)} | more).encode()


def reading(**changed: Any) -> dict[str, Any]:
    return {"sensor": "sensor-01", "metric": "temp", "value": 25.0, "boot": 1, "seq": 2, "utc_ms": 3} | changed


@given(st.sampled_from(sorted(reading(unit="C", time_quality="exact"))), ANY_JSON)
def test_the_quick_check_of_usual_readings_takes_nothing_that_the_thorough_one_refuses(member: str, what: Any) -> None:
    uplink.check_reading(reading(unit="C"))  # its names are known from now on
    try:
        text = orjson.dumps(reading(unit="C") | {member: what})
    except TypeError:  # nothing that a batch could carry
        reject()
    _, good, _ = uplink.decode_batch(b"[%s]" % text)
    try:
        uplink.check_reading(orjson.loads(text))
    except Rejected:
        assert good == []
    else:
        assert len(good) == 1


@given(TEXTS, st.lists(READINGS, max_size=5))
def test_a_batch_is_read_as_it_was_written_also_when_packed(name: str, readings: list[dict[str, Any]]) -> None:
    payload = uplink.encode_batch(name, [orjson.dumps(r) for r in readings], [])
    assert uplink.decode_batch(payload) == (name, readings, [])
    assert uplink.decompress(uplink.compress(payload)) == payload
    assert uplink.compress(payload) == uplink.compress(payload)


def test_a_bare_list_of_readings_is_a_batch_without_a_name() -> None:
    found = uplink.decode_batch(b'[{"sensor":"01","value":25}]')
    assert found == (None, [{"sensor": "01", "value": 25, "metric": "value"}], [])


def test_a_thousand_readings_fit_a_batch_and_one_more_does_not() -> None:
    thousand = [reading(seq=seq) for seq in range(1000)]
    assert len(uplink.decode_batch(batch_of(*thousand))[1]) == 1000
    with pytest.raises(Rejected, match="1000"):
        uplink.decode_batch(batch_of(*thousand, reading(seq=1000)))


def test_256_kib_are_a_batch_and_one_byte_more_is_not() -> None:
    payload = batch_of(reading(), padding="")
    room = uplink.MAX_BATCH_BYTES - len(payload)
    fits = batch_of(reading(), padding="x" * room)
    assert uplink.decode_batch(fits) and len(fits) == 256 * 1024
    with pytest.raises(Rejected, match="262144"):
        uplink.decode_batch(batch_of(reading(), padding="x" * (room + 1)))


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(bytes(50_000_000)),
        gzip.compress(bytes(uplink.MAX_BATCH_BYTES + 1)),
        gzip.compress(b"[]" * 1000)[:-9],
        b"\x1f\x8b",
        b"",
        b"not gzip at all",
    ],
    ids=["bomb", "one byte too many", "cut off", "only a header", "nothing", "text"],
)
def test_a_gzip_bomb_or_a_broken_archive_is_refused_before_it_is_unpacked(packed: bytes) -> None:
    with pytest.raises(Rejected):
        uplink.decompress(packed)


@given(garbage("v", "batch", "readings", "stats"))
def test_garbage_instead_of_a_batch_is_refused_and_nothing_else_is_raised(payload: bytes) -> None:
    try:
        batch, readings, refused = uplink.decode_batch(payload)
    except Rejected as error:
        assert str(error)
    else:
        assert batch is None or isinstance(batch, str)
        assert isinstance(readings, list) and all(reason for _, reason in refused)


@given(
    st.dictionaries(
        st.sampled_from(["sensor", "metric", "value", "boot", "seq", "utc_ms", "unit", "time_quality"]), ANY_JSON
    )
)
def test_a_reading_that_is_taken_can_be_stored(changed: dict[str, Any]) -> None:
    """Whatever decode_batch lets through has the types of a row: one bad row must not fail a transaction."""
    try:
        payload = orjson.dumps([reading(**changed)])
    except TypeError:  # numbers beyond 64 bits
        return
    _, good, refused = uplink.decode_batch(payload)
    assert len(good) + len(refused) == 1
    for found in good:
        _assert_storable(found)


def _assert_storable(found: dict[str, Any]) -> None:
    assert isinstance(found["value"], bool | str) or abs(found["value"]) < 2**63 or isinstance(found["value"], float)
    assert found.get("unit") is None or (isinstance(found["unit"], str) and len(found["unit"]) <= 64)
    assert "\0" not in (found.get("unit") or "")  # PostgreSQL has no place for it
    assert found.get("time_quality", "exact") in ("exact", "estimated")


@pytest.mark.parametrize(
    "changed",
    [
        {"value": None},
        {"value": []},
        {"value": "x" * 65},
        {"value": 2**64 - 1},
        {"sensor": None},
        {"sensor": "A"},
        {"sensor": ["a"]},
        {"metric": "cmd"},
        {"metric": 3},
        {"boot": -1},
        {"boot": True},
        {"seq": None},
        {"utc_ms": -1},
        {"utc_ms": 1.5},
        {"utc_ms": uplink.MAX_UTC_MS + 1},
        {"unit": [1]},
        {"unit": "x" * 65},
        {"unit": "a\0"},
        {"time_quality": {"a": 1}},
        {"time_quality": "guessed"},
    ],
    ids=str,
)
def test_a_reading_that_cannot_be_a_row_is_refused_with_a_reason_and_spoils_no_other(changed: dict[str, Any]) -> None:
    payload = batch_of(reading(seq=1), reading(**changed), reading(seq=3))
    batch, good, ((refused, reason),) = uplink.decode_batch(payload)
    assert (batch, [found["seq"] for found in good]) == ("b-1", [1, 3])
    assert refused == reading(**changed) and reason


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_an_unknown_version_is_refused(version: Any) -> None:
    with pytest.raises(Rejected, match="version"):
        uplink.decode_batch(batch_of(reading(), v=version))
    with pytest.raises(Rejected, match="version"):
        uplink.decode(json.dumps({"v": version}).encode())


@given(garbage("v"))
def test_garbage_instead_of_a_message_is_refused_and_nothing_else_is_raised(payload: bytes) -> None:
    try:
        assert isinstance(uplink.decode(payload), dict)
    except Rejected as error:
        assert str(error)


@pytest.mark.parametrize("text", [None, 3, "", "x" * 65, "a\0b"])
def test_a_text_that_no_column_takes_is_refused(text: Any) -> None:
    with pytest.raises(Rejected, match="rule is not a text of 1 to 64 characters"):
        uplink.text_of({"rule": text}, "rule")


def test_an_oversize_message_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(Rejected, match="longer than"):
        uplink.decode(b" " * (uplink.MAX_MESSAGE_BYTES + 1))
