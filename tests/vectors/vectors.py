"""Checks an implementation of the firmware against shared vectors, in the MicroPython subset: it runs where they run.

A vector is `{"do": name, "in": [arguments], "out": expected}`. Bytes are written as text, or as "hex:00ff" where they
are no text. `check` says what is wrong with one, or nothing.
"""

import binascii
import json
import sys

from firmware.core.backlog import Backlog, Record
from firmware.hosts.micro import ring
from firmware.hosts.micro.clock import Uptime
from firmware.wire import (
    airtime,
    auth,
    cbor,
    ccm,
    ids,
    lora,
    lora_contents,
    messages,
    mqtt,
    rules,
    sealing,
    serial,
    serial_session,
    topics,
)
from firmware.wire.aes import Aes


def check(vector: dict) -> str:
    """What differs, or "" when the vector holds."""
    try:
        found = _DO[vector["do"]](*vector["in"])
    except Exception as error:
        found = "raised " + repr(error)
    if isinstance(found, bytes):
        found = _text(found)
    if found == vector["out"]:
        return ""
    return "%s(%s) gives %r, not %r" % (vector["do"], json.dumps(vector["in"]), found, vector["out"])


def run(paths: "list[str]") -> int:
    """Check files of vectors, one JSON object a line; print what differs and "N passed, N failed"."""
    passed = failed = 0
    for path in paths:
        with open(path) as file:
            for line in file:
                if not line.strip():
                    continue
                wrong = check(json.loads(line))
                if wrong:
                    failed += 1
                    print(path + ": " + wrong)
                else:
                    passed += 1
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


def _bytes(text: str) -> bytes:
    return binascii.unhexlify(text[4:]) if text.startswith("hex:") else text.encode()


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except ValueError:
        text = "hex:"
    if text.startswith("hex:") or any([ord(c) < 32 for c in text]):
        return "hex:" + binascii.hexlify(data).decode()
    return text


def _decode(kind: str, text: str):
    return getattr(messages, "decode_" + kind)(_bytes(text))


def _encode(kind: str, *arguments):
    return getattr(messages, "encode_" + kind)(*arguments)


def _seal(key: str, topic: str, body: str):
    return auth.Sealer(_bytes(key)).seal(topic, _bytes(body))


def _open(key: str, topic: str, payload: str):
    return auth.Sealer(_bytes(key)).open(topic, _bytes(payload))


def _rule(rule: dict, values: list) -> list:
    """Whether the rule is active after each value."""
    active, states = False, []
    for value in values:
        active = rules.next_state(rule, value, active)
        states.append(active)
    return states


def _episodes(found: list, readings: list) -> list:
    """The changes after each reading (node, metric, value, boot, seq): rule's name, episode's id, raised."""
    episodes = rules.Episodes()
    episodes.set_rules(found)
    return [[[c[0]["name"], c[1], c[2]] for c in episodes.evaluate(*reading)] for reading in readings]


def _backlog(capacity: int, steps: list) -> list:
    """What each step gives: seqs that went, were handed out or were forgotten, or when the next are due."""
    backlog = Backlog(capacity, [])
    return [_step(backlog, *step) for step in steps]


def _step(backlog: Backlog, name: str, *arguments):
    if name == "add":
        boot, seq, now_ms = arguments
        gone = backlog.add(Record(boot, seq, "temp", "25.00", '"C"', now_ms))
        return gone and gone.seq
    if name == "take":
        return [record.seq for record in backlog.take(arguments[0])]
    if name == "message":
        boot, now_ms = arguments
        return backlog.take(now_ms)[0].encoded(boot, now_ms).decode()
    if name == "due":
        return backlog.due_ms
    if name == "up":
        return backlog.link_up(arguments[0])
    if name == "acknowledge":
        return backlog.acknowledge(*arguments)
    return [list(identity) for identity in backlog.identities()]


def _uptime(bits: int, ticks: list) -> list:
    """What the unwrapped clock says at each reading of a counter of so many bits."""
    left = list(ticks)
    half = 1 << (bits - 1)
    clock = Uptime(lambda: left.pop(0), lambda new, old: (new - old + half) % (2 * half) - half)
    return [clock.now_ms() for _ in range(len(ticks) - 1)]


def _mqtt(steps: list) -> list:
    """A client's session: what it says and what comes of what it hears."""
    client = mqtt.Client("sensor-01", b"secret", ["clawland/sensor-01/cmd"], 0, 60)
    said = []
    for name, argument in steps:
        if name == "hear":
            try:
                events = client.receive(_bytes(argument), 0)
            except mqtt.MqttError as error:
                events = [("error", str(error))]
            said.append([[_text(part) if isinstance(part, bytes) else part for part in event] for event in events])
        elif name == "publish":
            client.publish(argument[0], _bytes(argument[1]), 0, argument[2])
        elif name == "wait":
            client.on_timer(argument)
        if name != "hear":
            said.append("hex:" + binascii.hexlify(bytes(client.out)).decode())
            client.sent(len(client.out))
    return said


