"""Lines of text on a serial port: what is spoilt is noticed, and the next good line is found."""

import binascii

from hypothesis import given
from hypothesis import strategies as st

from firmware.wire.serial import MAX_LINE_BYTES, Lines, crc16, decode_line, encode_line

bodies = st.binary(max_size=100).map(lambda data: data.replace(b"\n", b" "))
kinds = st.text("abcdefgh.0123456789", min_size=1, max_size=20)


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
