"""From a board's configuration to its sensors: which part sits at which pins.

`{"parts": {"air": {"kind": "dht22", "pin": 4}}, "sensors": [{"part": "air", "what": "temp"}, …]}`, the sensors in the
order of the core's. What a part speaks of by itself needs no `what`.
"""

import binascii

from firmware.drivers.analog import Analog
from firmware.drivers.dht22 import Dht22
from firmware.drivers.digital import Digital, Level
from firmware.drivers.ds18b20 import Ds18b20, find
from firmware.drivers.gps import Gps
from firmware.drivers.onewire import OneWire
from firmware.drivers.rc522 import Rc522
from firmware.drivers.scd4x import Scd4x
from firmware.drivers.sensors import Sensors

KINDS = ("analog", "contact", "dht22", "ds18b20", "gps", "level", "rc522", "scd4x")


class WiringError(Exception):
    """The wiring cannot be; the message names the part or sensor and says why."""


class Hardware:
    """What the board brings: the modules `machine` and `time` of MicroPython, and `_onewire` for the slots."""

    def __init__(self, machine, time, slots) -> None:
        self.machine = machine
        self.time = time
        self.slots = slots


def board_id(machine) -> str:
    """The board's unique id in hexadecimal, by which boards with one bundle are told apart."""
    return binascii.hexlify(machine.unique_id()).decode()


def wire(config: dict, exps: "list[int]", hardware: Hardware) -> Sensors:
    """The sensors, of which `exps` are the resolutions. Raises `WiringError`, `Fault` when a bus is dead, OSError."""
    parts = {name: _part(name, config["parts"][name], hardware) for name in sorted(config["parts"])}
    wiring: list = []
    for number, sensor in enumerate(config["sensors"]):
        part, what = parts.get(sensor.get("part")), sensor.get("what")
        if part is None:
            raise WiringError("sensor %d: there is no part %r" % (number, sensor.get("part")))
        if hasattr(part, "poll"):
            what = None
        elif what not in part.exp:
            raise WiringError("sensor %d: the part measures %s, not %r" % (number, ", ".join(sorted(part.exp)), what))
        wiring.append((part, what, exps[number]))
    return Sensors(wiring)


def _part(name: str, spec: dict, hardware: Hardware):
    kind = spec.get("kind")
    if kind not in KINDS:
        raise WiringError("part %r: its kind is none of %s" % (name, ", ".join(KINDS)))
    try:
        return _MAKERS[kind](spec, hardware)
    except KeyError as error:
        raise WiringError("part %r: %s is missing" % (name, error.args[0])) from None
    except ValueError as error:
        raise WiringError("part %r: %s" % (name, error)) from None


def _input(spec: dict, hardware: Hardware):
    pin = hardware.machine.Pin
    return pin(spec["pin"], pin.IN, pin.PULL_UP if spec.get("active_low") else pin.PULL_DOWN)


def _dht22(spec: dict, hardware: Hardware):
    return Dht22(hardware.machine, hardware.machine.Pin(spec["pin"]), hardware.time.sleep_us)


def _ds18b20(spec: dict, hardware: Hardware):
    pin = hardware.machine.Pin
    bus = OneWire(hardware.slots, pin(spec["pin"], pin.OPEN_DRAIN, pin.PULL_UP))
    if "rom" in spec:
        return Ds18b20(bus, binascii.unhexlify(spec["rom"]))
    found = find(bus)
    if len(found) != 1:
        roms = ", ".join([binascii.hexlify(rom).decode() for rom in found])
        raise ValueError("which of them? rom is one of %s" % roms if found else "there is no DS18B20 on the wire")
    return Ds18b20(bus, found[0])


def _analog(spec: dict, hardware: Hardware):
    adc = hardware.machine.ADC(hardware.machine.Pin(spec["pin"]))
    return Analog(adc, spec["what"], spec.get("exp", 0), tuple(spec["low"]), tuple(spec["high"]))


def _contact(spec: dict, hardware: Hardware):
    settle_ms = spec.get("debounce_ms", 50)
    return Digital(_input(spec, hardware), bool(spec.get("active_low")), settle_ms, spec.get("hold_ms", settle_ms))


def _level(spec: dict, hardware: Hardware):
    return Level(_input(spec, hardware), spec["what"], bool(spec.get("active_low")))


def _scd4x(spec: dict, hardware: Hardware):
    pin = hardware.machine.Pin
    bus = hardware.machine.I2C(spec.get("bus", 0), scl=pin(spec["scl"]), sda=pin(spec["sda"]), freq=100000)
    return Scd4x(bus, hardware.time.sleep_ms)


def _rc522(spec: dict, hardware: Hardware):
    pin = hardware.machine.Pin
    bus = hardware.machine.SPI(
        spec.get("bus", 0), baudrate=1000000, sck=pin(spec["sck"]), mosi=pin(spec["mosi"]), miso=pin(spec["miso"])
    )
    return Rc522(bus, pin(spec["select"], pin.OUT, value=1), hardware.time.sleep_ms)


def _gps(spec: dict, hardware: Hardware):
    pin = hardware.machine.Pin
    baud = spec.get("baud", 9600)
    return Gps(hardware.machine.UART(spec.get("bus", 1), baud, tx=pin(spec["tx"]), rx=pin(spec["rx"]), rxbuf=1024))


_MAKERS = {
    "analog": _analog,
    "contact": _contact,
    "dht22": _dht22,
    "ds18b20": _ds18b20,
    "gps": _gps,
    "level": _level,
    "rc522": _rc522,
    "scd4x": _scd4x,
}
