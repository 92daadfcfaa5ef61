"""A board's sensors together: one part for several sensors, what takes its time, what fails, and how it is wired."""

from typing import Any

import pytest

from firmware.core import profiles
from firmware.drivers import Fault
from firmware.drivers.sensors import Sensors, rescale
from firmware.drivers.wiring import Hardware, WiringError, board_id, wire
from tests.drivers.fakes import Adc, Board, Card, Ds18b20Part, OneWireSlots, Rc522Chip, Scd4xBus, Uart
from tests.firmware_core.rig import Board as Node


class Part:
    """Measures two things in `takes_ms`."""

    def __init__(self, takes_ms: int = 500) -> None:
        self.exp = {"temp": 1, "humidity": 1}
        self.takes_ms = takes_ms
        self.begun = 0
        self.ready_ms = 0
        self.fails: Exception | None = None
        self.fails_to_begin: Exception | None = None

    def begin(self, now_ms: int) -> None:
        if self.fails_to_begin:
            raise self.fails_to_begin
        self.begun += 1
        self.ready_ms = now_ms + self.takes_ms

    def read(self, now_ms: int) -> dict[str, int]:
        if self.fails:
            raise self.fails
        return {"temp": 215, "humidity": 480}


def both(part: Part) -> Sensors:
    return Sensors([(part, "temp", 2), (part, "humidity", 0)])


def test_sensors_of_one_part_that_are_asked_together_are_one_measurement() -> None:
    part = Part()
    sensors = both(part)
    sensors.start(0, 0)
    sensors.start(1, 0)
    sensors.start(1, 10)
    assert (part.begun, sensors.next_deadline(), sensors.poll(499)) == (1, 500, [])
    assert sensors.poll(500) == [(0, 2150, ""), (1, 48, "")]
    assert (sensors.poll(501), sensors.next_deadline()) == ([], None)


@pytest.mark.parametrize("error", [Fault("no answer"), OSError(19, "ENODEV")])
def test_a_part_that_fails_gives_no_value_and_the_reason(error: Exception) -> None:
    part = Part()
    sensors = both(part)
    for name in ("fails", "fails_to_begin"):
        setattr(part, name, error)
        sensors.start(0, 0)
        sensors.start(1, 0)
        results = sensors.poll(500)
        assert [(index, value) for index, value, _ in results] == [(0, None), (1, None)]
        assert all(str(error) in reason for _, _, reason in results)


def test_a_part_that_recovers_is_read_again() -> None:
    part = Part()
    sensors = both(part)
    part.fails_to_begin = Fault("gone")
    sensors.start(0, 0)
    sensors.poll(0)
    part.fails_to_begin = None
    sensors.start(0, 1000)
    assert sensors.poll(1500) == [(0, 2150, "")]


@pytest.mark.parametrize(
    ("value", "exp", "wanted", "rescaled"),
    [(215, 1, 2, 2150), (-101, 1, 0, -10), (105, 1, 0, 11), (-105, 1, 0, -11), (-104, 1, 0, -10), (250625, 4, 2, 2506),
     (True, 0, 2, True), ("a", 0, 2, "a"), (7, 0, 0, 7)],
)  # fmt: skip
def test_values_take_the_resolution_of_their_sensor(value: Any, exp: int, wanted: int, rescaled: Any) -> None:
    assert rescale(value, exp, wanted) == rescaled


# --- wiring -----------------------------------------------------------------------------------------------------------

RFID = {"kind": "rc522", "sck": 2, "mosi": 3, "miso": 4, "select": 5}
AIR = {"kind": "scd4x", "scl": 1, "sda": 0}
PROBE = {"kind": "ds18b20", "pin": 6}
SOIL = {"kind": "analog", "pin": 26, "what": "soil_moisture", "exp": 1, "low": [57592, 0], "high": [23831, 1000]}


class Time:
    @staticmethod
    def sleep_ms(ms: int) -> None: ...

    @staticmethod
    def sleep_us(us: int) -> None: ...


def hardware(*parts: Ds18b20Part, **buses: Any) -> Hardware:
    return Hardware(Board(**buses), Time, OneWireSlots(*parts))


def wired(part: dict[str, Any], what: str | None, exp: int, hardware: Hardware) -> Sensors:
    sensors = wire({"parts": {"it": part}, "sensors": [{"part": "it", "what": what}]}, [exp], hardware)
    if part is RFID:
        hardware.machine.SPI(0).select = hardware.machine.pins[5]
    return sensors


