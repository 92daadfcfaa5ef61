"""In the MicroPython subset: garbage, truncation, oversize and spoilt messages for every parser of the firmware.

Usage: fuzz.py SEED ROUNDS [radio | parts]. Prints how many inputs it tried; an exception that no parser may raise ends
it.
"""

import hashlib
import json
import random
import sys

from firmware.core.node import NodeCore
from firmware.hosts.micro import ring
from firmware.wire import auth, mdns, messages, mqtt, rules, serial, topics
from firmware.wire.serial_session import NodeSession

KEY = bytes(32)
RECEIVED = "clawland/sensor-01/received"
COMMAND = "clawland/sensor-01/cmd"
SAMPLES = (
    b'{"value":25.00,"unit":"C","boot":7,"seq":3,"age_ms":0}',
    b'{"boot":7,"from":0,"upto":17,"missing":[3],"n":4}',
    b'{"action":"restart","id":"c1","ttl_ms":60000,"by":"cloud"}',
    b'{"fleet":"f","boot":7,"n":1,"attach":2,"interval_ms":60000,"uptime_ms":1,"next_seq":6,"dropped":0,"backlog":0}',
    b'{"id":"c1","status":"failed","reason":"\\u00e9\xc3\xa9"}',
    b'[["put", "boot", 7]] 58bac009\n',
    b'hello {"v":1,"id":"s","s":7,"n":1}*0000\nok {"n":1}*0000\ntemp.1 {}*0000\n',
    b"\xa2\x00\x88\x11\x07\x19\x01\x77\x00\x01\x82\x64note\x60\x82\x05\x01\x20\x03\x85\x1a\x00\x04\xb7\x08\x00\x05\x00\x02",
    b"\xa2\x00\x83\x03\x02\x41\x0a\x02\x84\x01\x62c1\x19\xea\x60\x00",
    b"\x20\x02\x00\x00\x90\x03\x00\x01\x00\x30\x05\x00\x01t{}\x32\x07\x00\x01t\x00\x01{}\x40\x02\x00\x01\xd0\x00",
    b"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\r\n",
    b"\x02\x58\x7c\x66\x67\xf3\x5e\xb9\x3c",
    b"\x12\x34\x84\x00\x00\x01\x00\x02\x00\x00\x00\x00\x09_clawland\x04_tcp\x05local\x00\x00\x0c\x00\x01\xc0\x0c\x00\x0c"
    b"\x00\x01\x00\x00\x00\x78\x00\x04\x01g\xc0\x0c\xc0\x2e\x00\x21\x00\x01\x00\x00\x00\x78\x00\x08\x00\x00\x00\x00\x07"
    b"\x5b\x01h\x00",
)
WORDS = (
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"NaN",
    b"1.5",
    b"[]",
    b"{}",
    b'""',
    b"9" * 40,
    b"[" * 200,
    b"\xff\x00",
    b"\n",
)


def spoil(data: bytes) -> bytes:
    """One of the things that happen to a message."""
    kind, at = random.randrange(7), random.randrange(len(data) + 1)
    if kind == 0:
        return bytes([random.getrandbits(8) for _ in range(at)])
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + bytes([random.getrandbits(8)]) + data[at + 1 :]
    if kind == 3:
        return data[:at] + WORDS[random.randrange(len(WORDS))] + data[at + random.randrange(8) :]
    if kind == 4:
        return data + data * random.randrange(3)
    if kind == 5:
        return data[at:] + data[:at]
    return data


