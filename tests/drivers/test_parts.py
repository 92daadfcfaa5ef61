"""The parts that are asked, against the examples of their data sheets and against what goes wrong on a wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.drivers import Fault
from firmware.drivers.analog import Analog
from firmware.drivers.crc import crc8_maxim, crc8_sensirion, crc16_a
from firmware.drivers.dht22 import REST_MS, Dht22
from firmware.drivers.digital import Level
from firmware.drivers.ds18b20 import Ds18b20, find
from firmware.drivers.gps import Gps, sentence
from firmware.drivers.onewire import OneWire
from firmware.drivers.scd4x import PERIOD_MS, STOP_MS, Scd4x
from tests.drivers.fakes import Adc, Dht22Line, Ds18b20Part, OneWireSlots, Pin, Scd4xBus, Uart


def test_the_checksums_are_those_of_the_data_sheets() -> None:
    assert crc8_maxim(bytes.fromhex("021cb801000000")) == 0xA2  # Maxim, application note 27
    assert crc8_sensirion(b"\xbe\xef") == 0x92  # SCD4x, section 3.12
    assert (crc16_a(b"\x00\x00"), crc16_a(b"\x12\x34")) == (b"\xa0\x1e", b"\x26\xcf")  # ISO/IEC 14443-3, annex B


# --- DHT22 ------------------------------------------------------------------------------------------------------------


def dht22(line: Dht22Line) -> Dht22:
    return Dht22(line, line, line.sleep_us)


@pytest.mark.parametrize(
    ("frame", "humidity", "temp"),
    [("028c015fee", 652, 351), ("028c8065 73".replace(" ", ""), 652, -101), ("0000000000", 0, 0)],
)
@pytest.mark.parametrize("overhead_us", [2, 10, 40])
def test_a_dht22_reads_as_in_its_data_sheet_also_on_a_slow_board(
    frame: str, humidity: int, temp: int, overhead_us: int
) -> None:
    line = Dht22Line(bytes.fromhex(frame), overhead_us)
    assert dht22(line).read(0) == {"humidity": humidity, "temp": temp}
    assert line.irq


def test_a_dht22_has_its_rest_between_two_measurements() -> None:
    part = dht22(Dht22Line(bytes.fromhex("028c015fee")))
    part.begin(1000)
    part.read(1000)
    part.begin(1500)
    assert part.ready_ms == 1000 + REST_MS


@given(st.binary(min_size=5, max_size=5))
def test_a_dht22_frame_with_a_wrong_checksum_is_a_fault(frame: bytes) -> None:
    if sum(frame[:4]) & 0xFF == frame[4]:
        dht22(Dht22Line(frame)).read(0)
    else:
        with pytest.raises(Fault, match="checksum"):
            dht22(Dht22Line(frame)).read(0)


@pytest.mark.parametrize("missing", [1, 7, 39])
def test_a_dht22_that_stops_in_the_middle_is_a_fault(missing: int) -> None:
    line = Dht22Line(bytes.fromhex("028c015fee"))
    line.cut_bits = missing
    with pytest.raises(Fault, match="missing"):
        dht22(line).read(0)
    assert line.irq


def test_a_dht22_that_is_not_there_is_a_fault() -> None:
    line = Dht22Line(b"")
    line.init = lambda mode, pull=1: None  # type: ignore[method-assign]
    with pytest.raises(Fault, match="no answer"):
        dht22(line).read(0)


# --- DS18B20 ----------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 2**48 - 1), min_size=1, max_size=12))
def test_a_search_finds_every_part_on_the_wire_once(serials: set[int]) -> None:
    parts = [Ds18b20Part(serial) for serial in serials]
    found = find(OneWire(OneWireSlots(*parts), Pin()))
    assert sorted(found) == sorted(part.rom for part in parts)
    assert len(found) == len(parts)


@pytest.mark.parametrize(
    ("raw", "temp"),
    [
        (0x07D0, 1250000), (0x0550, 850000), (0x0191, 250625), (0x00A2, 101250), (0x0008, 5000), (0x0000, 0),
        (0xFFF8, -5000), (0xFF5E, -101250), (0xFE6F, -250625), (0xFC90, -550000),
    ],
)  # fmt: skip
def test_a_ds18b20_reads_as_in_its_data_sheet(raw: int, temp: int) -> None:
    part, other = Ds18b20Part(1, raw), Ds18b20Part(2, 0x0000)
    driver = Ds18b20(OneWire(OneWireSlots(other, part), Pin()), part.rom)
    driver.begin(0)
    assert driver.read(driver.ready_ms) == {"temp": temp}


def test_the_85_degrees_of_a_ds18b20_without_power_are_no_reading() -> None:
    part = Ds18b20Part(1)
    driver = Ds18b20(OneWire(OneWireSlots(part), Pin()), part.rom)
    driver.begin(0)
    part.power_on()
    with pytest.raises(Fault, match="power"):
        driver.read(750)


def test_a_ds18b20_that_is_gone_shorted_or_disturbed_is_a_fault() -> None:
    part, other = Ds18b20Part(1), Ds18b20Part(2)
    slots = OneWireSlots(part, other)
    driver = Ds18b20(OneWire(slots, Pin()), part.rom)
    driver.begin(0)
    part.pad = part.pad[:3] + b"\x00" + part.pad[4:]
    with pytest.raises(Fault, match="checksum"):
        driver.read(750)
    slots.readbit = lambda pin: 0  # type: ignore[method-assign]
    with pytest.raises(Fault, match="checksum"):
        driver.read(750)
    del slots.readbit  # type: ignore[method-assign]
    slots.parts.remove(part)
    with pytest.raises(Fault, match="no answer"):
        driver.read(750)
    slots.parts.remove(other)
    with pytest.raises(Fault, match="nobody"):
        driver.begin(1000)


def test_a_search_on_a_shorted_wire_ends_in_a_fault() -> None:
    slots = OneWireSlots(Ds18b20Part(1))
    slots.readbit = lambda pin: 0  # type: ignore[method-assign]
    with pytest.raises(Fault, match="damaged"):
        OneWire(slots, Pin()).search()


def test_another_kind_of_part_is_refused() -> None:
    with pytest.raises(ValueError, match="ROM"):
        Ds18b20(OneWire(OneWireSlots(), Pin()), bytes.fromhex("021cb801000000a2"))


# --- SCD4x ------------------------------------------------------------------------------------------------------------


def measured(bus: Scd4xBus, part: Scd4x) -> dict[str, int]:
    """Begin, and wait as long as the part wants."""
    part.begin(int(bus.now_ms))
    for _ in range(60):
        bus.now_ms = max(bus.now_ms, part.ready_ms)
        values = part.read(int(bus.now_ms))
        if values is not None:
            return dict(values)
    raise AssertionError("it is never ready")


def test_an_scd4x_reads_as_in_its_data_sheet() -> None:
    bus = Scd4xBus()
    part = Scd4x(bus, bus.sleep_ms)
    assert measured(bus, part) == {"co2": 500, "temp": 2500, "humidity": 3700}
    assert bus.now_ms >= STOP_MS + PERIOD_MS


def test_an_scd4x_goes_on_measuring_and_an_early_question_waits_for_its_data() -> None:
    bus = Scd4xBus()
    part = Scd4x(bus, bus.sleep_ms)
    measured(bus, part)
    before_ms = bus.now_ms
    measured(bus, part)
    assert PERIOD_MS - 10 <= bus.now_ms - before_ms <= PERIOD_MS + 600


def test_an_scd4x_that_measures_already_when_the_board_starts_is_started_anew() -> None:
    bus = Scd4xBus()
    bus.measuring_since = 0.0
    assert measured(bus, Scd4x(bus, bus.sleep_ms))["co2"] == 500


def test_an_scd4x_with_a_wrong_checksum_is_a_fault_and_begins_again() -> None:
    bus = Scd4xBus()
    part = Scd4x(bus, bus.sleep_ms)
    measured(bus, part)
    bus.damage = True
    with pytest.raises(Fault, match="checksum"):
        measured(bus, part)
    bus.damage = False
    assert measured(bus, part)["co2"] == 500


def test_an_scd4x_that_lost_its_power_measures_again_after_one_fault() -> None:
    bus = Scd4xBus()
    part = Scd4x(bus, bus.sleep_ms)
    measured(bus, part)
    bus.measuring_since = None
    with pytest.raises(Fault, match="does not measure"):
        measured(bus, part)
    assert measured(bus, part)["co2"] == 500


def test_an_scd4x_that_is_not_there_is_an_error_of_the_bus() -> None:
    bus = Scd4xBus()
    bus.dead = True
    with pytest.raises(OSError, match="ENODEV"):
        Scd4x(bus, bus.sleep_ms).begin(0)


# --- ADC, level, GPS --------------------------------------------------------------------------------------------------


def soil(*raw: int) -> Analog:
    """A capacitive probe: 2.9 V of 3.3 V in air, 1.2 V in water."""
    return Analog(Adc(*raw), "soil_moisture", 1, (57592, 0), (23831, 1000))


@pytest.mark.parametrize(("raw", "value"), [(57592, 0), (23831, 1000), (40712, 500), (23831 + 338, 990)])
def test_an_adc_reads_on_the_line_through_two_points(raw: int, value: int) -> None:
    assert soil(raw).read(0) == {"soil_moisture": value}


def test_one_disturbed_sample_of_an_adc_does_not_count() -> None:
    assert soil(40712, 65535, 40712, 0, 40712).read(0) == {"soil_moisture": 500}


@pytest.mark.parametrize("raw", [0, 199, 65535, 65400])
def test_an_adc_at_a_rail_is_a_fault(raw: int) -> None:
    with pytest.raises(Fault, match="not connected"):
        soil(raw).read(0)


def test_a_calibration_by_one_point_is_refused() -> None:
    with pytest.raises(ValueError, match="two points"):
        Analog(Adc(1), "x", 0, (5, 1), (5, 2))


def test_a_water_probe_is_asked_for_its_level() -> None:
    pin = Pin()
    part = Level(pin, "leak", active_low=True)
    pin.level = 0
    assert part.read(0) == {"leak": True}
    pin.level = 1
    assert part.read(0) == {"leak": False}


RMC = b"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\r\n"


def checked(text: str) -> bytes:
    check = 0
    for byte in text.encode():
        check ^= byte
    return b"$%s*%02X\r\n" % (text.encode(), check)


@pytest.mark.parametrize(
    ("line", "position"),
    [
        (RMC, "48.117300,11.516667"),
        (checked("GNRMC,1,A,3351.5,S,15112.6001,E,,,1,,"), "-33.858333,151.210002"),
        (checked("GPRMC,1,A,0000.0000,N,00000.0,W,,,1,,"), "0.000000,0.000000"),
    ],
)
def test_a_position_is_read_from_a_gps_sentence_that_comes_in_pieces(line: bytes, position: str) -> None:
    uart = Uart()
    part = Gps(uart)
    uart.data = b"old"
    part.begin(0)
    for begin in range(0, len(line), 11):
        uart.data += line[begin : begin + 11]
        values = part.read(100)
    assert values == {"position": position}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (checked("GPRMC,1,V,,,,,,,1,,"), "no fix"),
        (checked("GPRMC,1,A,9107.038,N,01131.000,E,,,1,,"), "none"),
        (checked("GPRMC,1,A,4807.038,X,01131.000,E,,,1,,"), "none"),
        (checked("GPRMC,1,A,4860.000,N,01131.000,E,,,1,,"), "none"),
        (checked("GPRMC,1,A,48,N,011,E,,,1,,"), "none"),
        (b"", "no receiver"),
        (RMC.replace(b"4807", b"4808"), "no receiver"),
    ],
)
def test_a_receiver_without_a_position_is_a_fault(line: bytes, reason: str) -> None:
    uart = Uart()
    part = Gps(uart)
    part.begin(0)
    uart.data = line
    with pytest.raises(Fault, match=reason):
        part.read(5000)


@given(st.binary(max_size=200))
def test_no_line_of_a_receiver_is_taken_for_a_sentence_without_its_checksum(line: bytes) -> None:
    assert sentence(line) is None or line.strip()[:1] == b"$"
