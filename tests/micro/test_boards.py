"""The hosts of ESP32 and Pico W with a fake `machine`, `network` and `time`: radio, sleep, watchdog, lights, flash."""

import json
import random
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from firmware.drivers.wiring import Hardware
from firmware.hosts.micro import esp32, pico
from firmware.hosts.micro.board import Board
from firmware.hosts.micro.life import Life
from firmware.hosts.micro.wifi import ATTEMPT_MS, Wifi, WifiLink

KEY = bytes(32)
PASSWORD = "correct horse"


class Time:
    """MicroPython's `time`, which wraps, and moves when something waits."""

    period = 1 << 30

    def __init__(self) -> None:
        self.now_ms = self.period - 500

    def ticks_ms(self) -> int:
        return self.now_ms % self.period

    def ticks_diff(self, new: int, old: int) -> int:
        return (new - old + self.period // 2) % self.period - self.period // 2


class DeepSleep(Exception):
    """RAM is lost."""


class Pin:
    OUT, IN, PULL_UP, PULL_DOWN = 1, 0, 1, 2

    def __init__(self, number: Any, mode: int = 0, pull: int = 0, value: int = 0) -> None:
        self.levels = [value]

    def value(self, level: int | None = None) -> int:
        if level is not None:
            self.levels.append(int(level))
        return self.levels[-1]


class Machine:
    """Of both kinds of board."""

    PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5

    def __init__(self, time: Time) -> None:
        self._time = time
        self.cause = self.PWRON_RESET
        self.naps: list[int] = []
        self.fed_ms: list[int] = []
        self.raw = 30000
        self.pins: dict[Any, Pin] = {}
        self.kept = b""

    def RTC(self) -> Any:
        return SimpleNamespace(memory=self._memory)

    def _memory(self, data: bytes | None = None) -> bytes:
        self.kept = self.kept if data is None else data
        return self.kept

    def Pin(self, number: Any, *rest: int, **more: int) -> Pin:
        return self.pins.setdefault(number, Pin(number, *rest, **more))

    def ADC(self, pin: Pin) -> Any:
        return SimpleNamespace(read_u16=lambda: self.raw)

    def WDT(self, timeout: int) -> Any:
        return SimpleNamespace(feed=lambda: self.fed_ms.append(self._time.now_ms), timeout=timeout)

    def unique_id(self) -> bytes:
        return b"\x01\x02"

    def reset_cause(self) -> int:
        return self.cause

    def lightsleep(self, for_ms: int) -> None:
        self.naps.append(for_ms)
        self._time.now_ms += for_ms

    def deepsleep(self, for_ms: int) -> None:
        raise DeepSleep(for_ms)


Machine.Pin.OUT, Machine.Pin.IN, Machine.Pin.PULL_UP, Machine.Pin.PULL_DOWN = 1, 0, 1, 2  # type: ignore[attr-defined]


class Network:
    """One access point, in reach or not."""

    STA_IF, STAT_WRONG_PASSWORD, STAT_NO_AP_FOUND = 0, -3, -2

    def __init__(self) -> None:
        self.there = True
        self.attempts: list[int] = []
        self.joined = False
        self.on = False
        self.answer = 3

    def WLAN(self, interface: int) -> "Network":
        return self

    def active(self, on: bool) -> None:
        self.on = on
        self.joined = self.joined and on

    def connect(self, ssid: str, password: str) -> None:
        self.attempts.append(1)
        self.joined = self.there and password == PASSWORD
        self.answer = 3 if self.joined else self.STAT_NO_AP_FOUND if not self.there else self.STAT_WRONG_PASSWORD

    def disconnect(self) -> None:
        self.joined = False

    def isconnected(self) -> bool:
        return self.joined

    def status(self) -> int:
        return self.answer

    def ifconfig(self) -> tuple[str, ...]:
        return ("192.168.1.201", "", "", "")


class Bench:
    """A board on the bench, with a node on it; `kind` is one of the two."""

    def __init__(
        self,
        directory: Path,
        kind: ModuleType = pico,
        sensor: dict[str, Any] | None = None,
        every_ms: int = 60000,
        **core: Any,
    ) -> None:
        self.time = Time()
        self.machine = Machine(self.time)
        self.network = Network()
        part = sensor or {"kind": "analog", "pin": 26, "what": "soil", "low": [10000, 0], "high": [50000, 1000]}
        entry = {"part": "probe"} if part["kind"] == "contact" else {"part": "probe", "what": "soil"}
        metric = {"metric": "soil", "unit": "%", "exp": 0, "every_ms": None if part["kind"] == "contact" else every_ms}
        self.config = {
            "core": {
                "id": "sensor-01", "fleet": "f", "key": KEY, "backlog_readings": 9, "sensors": [metric],
                "home": {"id": "g", "target": "127.0.0.1:1"}, **core,
            },
            "flash": {"directory": str(directory / "ring"), "sectors": 5, "sector_bytes": 4096},
            "board": {
                "kind": kind.NAME, "wifi_ssid": "shed", "wifi_password": PASSWORD, "alarm_pin": 15,
                "battery": {"pin": 27, "low": [10000, 1000], "high": [50000, 5000]},
                "parts": {"probe": part}, "sensors": [entry],
            },
        }  # fmt: skip
        self.kind = kind
        self.life = self.power_on()

    def power_on(self) -> Life:
        hardware = Hardware(self.machine, self.time, None)
        board = Board(self.config, self.kind, hardware, self.network)
        board.poller = SimpleNamespace(poll=self._wait, register=lambda *_: None, modify=lambda *_: None)
        self.life = Life(board, self.machine, self.time, "0123")
        return self.life

    def _wait(self, for_ms: int) -> list[Any]:
        self.time.now_ms += max(for_ms, 1)
        return []

    def turns(self, for_ms: int) -> None:
        until_ms = self.time.now_ms + for_ms
        while self.time.now_ms < until_ms:
            self.life.turn()

    def kept(self) -> list[Any]:
        return self.life.board.flash.mount().get("readings", [])


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


def test_a_board_samples_its_parts_on_its_period_while_it_has_no_gateway(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path)
    bench.turns(185_000)
    produced = [event for event in said(capsys) if event["kind"] == "reading.produced"]
    assert [round(event["t_ms"], -3) for event in produced] == [0, 60_000, 120_000, 180_000]
    assert {event["value"] for event in produced} == {500}
    assert len(bench.kept()) == 4


def test_a_part_that_fails_gives_no_value_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path)
    bench.machine.raw = 65535
    bench.turns(1000)
    output = capsys.readouterr().out
    assert "sensor 0 failed: not connected, or shorted" in output
    assert "reading.produced" not in output and '"sensor.fault"' in output


