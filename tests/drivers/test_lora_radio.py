"""The radio of a board, on a modem that does as micropython-lib documents the polled calls of its `lora` packages."""

from typing import Any

import pytest

from firmware.drivers.lora_radio import GUARD_MS, IDLE, POLL_MS, SEND_TIMEOUT_MS, LoraRadio
from firmware.wire.airtime import time_on_air_us
from firmware.wire.lora import RECEIVE_DELAY_MS
from firmware.wire.outputs import Transmit

FRAME = b"\xe0" + bytes(39)
UP = Transmit(868_300_000, 9, FRAME)


class RxPacket(bytearray):
    """What `poll_recv` gives: a bytearray with `rssi`, `snr`, `ticks_ms` and `crc_error`."""

    rssi, snr, ticks_ms, crc_error = -90, 20, 0, False


class Modem:
    """Sends for as long as a frame takes; hears `answer` if it listens when that begins."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.config: dict[str, Any] = {}
        self.sent: list[tuple[int, bytes]] = []
        self.calls: list[str] = []
        self.answer: tuple[int, bytes] | None = None  # when it begins
        self.listened: list[tuple[int, int]] = []
        self.dead = self.stuck = False
        self._prepared: bytes | None = None
        self._sending_until_ms: int | None = None
        self._receiving: tuple[int, int] | None = None

    def configure(self, lora_cfg: dict[str, Any]) -> None:
        self.config |= lora_cfg

    def standby(self) -> None:
        self._sending_until_ms = self._receiving = None

    def sleep(self) -> None:
        self.standby()
        self.calls.append("sleep")

    def prepare_send(self, packet: bytes) -> None:
        if self.dead:
            raise RuntimeError("modem is dead")
        self._prepared = bytes(packet)

    def start_send(self) -> bool:
        assert self._prepared is not None
        self._sending_until_ms = self.now_ms + time_on_air_us(len(self._prepared), self.config["sf"]) // 1000
        self.sent.append((self.now_ms, self._prepared))
        return False

    def poll_send(self) -> bool | int:
        if self._sending_until_ms is None:
            return False
        if self.stuck or self.now_ms < self._sending_until_ms:
            return True
        ended_ms, self._sending_until_ms = self._sending_until_ms, None
        return ended_ms

    def start_recv(self, timeout_ms: int | None = None, continuous: bool = False, rx_length: int = 0xFF) -> bool:
        assert timeout_ms is not None and not continuous
        self._receiving = (self.now_ms, self.now_ms + timeout_ms)
        self.listened.append(self._receiving)
        return False

    def poll_recv(self, rx_packet: object = None) -> bool | RxPacket:
        if self._receiving is None:
            return False
        begins_ms, until_ms = self._receiving
        if self.answer and begins_ms <= self.answer[0] <= until_ms:
            if self.now_ms < self.answer[0] + time_on_air_us(len(self.answer[1]), self.config["sf"], False) // 1000:
                return True
            self._receiving = None
            return RxPacket(self.answer[1])
        if self.now_ms < until_ms:
            return True
        self._receiving = None
        return False


def live(radio: LoraRadio, modem: Modem, until_ms: int) -> list[bytes]:
    """As a board's loop does: wait for the deadline, serve."""
    heard: list[bytes] = []
    while (due_ms := radio.next_deadline()) is not None and due_ms < until_ms:
        modem.now_ms = max(modem.now_ms + 1, due_ms)
        heard += radio.serve(modem.now_ms)
    modem.now_ms = until_ms
    return heard


@pytest.mark.parametrize("sf", [7, 9, 12])
@pytest.mark.parametrize("early_ms", [-5, 0, 5])
def test_a_frame_goes_out_and_an_answer_a_second_after_its_end_is_heard(sf: int, early_ms: int) -> None:
    modem = Modem()
    radio = LoraRadio(modem)
    end_ms = time_on_air_us(len(FRAME), sf) // 1000
    modem.answer = (end_ms + RECEIVE_DELAY_MS - early_ms, b"answer")
    radio.transmit(Transmit(868_300_000, sf, FRAME), 0)
    assert live(radio, modem, 20_000) == [b"answer"]
    assert modem.sent == [(0, FRAME)] and radio.state == IDLE and radio.next_deadline() is None
    assert (modem.config["freq_khz"], modem.config["sf"]) == (868_300, sf)


def test_it_is_set_up_as_a_node_towards_concentrators() -> None:
    modem = Modem()
    LoraRadio(modem)
    expected = {"bw": 125, "coding_rate": 5, "preamble_len": 8, "syncword": 0x34, "crc_en": True, "output_power": 14}
    assert {name: modem.config[name] for name in expected} == expected
    assert (modem.config["invert_iq_tx"], modem.config["invert_iq_rx"]) == (False, True)
    assert modem.calls == ["sleep"]


def test_without_an_answer_it_listens_for_a_preamble_only_and_sleeps() -> None:
    modem = Modem()
    radio = LoraRadio(modem)
    radio.transmit(UP, 0)
    assert live(radio, modem, 20_000) == []
    ((from_ms, until_ms),) = modem.listened
    opens_ms = time_on_air_us(len(FRAME), 9) // 1000 + RECEIVE_DELAY_MS
    assert from_ms < opens_ms < until_ms and until_ms - from_ms <= 2 * GUARD_MS + 33 and modem.calls[-1] == "sleep"


def test_an_answer_outside_of_the_window_is_not_heard() -> None:
    modem = Modem()
    radio = LoraRadio(modem)
    modem.answer = (time_on_air_us(len(FRAME), 9) // 1000 + 500, b"early")
    radio.transmit(UP, 0)
    assert live(radio, modem, 20_000) == []


def test_the_modem_is_not_asked_more_often_than_is_good_for_it() -> None:
    modem = Modem()
    radio = LoraRadio(modem)
    radio.transmit(UP, 0)
    radio.serve(0)
    assert radio.next_deadline() == POLL_MS


def test_a_dead_modem_is_counted_and_asked_again_with_the_next_frame() -> None:
    modem = Modem()
    radio = LoraRadio(modem)
    modem.dead = True
    radio.transmit(UP, 0)
    assert (radio.failures, radio.state) == (1, IDLE)
    modem.dead = False
    radio.transmit(UP, 10)
    live(radio, modem, 20_000)
    assert len(modem.sent) == 1 and radio.failures == 1


def test_a_modem_that_never_ends_is_given_up() -> None:
    modem = Modem()
    radio = LoraRadio(modem)
    modem.stuck = True
    radio.transmit(UP, 0)
    live(radio, modem, SEND_TIMEOUT_MS + 1000)
    assert (radio.failures, radio.state) == (1, IDLE)


def test_a_frame_while_another_is_under_way_takes_its_place() -> None:
    modem = Modem()
    radio = LoraRadio(modem)
    radio.transmit(UP, 0)
    radio.transmit(UP, 5)
    live(radio, modem, 20_000)
    assert len(modem.sent) == 2 and len(modem.listened) == 1
