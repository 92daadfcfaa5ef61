"""A board's query is one that zeroconf understands; it understands what zeroconf answers, and survives all else."""

import socket

from hypothesis import given
from hypothesis import strategies as st
from zeroconf import DNSAddress, DNSIncoming, DNSOutgoing, DNSPointer, DNSService, DNSText

from firmware.wire.mdns import MAX_GATEWAYS, Answers

SERVICE = "_clawland._tcp.local."
ID = 0x1234


def answer(*names: str, texts: bool = True, port: int = 1883, query_id: int = ID) -> list[bytes]:
    out = DNSOutgoing(0x8400, multicast=False, id_=query_id)
    for number, name in enumerate(names):
        full, host = f"{name}.{SERVICE}", f"{name}-host.local."
        out.add_answer_at_time(DNSPointer(SERVICE, 12, 1, 120, full), 0)
        out.add_additional_answer(DNSService(full, 33, 1, 120, 0, 0, port, host))
        out.add_additional_answer(DNSAddress(host, 1, 1, 120, socket.inet_aton(f"10.0.0.{number + 1}")))
        if texts:
            fields = [f"id={name}", "fleet=clawland", "role=primary", "load=3"]
            text = b"".join(bytes([len(field)]) + field.encode() for field in fields)
            out.add_additional_answer(DNSText(full, 16, 1, 120, text))
    return out.packets()


def test_the_query_asks_for_the_service() -> None:
    packet = DNSIncoming(Answers(ID).query())
    assert packet.valid
    assert packet.is_query()
    assert (packet.id, [(q.name, q.type) for q in packet.questions]) == (ID, [(SERVICE, 12)])


def test_an_answer_is_every_gateway_with_all_that_a_node_chooses_by() -> None:
    answers = Answers(ID)
    for packet in answer("gateway-02", "gateway-01"):
        assert answers.receive(packet, "127.0.0.1")
    assert answers.gateways() == [
        {"id": "gateway-01", "fleet": "clawland", "role": "primary", "load": 3, "target": "10.0.0.2:1883"},
        {"id": "gateway-02", "fleet": "clawland", "role": "primary", "load": 3, "target": "10.0.0.1:1883"},
    ]
    assert not answers.receive(answer("gateway-01")[0], "127.0.0.1"), "nothing new"


def test_who_has_not_said_all_is_asked_again() -> None:
    answers = Answers(ID)
    answers.receive(answer("gateway-01", texts=False)[0], "127.0.0.1")
    assert answers.gateways() == []
    questions = [(q.name, q.type) for q in DNSIncoming(answers.query()).questions]
    assert questions == [(SERVICE, 12), (f"gateway-01.{SERVICE}", 255)]


def test_an_answer_to_somebody_else_or_without_a_port_is_no_gateway() -> None:
    answers = Answers(ID)
    answers.receive(answer("gateway-01", query_id=ID + 1)[0], "127.0.0.1")
    answers.receive(answer("gateway-01", port=0)[0], "127.0.0.1")
    assert answers.gateways() == []


def test_what_is_kept_of_strangers_is_bounded() -> None:
    answers = Answers(ID)
    for number in range(100):
        for packet in answer(f"gateway-{number}"):
            answers.receive(packet, "127.0.0.1")
    assert len(answers.gateways()) == MAX_GATEWAYS


@given(st.binary(max_size=400), st.integers(0, 400))
def test_no_datagram_can_break_a_scan(data: bytes, cut: int) -> None:
    answers = Answers(ID)
    header = b"\x12\x34\x84\x00\x00\x01\x00\x05\x00\x00\x00\x05"
    for packet in (data, header + data, answer("gateway-01")[0][:cut] + data):
        answers.receive(packet, "192.0.2.1")
    assert answers.query()


@given(st.lists(st.tuples(st.integers(12, 400), st.integers(0, 255)), max_size=6))
def test_a_spoilt_answer_is_a_gateway_or_none_and_never_a_crash(changes: list[tuple[int, int]]) -> None:
    packet = bytearray(answer("gateway-01")[0])
    for at, byte in changes:
        packet[at % len(packet)] = byte
    Answers(ID).receive(bytes(packet), "192.0.2.1")


def test_a_name_that_points_at_itself_ends() -> None:
    header = b"\x12\x34\x84\x00\x00\x00\x00\x01\x00\x00\x00\x00"
    assert not Answers(ID).receive(header + b"\xc0\x0c" + bytes(10), "192.0.2.1")