class Bytes:
    """A part, an interface and a memory that say `data`, whatever they are asked."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, size: int):
        data, self.data = self.data, b""
        return data or None

    def writeto(self, address: int, data: bytes) -> None:
        pass

    def readfrom(self, address: int, size: int) -> bytes:
        return (self.data + bytes(size))[:size]

    def RTC(self):
        return self

    def memory(self) -> bytes:
        return self.data


class Parsers:
    """Every place where a stranger's bytes arrive."""

    def __init__(self) -> None:
        home = {"id": "g", "target": "127.0.0.1:1"}
        sensor = {"metric": "temp", "every_ms": 60000}
        config = {"id": "sensor-01", "fleet": "f", "key": KEY, "home": home, "sensors": [sensor], "backlog_readings": 9}
        self.core = NodeCore(config, {"slots": {"boot": 6}, "readings": []}, random, 0)
        self.core.take_outputs()
        self.core.stored(1, 0)
        self.sealer = auth.Sealer(KEY)
        self.lines = serial.Lines()
        self.token = 1

    def take(self, data: bytes, now_ms: int) -> None:
        for name in ("reading", "heartbeat", "beacon", "ack", "received", "command"):
            getattr(messages, "decode_" + name)(data)
        ring.decode(data)
        mdns.text_fields(data)
        answers = mdns.Answers(0x1234)
        answers.receive(data, "127.0.0.1")
        answers.query()
        self._links(data, now_ms)
        for topic in (RECEIVED, COMMAND, "clawland/x", ""):
            topics.split(topic)
            self.core.receive("up", topic, data, now_ms)
            self.core.receive("up", topic, self.sealer.seal(topic, data or b"{}"), now_ms)
        self._settle(now_ms)
        value = messages.decode_reading(data)
        if value:
            for op in rules.OPERATORS:
                rules.holds({"metric": "temp", "op": op, "value": 30}, value["value"])

    def _links(self, data: bytes, now_ms: int) -> None:
        for login in (b"", b"\x20\x02\x00\x00\x90\x03\x00\x01\x00"):
            client = mqtt.Client("s", b"", ["t"], now_ms)
            try:
                client.receive(login, now_ms)
                client.receive(data, now_ms)
            except mqtt.MqttError:
                pass
        self.lines.feed(data)
        for line in data.split(b"\n"):
            self._session(line.partition(b" ")[2], data, now_ms)

    def _session(self, body: bytes, data: bytes, now_ms: int) -> None:
        end = NodeSession("sensor-01", KEY, 1, now_ms)
        hi = self.sealer.seal("serial/sensor-01/hi", b'{"v":1,"s":2,"r":1}')
        for each in (data, serial.encode_line("sensor-01:hi", hi), serial.encode_line("sensor-01:cmd.1", body), data):
            end.receive(each or b"", now_ms)
        end.publish("clawland/sensor-01/temp", body, now_ms)
        for kind in ("ok", "hi", "who", "cmd.2", "cmd.x"):
            end.receive(serial.encode_line("sensor-01:" + kind, body) or b"", now_ms)

    def _settle(self, now_ms: int) -> None:
        self.core.on_timer(now_ms)
        for output in self.core.take_outputs():
            json.dumps(output[1]) if output and isinstance(output[-1], dict) else None
            if type(output).__name__ == "Store" and output[0] is not None:
                self.core.stored(output[0], now_ms)
        self.core.take_outputs()


class Radio:
    """What arrives by radio, at a node and at a gateway: apart, for a board has one core and no room for another."""

    def __init__(self) -> None:
        from firmware.core.lora import LoraNode
        from firmware.wire import lora, lora_contents

        self.wire = (lora, lora_contents)
        self.block = lambda block: hashlib.sha256(KEY + block).digest()[:16]  # for AES, which is slow in software
        config = {"id": "sensor-01", "fleet": "f", "key": KEY, "home": {}, "sensors": [{"metric": "temp"}]}
        config["lora"] = {"sf": 7}
        config["frame_block"] = self.block
        self.core = LoraNode(config, {"slots": {"boot": 6}, "readings": []}, random, 0)
        self.core.stored(1, 0)

    def take(self, data: bytes, now_ms: int) -> None:
        lora, contents = self.wire
        contents.unpack_uplink(data, "f", 7, 3)
        contents.unpack_downlink(data, 7)
        lora.open_uplink(self.block, data)
        core = self.core
        core.on_timer(now_ms)
        core.airway.wait(now_ms + 1)  # the window is open
        count = max(core._count, 0)
        for frame in (data, lora.seal_downlink(self.block, core.address, core.boot, count, b"gate", data[:200])):
            core.receive("radio", "", frame, now_ms)
        core.airway.close_window(now_ms)
        for output in core.take_outputs():
            if type(output).__name__ == "Store" and output[0] is not None:
                core.stored(output[0], now_ms)


class Parts:
    """What parts on the board say, and what lies in its memory."""

    def __init__(self) -> None:
        from firmware.drivers import Fault, dht22, gps, scd4x
        from firmware.hosts.micro import clock, esp32

        self.modules = (clock, esp32, dht22, gps, scd4x, Fault)

    def take(self, data: bytes, now_ms: int) -> None:
        clock, esp32, dht22, gps, scd4x, fault = self.modules
        part = Bytes(data)
        try:
            clock.RunClock(lambda: 0, json.loads(data))
        except ValueError:
            pass
        esp32.recall(part)
        receiver, air = gps.Gps(part), scd4x.Scd4x(part, lambda ms: None)
        receiver.begin(now_ms)
        part.data = data
        air.begin(now_ms)
        for read in (receiver.read, air.read, air.read, air.read):
            try:
                read(now_ms)
            except (fault, OSError):
                pass
        try:
            dht22._bytes(list(data[:99]))
        except fault:
            pass


OF_WHAT = {"radio": Radio, "parts": Parts}


def main(seed: int, rounds: int, of_what: str) -> None:
    random.seed(seed)
    parsers = OF_WHAT.get(of_what, Parsers)()
    for number in range(rounds):
        data = SAMPLES[random.randrange(len(SAMPLES))]
        for _ in range(random.randrange(4)):
            data = spoil(data)[:700]  # more than any message may have, and a board has room for
        try:
            parsers.take(data, number * 1000)
        except Exception:
            print(repr(data))
            raise
    print("%d inputs" % rounds)


main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if sys.argv[3:] else "")
