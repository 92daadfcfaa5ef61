"""The packet forwarder's protocol: what its manual shows is understood, and nothing else is raised but `Rejected`."""

import base64
import contextlib
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.wire.uplink import Rejected
from nanoclaw.core.lora import gwmp
from nanoclaw.core.lora.gwmp import Downlink, Packet
from tests.nanoclaw_core.air import EUI, Board, Concentrator, station
from tests.wire.strategies import ANY_JSON

HEAD = bytes.fromhex("02abcd00" + EUI)

# The figures of PROTOCOL.TXT, section 4: two LoRa packets and one that is FSK.
SF7 = {
    "time": "2013-03-31T16:21:17.528002Z", "tmst": 3512348611, "chan": 2, "rfch": 0, "freq": 866.349812, "stat": 1,
    "modu": "LORA", "datr": "SF7BW125", "codr": "4/6", "rssi": -35, "lsnr": 5.1, "size": 32,
    "data": "-DS4CGaDCdG+48eJNM3Vai-zDpsR71Pn9CPA9uCON84",
}  # fmt: skip
FSK = {
    "tmst": 3512348514, "chan": 9, "rfch": 1, "freq": 869.1, "stat": 1, "modu": "FSK", "datr": 50000, "rssi": -75,
    "size": 16, "data": "VEVTVF9QQUNLRVRfMTIzNA==",
}  # fmt: skip
SF10 = SF7 | {
    "tmst": 3316387610, "chan": 0, "freq": 863.00981, "datr": "SF10BW125", "codr": "4/7", "rssi": -38, "lsnr": 5.5,
    "data": "ysgRl452xNLep9S1NTIg2lomKDxUgn3DJ7DE+b00Ass",
}  # fmt: skip


def push(body: Any) -> bytes:
    return HEAD + json.dumps(body).encode()


def test_the_manuals_own_packets_are_understood() -> None:
    datagram = gwmp.decode(push({"rxpk": [SF7, FSK, SF10]}))
    assert (datagram.kind, datagram.token, datagram.eui) == (gwmp.PUSH_DATA, 0xABCD, EUI)
    first, second, third = gwmp.packets(datagram.body)
    found = gwmp.packet(first)
    assert found[1:] == (3512348611, 866_349_812, 7, 125_000, gwmp.CRC_OK, -35, 5.1)
    assert (len(found.frame), found.frame[:3].hex(), found.frame[-2:].hex()) == (32, "f834b8", "37ce")
    assert gwmp.packet(third)[1:] == (3316387610, 863_009_810, 10, 125_000, gwmp.CRC_OK, -38, 5.5)
    with pytest.raises(Rejected, match="LoRa"):
        gwmp.packet(second)


def test_a_status_alone_is_a_push_without_packets() -> None:
    status = {"time": "2014-01-12 08:59:28 GMT", "lati": 46.24, "long": 3.2523, "alti": 145, "rxnb": 2, "ackr": 100.0}
    assert gwmp.packets(gwmp.decode(push({"stat": status})).body) == []


def test_base64_is_read_with_and_without_its_padding() -> None:
    for data in ("VEVTVF9QQUNLRVRfMTIzNA==", "VEVTVF9QQUNLRVRfMTIzNA"):
        assert gwmp.packet(SF7 | {"data": data, "size": 16}).frame == b"TEST_PACKET_1234"


def test_a_concentrator_with_several_antennas_is_as_good_as_its_best_one() -> None:
    rxpk = {name: value for name, value in SF7.items() if name != "rssi"}
    assert gwmp.packet(rxpk | {"rsig": [{"ant": 0, "rssic": -97}, {"ant": 1, "rssic": -91}]}).rssi_dbm == -91
    assert gwmp.packet(rxpk).rssi_dbm == gwmp.NO_SIGNAL_DBM


def test_a_downlink_is_written_as_the_manual_says() -> None:
    data = gwmp.pull_resp(0x0102, Downlink(b"\xf8\x34", (1 << 32) + 7, 868_100_000, 12, 125_000, 14))
    assert data[:4] == bytes.fromhex("02010203")
    assert json.loads(data[4:]) == {
        "txpk": {
            "imme": False, "tmst": 7, "freq": 868.1, "rfch": 0, "powe": 14, "modu": "LORA", "datr": "SF12BW125",
            "codr": "4/5", "ipol": True, "ncrc": True, "size": 2, "data": base64.b64encode(b"\xf8\x34").decode(),
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", ""),
        (b"\0", ""),
        (b'{"txpk_ack":{"error":"NONE"}}', ""),
        (b'{"txpk_ack":{"error":""}}', ""),
        (b'{"txpk_ack":{"warn":"TX_POWER","value":27}}', ""),
        (b'{"txpk_ack":{"error":"COLLISION_PACKET"}}', "COLLISION_PACKET"),
        (b'{"txpk_ack":{"error":"TOO_EARLY"}}\0', "TOO_EARLY"),
        (b'{"txpk_ack":{"error":"MOON_PHASE"}}', "other"),
    ],
)
def test_a_tx_ack_says_what_became_of_a_downlink(body: bytes, error: str) -> None:
    datagram = gwmp.decode(HEAD[:3] + bytes([gwmp.TX_ACK]) + HEAD[4:] + body)
    assert gwmp.transmitted(datagram.body) == error


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too short"),
        (HEAD[:11], "too short"),
        (b"\x01" + HEAD[1:], "not version 2 of the packet forwarder's protocol"),
        (HEAD[:3] + b"\x01" + HEAD[4:], "not a datagram of a concentrator"),
        (HEAD[:3] + b"\x03" + HEAD[4:], "not a datagram of a concentrator"),
        (HEAD[:3] + b"\x77" + HEAD[4:], "not a datagram of a concentrator"),
        (HEAD, "not JSON"),
        (HEAD + b"[]", "not a JSON object"),
        (HEAD + b'{"rxpk":', "not JSON"),
        (HEAD + b"x" * 20_000, "longer than 16384 bytes"),
    ],
)
def test_what_is_no_datagram_of_the_protocol_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as error:
        gwmp.decode(data)
    assert str(error.value) == reason