def test_the_watchdog_is_fed_long_before_it_bites_on_every_kind_of_board(tmp_path: Path) -> None:
    for kind in (esp32, pico):
        bench = Bench(tmp_path / kind.NAME, kind) if (tmp_path / kind.NAME).mkdir() is None else None
        assert bench is not None
        bench.turns(120_000)
        fed = bench.machine.fed_ms
        assert max(b - a for a, b in pairwise(fed)) < kind.WATCHDOG_MS / 2


def test_hello_says_who_starts_and_why_and_the_boot_number_counts_every_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, esp32)
    bench.machine.cause = Machine.WDT_RESET
    bench.power_on()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("hello ")]
    first, second = (json.loads(line.removeprefix("hello ")) for line in lines)
    assert (first["cause"], second["cause"]) == ("power-on", "watchdog")
    assert second["boot"] == first["boot"] + 1
    assert (first["board"], first["board_id"], first["firmware"]) == ("esp32", "0102", "0123")
    assert PASSWORD not in str(lines) and KEY.hex() not in str(lines)


def test_an_esp32_sleeps_deeply_and_goes_on_from_flash_while_a_pico_keeps_its_memory(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "p").mkdir()
    deep = Bench(tmp_path / "e", esp32, every_ms=300_000, sleep=True)
    for slept in range(1, 3):
        with pytest.raises(DeepSleep):
            deep.turns(200_000)
        assert not deep.network.on
        deep.machine.cause = Machine.DEEPSLEEP_RESET
        assert len(deep.power_on().core.backlog) == slept

    light = Bench(tmp_path / "p", pico, sleep=True)
    core = light.life.core
    light.turns(200_000)
    assert sum(light.machine.naps) > 60_000
    assert max(light.machine.naps) <= pico.WATCHDOG_MS
    assert light.life.core is core and len(core.backlog) >= 3