def test_each_kind_of_part_is_wired_and_read() -> None:
    assert wired(RFID, None, 0, hardware(spi=Rc522Chip())).poll(0) == []
    for part, what, exp, parts, buses, value in (
        (PROBE, "temp", 2, [Ds18b20Part(7)], {}, 2506),
        (SOIL, "soil_moisture", 1, [], {"adc": Adc(40712)}, 500),
        ({"kind": "level", "pin": 1, "what": "leak", "active_low": True}, "leak", 0, [], {}, False),
    ):
        sensors = wired(part, what, exp, hardware(*parts, **buses))
        sensors.start(0, 0)
        assert sensors.poll(1000) == [(0, value, "")]
    assert wired({"kind": "contact", "pin": 1, "active_low": True}, None, 0, hardware()).poll(0) == []
    assert wired({"kind": "dht22", "pin": 1}, "temp", 2, hardware()).next_deadline() is None
    assert wired({"kind": "gps", "tx": 0, "rx": 1}, "position", 0, hardware(uart=Uart())).next_deadline() is None


def test_of_several_probes_on_one_wire_each_is_told_by_its_rom_code() -> None:
    warm, cold = Ds18b20Part(1, 0x0191), Ds18b20Part(2, 0xFFF8)
    spec = PROBE | {"rom": cold.rom.hex()}
    sensors = wired(spec, "temp", 4, hardware(warm, cold))
    sensors.start(0, 0)
    assert sensors.poll(750) == [(0, -5000, "")]
    with pytest.raises(WiringError, match=warm.rom.hex()):
        wired(PROBE, "temp", 4, hardware(warm, cold))


@pytest.mark.parametrize(
    ("part", "what", "words"),
    [
        ({"kind": "dht23"}, "temp", "kind is none of analog"),
        ({"kind": "dht22"}, "temp", "'it': pin is missing"),
        ({"kind": "dht22", "pin": 1}, "co2", "measures humidity, temp, not 'co2'"),
        (PROBE | {"rom": "0102"}, "temp", "ROM code"),
        (PROBE | {"rom": "x"}, "temp", "'it'"),
        (SOIL | {"high": [57592, 5]}, "soil_moisture", "two points"),
    ],
)
def test_a_wiring_that_cannot_be_says_what_is_wrong(part: dict[str, Any], what: str, words: str) -> None:
    with pytest.raises(WiringError, match=words):
        wired(part, what, 0, hardware(Ds18b20Part(1), adc=Adc(1)))
    with pytest.raises(WiringError, match="no part 'other'"):
        wire({"parts": {}, "sensors": [{"part": "other"}]}, [0], hardware())


def test_boards_are_told_apart_by_their_unique_id() -> None:
    assert board_id(Board()) == "e6614104031a2b3c"


# --- from the part to the message -------------------------------------------------------------------------------------


def turn(node: Node, sensors: Sensors, now_ms: int) -> None:
    """One turn of a board's host."""
    for index, value, _ in sensors.poll(now_ms):
        node.core.sampled(index, value, now_ms)
    node.pump()


def test_a_meeting_rooms_air_goes_from_the_bus_to_the_gateway_and_a_broken_part_sends_no_value() -> None:
    bus = Scd4xBus()
    config = profiles.node("meeting-room")
    names = [sensor["metric"] for sensor in config["sensors"]]
    exps = [sensor["exp"] for sensor in config["sensors"]]
    machine = Hardware(Board(i2c=bus), bus, None)
    wiring = [{"part": "air", "what": name} for name in names]
    sensors = wire({"parts": {"air": AIR}, "sensors": wiring}, exps, machine)
    node = Node(**config).started()
    for index in range(3):
        sensors.start(index, 0)
    for now_ms in range(0, 7000, 50):
        bus.now_ms = max(bus.now_ms, now_ms)
        turn(node, sensors, now_ms)
    assert [node.sent(name)[-1]["value"] for name in names] == [500, 25.0, 37.0]
    bus.dead = True
    node.forget()
    sensors.start(0, 60_000)
    turn(node, sensors, 60_000)
    assert [event["reason"] for event in node.events("sensor.fault")] == ["failed"]
    assert node.sent("co2") == []


def test_a_card_at_the_gate_is_an_event_for_the_gateway() -> None:
    chip = Rc522Chip(Card("deadbeef"))
    sensors = wired(RFID, None, 0, Hardware(Board(spi=chip), Time, None))
    node = Node(**profiles.node("warehouse-gate")).started()
    turn(node, sensors, 0)
    [reading] = node.sent("rfid")
    assert (reading["value"], reading["event"]) == ("deadbeef", True)


def test_every_profile_is_a_node_that_runs_and_door_motion_and_rfid_are_events() -> None:
    for name in profiles.NODES:
        node = Node(**profiles.node(name)).started()
        assert node.kinds()[0] == "node.started"
        assert node.config["type"] in ("microclaw", "picoclaw")
    events = {name for name in profiles.SENSORS if profiles.sensor(name)["event"]}
    assert events == {"door", "motion", "rfid", "leak"}
    polled = {name for name in profiles.SENSORS if profiles.sensor(name)["every_ms"] is None}
    assert polled == {"door", "motion", "rfid"}
