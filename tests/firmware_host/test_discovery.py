"""A scan believes nothing that it cannot check: any datagram may come back."""

from hypothesis import given
from hypothesis import strategies as st

from firmware.hosts.discovery import _Answers, text_fields


@given(st.binary(max_size=600))
def test_no_datagram_can_break_a_scan(data: bytes) -> None:
    answers = _Answers(b"\x12\x34")
    for packet in (data, b"\x12\x35\x84\x00\x00\x00\x00\x05\x00\x00\x00\x05" + data):
        answers.datagram_received(packet, ("192.0.2.1", 5353))
    assert answers.gateways() == []
    assert answers.query()


@given(st.binary(max_size=300))
def test_no_text_record_can_break_it(data: bytes) -> None:
    text_fields(data)


def test_a_text_record_is_key_and_value_strings_of_which_the_first_counts() -> None:
    assert text_fields(b"\x05id=ab\x03a=\xff\x04flag\x05ID=cd\x09load=1") == {"id": "ab", "flag": "", "load": "1"}
