"""Authentication: the same codes as the standard library, and not one bit may change on the way."""

import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.wire.auth import Sealer, hmac_sha256, mqtt_password, same
from tests.wire.strategies import KEYS

TOPIC = "clawland/sensor-01/received"
BODIES = st.dictionaries(st.text(max_size=5), st.integers(), min_size=1, max_size=3).map(
    lambda found: repr(found).replace("'", '"').encode("utf-8", "ignore")
)


@given(st.binary(max_size=200), st.binary(max_size=300))
def test_our_hmac_is_the_standard_librarys(key: bytes, message: bytes) -> None:
    assert hmac_sha256(key, message) == hmac.new(key, message, sha256).digest()


def test_our_hmac_meets_a_published_vector() -> None:
    """RFC 4231, test case 2."""
    found = hmac_sha256(b"Jefe", b"what do ya want for nothing?")
    assert found.hex() == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_same_means_equal(a: bytes, b: bytes) -> None:
    assert same(a, b) == (a == b)
    assert same(a, bytes(a))


@given(KEYS, BODIES, st.data())
def test_one_changed_bit_anywhere_closes_the_seal(key: bytes, body: bytes, data: st.DataObject) -> None:
    payload = bytearray(Sealer(key).seal(TOPIC, body))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert Sealer(key).open(TOPIC, bytes(payload)) is None


@given(KEYS, BODIES, st.integers(1, 30))
def test_a_sealed_message_that_is_cut_short_does_not_open(key: bytes, body: bytes, cut: int) -> None:
    assert Sealer(key).open(TOPIC, Sealer(key).seal(TOPIC, body)[:-cut]) is None


@given(KEYS, KEYS, BODIES)
def test_another_key_does_not_open(key: bytes, other: bytes, body: bytes) -> None:
    opened = Sealer(other).open(TOPIC, Sealer(key).seal(TOPIC, body))
    assert (opened is None) == (key != other)


@pytest.mark.parametrize("topic", ["clawland/sensor-02/received", "clawland/sensor-01/cmd"])
def test_a_message_for_another_node_or_of_another_verb_does_not_open(topic: str) -> None:
    sealer = Sealer(bytes(32))
    assert sealer.open(topic, sealer.seal(TOPIC, b'{"boot":1,"n":1}')) is None


@given(st.binary(max_size=100))
def test_noise_does_not_open(noise: bytes) -> None:
    assert Sealer(bytes(32)).open(TOPIC, noise) is None


def test_the_password_is_neither_the_key_nor_the_same_for_two_keys() -> None:
    first, second = mqtt_password(bytes(32)), mqtt_password(b"\x01" + bytes(31))
    assert first != second
    assert bytes(32).hex().encode() != first and len(first) == 64
    first.decode("ascii")
