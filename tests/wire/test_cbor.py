"""CBOR: the examples of RFC 8949, another implementation as the oracle, and bounds on what a stranger can send."""

import math
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.wire.cbor import MAX_BYTES, MAX_DEPTH, decode, encode

# Appendix A: those within the subset, as far as their encoding is the one that we write.
EXAMPLES: list[tuple[object, str]] = [
    (0, "00"), (1, "01"), (10, "0a"), (23, "17"), (24, "1818"), (25, "1819"), (100, "1864"), (1000, "1903e8"),
    (1000000, "1a000f4240"), (1000000000000, "1b000000e8d4a51000"), (18446744073709551615, "1bffffffffffffffff"),
    (-18446744073709551616, "3bffffffffffffffff"), (-1, "20"), (-10, "29"), (-100, "3863"), (-1000, "3903e7"),
    (1.1, "fb3ff199999999999a"), (100000.0, "fa47c35000"), (3.4028234663852886e38, "fa7f7fffff"),
    (1.0e300, "fb7e37e43c8800759c"), (-4.1, "fbc010666666666666"), (False, "f4"), (True, "f5"), (None, "f6"),
    (b"", "40"), (b"\x01\x02\x03\x04", "4401020304"), ("", "60"), ("a", "6161"), ("IETF", "6449455446"),
    ("\"\\", "62225c"), ("\u00fc", "62c3bc"), ("\u6c34", "63e6b0b4"), ("\U00010151", "64f0908591"), ([], "80"),
    ([1, 2, 3], "83010203"), ([1, [2, 3], [4, 5]], "8301820203820405"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"), ({}, "a0"),
    ({1: 2, 3: 4}, "a201020304"), ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    (["a", {"b": "c"}], "826161a161626163"),
    ({"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}, "a56161614161626142616361436164614461656145"),
]  # fmt: skip
# Appendix A: those that we read and would write in another way.
READ_ONLY: list[tuple[float, str]] = [
    (0.0, "f90000"), (-0.0, "f98000"), (1.0, "f93c00"), (1.5, "f93e00"), (65504.0, "f97bff"), (-4.0, "f9c400"),
    (5.960464477539063e-8, "f90001"), (0.00006103515625, "f90400"), (math.inf, "f97c00"), (-math.inf, "f9fc00"),
    (math.inf, "fa7f800000"), (-math.inf, "fbfff0000000000000"),
]  # fmt: skip
# Appendix A: undefined, simple values, tags, indefinite lengths, integers beyond 64 bits.
NOT_OURS = ["f7", "f0", "f8ff", "c074323031332d30332d32315432303a30343a30305a", "c249010000000000000000", "9fff",
            "5f42010243030405ff", "7f657374726561646d696e67ff", "bf61610161629f0203ffff", "d74401020304"]  # fmt: skip
BROKEN = ["", "18", "1b00", "44010203", "61ff", "8301", "a101", "a2010201", "9bffffffffffffffff", "bbffffffffffffffff",
          "5bffffffffffffffff", "0000", "1c", "ff", "a2010201020", "a1f500", "a1f93c0000", "a18000"]  # fmt: skip

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=40)
    | st.text(max_size=40)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.integers(-9, 300) | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=6,
).filter(lambda value: depth_of(value) <= MAX_DEPTH)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((depth_of(part) for part in value.values()), default=0)
    return 1 + max((depth_of(part) for part in value), default=0) if isinstance(value, list) else 0


@pytest.mark.parametrize(("value", "expected"), EXAMPLES, ids=lambda part: str(part)[:20])
def test_the_examples_of_the_standard_both_ways(value: object, expected: str) -> None:
    assert encode(value).hex() == expected
    found = decode(bytes.fromhex(expected))
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("value", "text"), READ_ONLY)
def test_floats_of_any_width_are_read(value: float, text: str) -> None:
    found = decode(bytes.fromhex(text))
    assert isinstance(found, float) and found == value and math.copysign(1, found) == math.copysign(1, value)


@pytest.mark.parametrize("text", ["f97e00", "fa7fc00000", "fb7ff8000000000000"])
def test_no_number_is_read_as_no_number(text: str) -> None:
    found = decode(bytes.fromhex(text))
    assert isinstance(found, float) and math.isnan(found)


@pytest.mark.parametrize("text", NOT_OURS + [text for text in BROKEN if len(text) % 2 == 0])
def test_what_is_not_of_the_subset_or_broken_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(bytes.fromhex(text))


@given(VALUES)
def test_another_implementation_reads_what_we_write_and_we_what_it_writes(value: object) -> None:
    data = encode(value)
    assert repr(cbor2.loads(data)) == repr(decode(cbor2.dumps(value))) or data == encode(cbor2.loads(data))
    assert encode(decode(data)) == data
    for canonical in (True, False):
        assert encode(decode(cbor2.dumps(value, canonical=canonical))) == data


@given(st.binary(max_size=80))
def test_noise_is_a_value_or_a_value_error(data: bytes) -> None:
    try:
        value = decode(data)
    except ValueError:
        return
    assert encode(decode(encode(value))) == encode(value)


def test_depth_and_size_are_bounded() -> None:
    assert decode(b"\x81" * MAX_DEPTH + b"\x00") is not None
    for data in (b"\x81" * (MAX_DEPTH + 1) + b"\x00", b"\x81" * MAX_BYTES, b"\x58\xff" + bytes(MAX_BYTES)):
        with pytest.raises(ValueError, match=r"deep|more than|after"):
            decode(data)


@pytest.mark.parametrize(
    "value",
    [2**64, -(2**64) - 1, object(), {1, 2}, [object()]],
    ids=["too much", "too little", "object", "set", "objects"],
)
def test_what_the_subset_cannot_hold_is_not_written(value: object) -> None:
    with pytest.raises(ValueError, match=r"CBOR|64 bits"):
        encode(value)
