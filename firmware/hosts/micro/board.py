"""A board with Wi-Fi and stock MicroPython, as the pump sees it: parts at its pins, its radio, its flash, its lights.

What differs from board to board is a module, `kind`: see `firmware.hosts.micro.esp32` and `firmware.hosts.micro.pico`.
"""

import gc
import json
import random
import select

from firmware.drivers import Fault
from firmware.drivers.analog import Analog
from firmware.drivers.wiring import board_id, wire
from firmware.hosts.micro.files import SectorFiles
from firmware.hosts.micro.link import MqttLink
from firmware.hosts.micro.ring import Ring
from firmware.hosts.micro.scanner import Scanner
from firmware.hosts.micro.wifi import Wifi, WifiLink
from firmware.wire.auth import mqtt_password

BLINK_MS = 250


class Board:
    """See `firmware.hosts.micro.pump`. Besides: `sensors`, `serve`, `hello`, `battery_mv` and `next_deadline`."""

    def __init__(self, config: dict, kind, hardware, network) -> None:
        """`hardware` is a `firmware.drivers.wiring.Hardware`, `network` MicroPython's module.

        Raises `WiringError`, `Fault` and OSError when the parts cannot be what the configuration says."""
        self.config = config
        self.kind = kind
        self._machine = hardware.machine
        self._who = config["core"]["id"]
        board = config["board"]
        self.poller = select.poll()
        flash = config["flash"]
        files = SectorFiles(flash["directory"], flash["sectors"], flash["sector_bytes"])
        self.flash = Ring(files, flash["sector_bytes"])
        self.wifi = Wifi(network, board["wifi_ssid"], board["wifi_password"], random, self.log)
        topics = ["clawland/%s/%s" % (self._who, verb) for verb in ("cmd", "received")]
        login = (self._who, mqtt_password(config["core"]["key"]))
        self.link = WifiLink(self.wifi, MqttLink(self.poller, (select.POLLIN, select.POLLOUT), login, topics))
        self.scanner = Scanner(self.poller, select.POLLIN, "", random, self.log)
        self.signals: list = []
        self.sensors = wire(board, [sensor["exp"] for sensor in config["core"]["sensors"]], hardware)
        self._led = self._output(board.get("led_pin", kind.LED_PIN))
        self._alarm = self._output(board["alarm_pin"]) if "alarm_pin" in board else None
        self._battery = self._divider(board["battery"]) if "battery" in board else None
        self._blink_ms = 0  # to blink for, and until when once it has begun
        self._blink_until_ms: int | None = None

    def hello(self, boot: int, firmware: str) -> None:
        """Who starts here, for whoever listens at the serial port."""
        found = {"id": self._who, "board": self.kind.NAME, "board_id": board_id(self._machine), "boot": boot}
        found["cause"] = self.kind.cause(self._machine)
        found["firmware"] = firmware
        print("hello " + json.dumps(found))

    def battery_mv(self, now_ms: int) -> "int | None":
        """The battery's voltage, or None where it cannot be measured."""
        if self._battery is None:
            return None
        try:
            self._battery.begin(now_ms)
            return int(self._battery.read(now_ms)["battery"])
        except (Fault, OSError) as error:
            self.log("the battery cannot be measured: %s" % error)
            return None

    def serve(self, now_ms: int) -> None:
        """The radio and the light; the times are those of the wall."""
        self.wifi.serve(now_ms)
        if self._blink_ms and self._blink_until_ms is None:
            self._blink_until_ms = now_ms + self._blink_ms
        if self._blink_until_ms is not None:
            left_ms = self._blink_until_ms - now_ms
            self._led.value(1 if left_ms > 0 and left_ms // BLINK_MS % 2 else 0)
            if left_ms <= 0:
                self._blink_ms, self._blink_until_ms = 0, None

    def next_deadline(self, now_ms: int) -> int:
        """When to `serve` next."""
        due_ms = self.wifi.next_deadline(now_ms)
        return min(due_ms, now_ms + BLINK_MS) if self._blink_ms else due_ms

    def trace(self, kind: str, fields: dict, now_ms: int) -> None:
        """One JSON line for whoever listens at the serial port."""
        line = '{"t_ms":%d,"kind":"%s","who":"%s"' % (now_ms, kind, self._who)
        print(line + ("," + json.dumps(fields)[1:] if fields else "}"))

    def alarm(self, on: bool, by: str) -> None:
        if self._alarm is not None:
            self._alarm.value(1 if on else 0)
        self.log("ALARM %s, by %s" % ("on" if on else "off", by))

    def identify(self, for_ms: int) -> None:
        self._blink_ms, self._blink_until_ms = for_ms, None
        self.log("IDENTIFY: the light blinks for %d s" % (for_ms // 1000))

    def log(self, text: str) -> None:
        print("%s: %s" % (self._who, text))

    def free_memory_kb(self) -> int:
        return gc.mem_free() >> 10 if hasattr(gc, "mem_free") else 0

    def _output(self, number):
        return self._machine.Pin(number, self._machine.Pin.OUT, value=0)

    def _divider(self, spec: dict) -> Analog:
        adc = self._machine.ADC(self._machine.Pin(spec["pin"]))
        return Analog(adc, "battery", 0, tuple(spec["low"]), tuple(spec["high"]))
