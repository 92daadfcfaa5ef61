"""AES in software: the standard's own example vectors, and another implementation as the oracle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.hosting.aes import aes_block
from firmware.wire.aes import Aes

PLAIN = bytes.fromhex("00112233445566778899aabbccddeeff")
# FIPS 197, appendix C.
VECTORS = [
    (16, "69c4e0d86a7b0430d8cdb78070b4c55a"),
    (24, "dda97ca4864cdfe06eaf70a0ec0d7191"),
    (32, "8ea2b7ca516745bfeafc49904b496089"),
]


@pytest.mark.parametrize(("size", "expected"), VECTORS)
def test_the_examples_of_the_standard(size: int, expected: str) -> None:
    assert Aes(bytes(range(size))).encrypt(PLAIN).hex() == expected


@given(
    st.sampled_from([16, 24, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
    st.binary(min_size=16, max_size=16),
)
def test_ours_is_the_librarys(key: bytes, block: bytes) -> None:
    assert Aes(key).encrypt(block) == aes_block(key)(block)


@pytest.mark.parametrize("size", [0, 15, 17, 33, 64])
def test_other_keys_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="16, 24 or 32"):
        Aes(bytes(size))