def test_a_lost_gateway_stays_lost_through_deep_sleeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, esp32, every_ms=300_000, sleep=True)
    for _ in range(4):
        with pytest.raises(DeepSleep):
            bench.turns(200_000)
        bench.machine.cause = Machine.DEEPSLEEP_RESET
        bench.power_on()
    scans = [event["silent_ms"] for event in said(capsys) if event["kind"] == "failover.scan"]
    assert scans and min(scans) > 3 * 300_000
    bench.machine.kept = b"\xff garbage"
    bench.power_on()


def test_a_board_with_a_contact_stays_awake_for_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, esp32, {"kind": "contact", "pin": 4}, sleep=True)
    bench.turns(200_000)
    assert bench.machine.naps == []


def test_lights_and_buzzer_do_what_the_core_says(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.life.board.alarm(True, "gateway")
    assert bench.machine.pins[15].levels[-1] == 1
    bench.life.board.alarm(False, "")
    assert bench.machine.pins[15].levels[-1] == 0
    bench.life.board.identify(3000)
    bench.turns(10_000)
    blinks = bench.machine.pins["LED"].levels
    assert blinks.count(1) >= 4 and blinks[-1] == 0


def test_the_battery_is_measured_and_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path, low_battery_mv=3300)
    bench.turns(1000)
    assert bench.life.core.presence.battery_mv == 3000
    assert bench.life.core.presence.low_battery


def wifi(network: Network, password: str = PASSWORD) -> tuple[Wifi, list[str]]:
    log: list[str] = []
    return Wifi(network, "shed", password, random.Random(1), log.append), log


def test_the_wifi_is_tried_again_with_growing_pauses_and_says_why_but_never_its_password() -> None:
    network = Network()
    network.there = False
    made, log = wifi(network)
    now_ms = 0
    while now_ms < 200_000:
        made.serve(now_ms)
        now_ms = max(made.next_deadline(now_ms), now_ms + 1)
    assert 6 < len(network.attempts) < 16
    assert "no network of this name is in reach" in log[0]
    network.there = True
    while not made.up:
        made.serve(now_ms)
        now_ms = max(made.next_deadline(now_ms), now_ms + 1)
    assert log[-1] == "the Wi-Fi shed is up, the address is 192.168.1.201"
    refused, told = wifi(network, "wrong battery")
    network.joined = False
    refused.serve(0)
    refused.serve(250)
    assert "the password is wrong" in told[0]
    assert "battery" not in str(told) and PASSWORD not in str(log)


def test_an_access_point_that_never_answers_is_given_up() -> None:
    network = Network()
    made, log = wifi(network)
    made.serve(0)
    network.joined, network.answer = False, 1
    made.serve(ATTEMPT_MS - 1)
    assert log == []
    made.serve(ATTEMPT_MS)
    assert log[0].startswith("the Wi-Fi shed: no answer within 20 s; again in")


def test_a_connection_waits_for_the_wifi_and_ends_with_it() -> None:
    calls: list[str] = []
    under = SimpleNamespace(
        connect=lambda target, now_ms: calls.append(target),
        disconnect=lambda: calls.append("-"),
        serve=lambda now_ms: [],
    )
    network = Network()
    made, _ = wifi(network)
    link = WifiLink(made, under)
    link.connect("10.0.0.1:1883", 0)
    assert link.serve(0) == [] and calls == ["-"]
    made.serve(0)
    made.serve(1)
    assert link.serve(1) == [] and calls == ["-", "10.0.0.1:1883"]
    network.joined = False
    made.serve(2)
    assert link.serve(2) == [("down", "the Wi-Fi is gone")]
    assert link.serve(3) == []