@pytest.mark.parametrize(
    "changed",
    [
        {"tmst": -1}, {"tmst": 1 << 32}, {"tmst": "7"}, {"tmst": None}, {"tmst": True},
        {"freq": 0}, {"freq": 1e30}, {"freq": "868.1"},
        {"stat": 2}, {"stat": None},
        {"datr": "SF13BW125"}, {"datr": "SF7BW100"}, {"datr": 50000}, {"datr": "SF7BW125 "},
        {"rssi": "strong"}, {"rssi": -1000}, {"lsnr": []},
        {"size": 31}, {"size": "32"},
        {"data": ""}, {"data": "!!!!"}, {"data": "A"}, {"data": 7}, {"data": "AAAA" * 100},
        {"data": "\N{SNOWMAN}" * 4},
    ],
    ids=str,
)  # fmt: skip
def test_a_packet_with_a_wrong_member_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(Rejected):
        gwmp.packet(SF7 | changed)


def test_a_list_of_too_many_packets_is_refused() -> None:
    with pytest.raises(Rejected, match="64"):
        gwmp.packets({"rxpk": [SF7] * 65})


PACKETS = st.builds(
    Packet, st.binary(min_size=1, max_size=255), st.integers(0, (1 << 32) - 1), st.integers(100_000_000, 1_000_000_000),
    st.integers(7, 12), st.sampled_from([125_000, 250_000, 500_000]), st.sampled_from([1, 0, -1]),
    st.integers(-150, 0), st.floats(-30, 20),
)  # fmt: skip


@given(PACKETS)
def test_any_packet_comes_out_as_it_went_in(packet: Packet) -> None:
    rxpk = {
        "tmst": packet.tmst_us, "freq": packet.frequency_hz / 1e6, "stat": packet.crc, "modu": "LORA",
        "datr": f"SF{packet.sf}BW{packet.bandwidth_hz // 1000}", "rssi": packet.rssi_dbm, "lsnr": packet.snr_db,
        "size": len(packet.frame), "data": base64.b64encode(packet.frame).decode(),
    }  # fmt: skip
    assert gwmp.packet(json.loads(json.dumps(rxpk))) == packet


@given(st.dictionaries(st.sampled_from([*SF7, "rsig"]), ANY_JSON))
def test_any_json_in_a_packet_is_taken_or_refused(changed: dict[str, Any]) -> None:
    with contextlib.suppress(Rejected):
        gwmp.packet(SF7 | changed)


def _spoilt(rng: random.Random, good: list[bytes]) -> bytes:
    """Bytes, or a good datagram with bytes changed, cut off or doubled."""
    if rng.random() < 0.2:
        return rng.randbytes(rng.randrange(300))
    data = bytearray(rng.choice(good))
    for _ in range(rng.randrange(4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]
    return bytes(data + data[12:] if rng.random() < 0.05 else data)


@pytest.mark.timeout(900)  # three minutes for the million
def test_a_million_spoilt_datagrams_are_counted_and_nothing_comes_of_them(full: bool) -> None:
    made = station()
    concentrator, board, rng = Concentrator(made), Board(), random.Random(5)
    concentrator.pull()
    frames = [board.readings(seq) for seq in range(3)]  # that the gateway never hears as they were sent
    good = [push({"rxpk": [SF7, concentrator.rxpk(frame[:-1] + b"x")]}) for frame in frames]
    good += [bytes.fromhex("02000105" + EUI) + b'{"txpk_ack":{"error":"TOO_LATE"}}', bytes.fromhex("02000102" + EUI)]
    for _ in range(1_000_000 if full else 5_000):
        made.core.receive("lora", concentrator.address, _spoilt(rng, good), made.now_ms)
        made.now_ms += 7
        made.core.take_outputs()
    assert not made.on_disk()
    assert made.core.lora is not None
    view = made.core.lora.view(made.now_ms)
    assert sum(view["rejected"].values()) > 1_000
    assert len(view["rejected"]) <= 64
    assert len(view["concentrators"]) <= 16
    made.forget()
    made.at(made.now_ms)
    concentrator.pull()
    concentrator.hear(board.readings(7))
    made.later(1_000)
    assert board.opens(concentrator.downlinks()[-1][1])[0][1]["upto"] == 7


@pytest.mark.timeout(900)  # three minutes for the million
def test_a_million_spoilt_frames_are_counted_and_nothing_comes_of_them(full: bool) -> None:
    made = station()
    concentrator, board, rng = Concentrator(made), Board(), random.Random(6)
    frames = [board.readings(0, 1), board.heartbeat(), board.ack("c-1")]
    for _ in range(1_000_000 if full else 5_000):
        spoilt = _spoilt(rng, frames)[:255]
        if spoilt not in frames:
            concentrator.hear(spoilt)
        made.now_ms += 7
        made.core.take_outputs()
        made.outputs.clear()
    assert not made.on_disk()
    assert made.core.lora is not None
    view = made.core.lora.view(made.now_ms)
    assert view["rejected"]["a frame under another key"] > 500
    assert view["foreign"] > 500