def _aes(key: str):
    """AES of the machine that this runs on."""
    if sys.implementation.name == "micropython":
        from firmware.hosts.micro.aes import aes_block
    else:
        from firmware.hosting.aes import aes_block
    return aes_block(_bytes(key))


def _encrypt(key: str, nonce: str, plain: str, about: str, tag_bytes: int):
    return ccm.encrypt(_aes(key), _bytes(nonce), _bytes(plain), _bytes(about), tag_bytes)


def _decrypt(key: str, nonce: str, sealed: str, about: str, tag_bytes: int):
    return ccm.decrypt(_aes(key), _bytes(nonce), _bytes(sealed), _bytes(about), tag_bytes)


def _serial_session(steps: list) -> list:
    """A node's session on a serial line: what it says and what comes of what it hears."""
    session = serial_session.NodeSession("sensor-01", b"k" * 32, 77, 0)
    said = []
    for name, argument in steps:
        events = []
        if name == "hear":
            events = session.receive(_bytes(argument), 0)
        elif name == "publish":
            session.publish(argument[0], _bytes(argument[1]), 0)
        else:
            events = session.on_timer(argument)
        found = [[_text(part) if isinstance(part, bytes) else part for part in event] for event in events]
        said.append([found, _text(bytes(session.out).rstrip())])
        session.sent(len(session.out))
    return said


def _transaction(text: str):
    return ring.decode(_bytes(text))


def _lines(parts: list) -> list:
    """The lines in a stream that arrives in these parts, and how many were spoilt."""
    lines = serial.Lines()
    found = [[kind, _text(body)] for part in parts for kind, body in lines.feed(_bytes(part))]
    return [found, lines.spoilt]


def _hex(data: bytes) -> str:
    return "hex:" + binascii.hexlify(data).decode()


def _uncbor(data: str) -> list:
    """The value in a list, which is empty when there is none."""
    try:
        return [cbor.decode(_bytes(data))]
    except ValueError:
        return []


def _block(key: str):
    """AES under the frame key of a node with this key."""
    return Aes(lora.frame_key(_bytes(key))).encrypt


def _uplink(key: str, node: str, boot: int, count: int, contents: str, asks: bool) -> str:
    return _hex(lora.seal_uplink(_block(key), _bytes(node), boot, count, _bytes(contents), asks))


def _downlink(key: str, node: str, boot: int, count: int, gateway: str, contents: str) -> str:
    return _hex(lora.seal_downlink(_block(key), _bytes(node), boot, count, _bytes(gateway), _bytes(contents)))


def _open_downlink(key: str, frame: str, boot: int, count: int):
    found = lora.open_downlink(_block(key), _bytes(frame), boot, count)
    return found and _hex(found)


def _contents(readings: list, events: list) -> str:
    found = {lora_contents.READINGS: lora_contents.pack_readings(readings)}
    found[lora_contents.EVENTS] = lora_contents.pack_readings(events)
    return _hex(lora_contents.contents_of(found))


def _said(found) -> "list | None":
    """Messages with their JSON read, for its text may differ."""
    return None if found is None else [[verb, json.loads(payload)] for verb, payload in found]


_DO = {
    "address": lambda fleet, who: _hex(lora.address(fleet, who)),
    "aes": lambda key, block: _aes(key)(_bytes(block)),
    "airtime": airtime.time_on_air_us,
    "backlog": _backlog,
    "cbor": lambda value: _hex(cbor.encode(value)),
    "contents": _contents,
    "crc16": lambda text: serial.crc16(_bytes(text)),
    "decode": _decode,
    "decrypt": _decrypt,
    "downlink": _downlink,
    "encode": _encode,
    "encrypt": _encrypt,
    "episodes": _episodes,
    "hmac": lambda key, message: "hex:" + binascii.hexlify(auth.hmac_sha256(_bytes(key), _bytes(message))).decode(),
    "line": lambda kind, body: serial.encode_line(kind, _bytes(body)),
    "lines": _lines,
    "mqtt": _mqtt,
    "open": _open,
    "open_downlink": _open_downlink,
    "password": lambda key: auth.mqtt_password(_bytes(key)),
    "rule": _rule,
    "said_down": lambda contents, boot: _said(lora_contents.unpack_downlink(_bytes(contents), boot)),
    "said_up": lambda contents: _said(lora_contents.unpack_uplink(_bytes(contents), "farm", 7, 3)),
    "seal": _seal,
    "sealed": lambda key, *reading: sealing.seal(_aes(key), *reading),
    "serial_session": _serial_session,
    "soft_aes": lambda key, block: _hex(Aes(_bytes(key)).encrypt(_bytes(block))),
    "topic": lambda name: topics.split(name) and list(topics.split(name)),
    "transaction": _transaction,
    "uncbor": _uncbor,
    "uplink": _uplink,
    "uptime": _uptime,
    "valid_id": ids.valid_id,
    "valid_metric": ids.valid_metric,
    "value": messages.encode_value,
}

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
