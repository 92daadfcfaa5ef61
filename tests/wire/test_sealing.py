"""Sealed values: AES-CCM by its published vectors and by another implementation, and what a seal is bound to."""

import json

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from hypothesis import given
from hypothesis import strategies as st

from firmware.hosting.aes import aes_block
from firmware.wire.ccm import decrypt, encrypt
from firmware.wire.messages import MAX_BOOT, MAX_SEQ, check_reading, decode_reading, encode_reading
from firmware.wire.sealing import MAX_SEALED_CHARS, TAG_BYTES, about_of, blob_of, nonce_of, seal

KEY = bytes.fromhex("C0C1C2C3C4C5C6C7C8C9CACBCCCDCECF")
# RFC 3610, section 8: nonce, header and text (its first `header` bytes travel openly), code's length, what comes out.
VECTORS = [
    (
        "00000003020100A0A1A2A3A4A5",
        8,
        "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E",
        8,
        "588C979A61C663D2F066D0C2C0F989806D5F6B61DAC38417E8D12CFDF926E0",
    ),
    (
        "00000004030201A0A1A2A3A4A5",
        8,
        "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
        8,
        "72C91A36E135F8CF291CA894085C87E3CC15C439C9E43A3BA091D56E10400916",
    ),
    (
        "00000006050403A0A1A2A3A4A5",
        12,
        "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E",
        8,
        "A28C6865939A9A79FAAA5C4C2A9D4A91CDAC8C96C861B9C9E61EF1",
    ),
    (
        "00000009080706A0A1A2A3A4A5",
        8,
        "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E",
        10,
        "0135D1B2C95F41D5D1D4FEC185D166B8094E999DFED96C048C56602C97ACBB7490",
    ),
]
TAGS = st.sampled_from([4, 6, 8, 10, 12, 14, 16])
KEYS = st.sampled_from([16, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
NONCES = st.binary(min_size=13, max_size=13)


@pytest.mark.parametrize(("nonce", "header", "text", "tag", "expected"), VECTORS)
def test_the_published_vectors(nonce: str, header: int, text: str, tag: int, expected: str) -> None:
    plain, about = bytes.fromhex(text)[header:], bytes.fromhex(text)[:header]
    found = encrypt(aes_block(KEY), bytes.fromhex(nonce), plain, about, tag)
    assert found.hex().upper() == expected
    assert decrypt(aes_block(KEY), bytes.fromhex(nonce), found, about, tag) == plain


@given(KEYS, NONCES, st.binary(max_size=100), st.binary(max_size=100), TAGS)
def test_ours_is_the_librarys(key: bytes, nonce: bytes, plain: bytes, about: bytes, tag: int) -> None:
    found = encrypt(aes_block(key), nonce, plain, about, tag)
    assert found == AESCCM(key, tag).encrypt(nonce, plain, about)
    assert decrypt(aes_block(key), nonce, found, about, tag) == plain


@given(KEYS, NONCES, st.binary(max_size=40), st.binary(max_size=40), st.data())
def test_one_changed_bit_anywhere_closes_it(
    key: bytes, nonce: bytes, plain: bytes, about: bytes, data: st.DataObject
) -> None:
    found = bytearray(encrypt(aes_block(key), nonce, plain, about, 8))
    found[data.draw(st.integers(0, len(found) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert decrypt(aes_block(key), nonce, bytes(found), about, 8) is None
    with pytest.raises(InvalidTag):
        AESCCM(key, 8).decrypt(nonce, bytes(found), about)


@pytest.mark.parametrize(
    ("nonce", "text", "tag"), [(b"x" * 12, b"", 8), (b"x" * 13, b"x" * 65536, 8), (b"x" * 13, b"", 7)]
)
def test_lengths_that_the_format_cannot_hold_are_refused(nonce: bytes, text: bytes, tag: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        encrypt(aes_block(KEY), nonce, text, b"", tag)


def test_less_than_a_code_is_no_text() -> None:
    assert decrypt(aes_block(KEY), b"x" * 13, b"short", b"", 8) is None


@given(
    st.tuples(st.integers(0, MAX_BOOT), st.integers(0, MAX_SEQ)),
    st.tuples(st.integers(0, MAX_BOOT), st.integers(0, MAX_SEQ)),
)
def test_two_readings_never_have_one_nonce(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (nonce_of(*one) == nonce_of(*other)) == (one == other)


def unsealed(text: str, node: str = "sensor-01", metric: str = "co2", boot: int = 7, seq: int = 3) -> object:
    """As the fleet manager opens it."""
    blob = blob_of(text)
    assert blob is not None
    plain = AESCCM(KEY, TAG_BYTES).decrypt(nonce_of(boot, seq), blob, about_of(node, metric, boot, seq))
    return json.loads(plain)


@pytest.mark.parametrize("value", ["25.00", "true", '"tag-7"', '"' + "x" * 64 + '"'])
def test_what_a_node_seals_is_opened_as_the_same_value_and_fits_its_message(value: str) -> None:
    sealed = seal(aes_block(KEY), "sensor-01", "co2", 7, 3, value)
    payload = encode_reading(sealed, '"ppm"', 7, 3, "age_ms", 1 << 40, True)
    reading = decode_reading(payload)
    assert reading is not None and "value" not in reading and len(reading["sealed"]) <= MAX_SEALED_CHARS
    assert unsealed(reading["sealed"]) == json.loads(value)


@pytest.mark.parametrize("wrong", [{"node": "sensor-02"}, {"metric": "temp"}, {"boot": 8}, {"seq": 4}], ids=str)
def test_a_seal_fits_one_reading_only(wrong: dict[str, object]) -> None:
    sealed = seal(aes_block(KEY), "sensor-01", "co2", 7, 3, "25.00")[1:]
    with pytest.raises(InvalidTag):
        unsealed(sealed, **wrong)  # type: ignore[arg-type]


def test_the_length_of_a_seal_tells_neither_true_from_false_nor_nine_from_a_thousand() -> None:
    texts = ("true", "false", "9", "1000.00")
    assert len({len(seal(aes_block(KEY), "sensor-01", "co2", 7, 3, text)) for text in texts}) == 1


GOOD = seal(aes_block(KEY), "sensor-01", "co2", 7, 3, "25.00")[1:]


@pytest.mark.parametrize(
    "wrong",
    [
        {"sealed": ""},
        {"sealed": 5},
        {"sealed": "not base64!"},
        {"sealed": GOOD[:-4]},
        {"sealed": GOOD + "\n"},
        {"sealed": "A" * 1000},
        {"boot": None},
        {"seq": -1},
        {"value": None},
    ],
    ids=str,
)
def test_a_sealed_reading_that_cannot_be_one_is_refused(wrong: dict[str, object]) -> None:
    good = {"sealed": GOOD, "boot": 7, "seq": 3, "age_ms": 0}
    assert check_reading(dict(good)) is not None
    assert check_reading(good | wrong) is None
