"""A node that seals a metric: on flash, on the air and in its trace there is nothing but the seal."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from firmware.core.backlog import RETRY_MS
from firmware.hosting.aes import aes_block
from firmware.wire.sealing import TAG_BYTES, about_of, blob_of, nonce_of
from tests.firmware_core.rig import NODE, TEMP, Board

KEY = b"s" * 32
CO2 = {"metric": "co2", "unit": "ppm", "exp": 2, "low": 0, "high": 2_000_000, "every_ms": None, "sealed": True}


def board() -> Board:
    return Board(sensors=[CO2, TEMP], seal_block=aes_block(KEY)).started()


def opened(reading: dict[str, Any]) -> object:
    boot, seq, blob = reading["boot"], reading["seq"], blob_of(reading["sealed"])
    assert blob is not None
    return json.loads(AESCCM(KEY, TAG_BYTES).decrypt(nonce_of(boot, seq), blob, about_of(NODE, "co2", boot, seq)))


def sealed(found: Board) -> list[dict[str, Any]]:
    return [json.loads(send.payload) for send in found.sends() if send.topic.endswith("/co2")]


def test_a_sealed_reading_has_no_value_and_whoever_has_the_key_reads_it() -> None:
    node = board()
    node.sampled(831425, 0)
    node.sampled(2100, 1)
    (reading,) = sealed(node)
    assert set(reading) == {"sealed", "unit", "boot", "seq", "age_ms"} and opened(reading) == 8314.25
    assert [found["value"] for found in node.sent("temp")] == [21.0]
    assert "831425" not in str(node.outputs) and "8314.25" not in str(node.outputs)
    assert "8314.25" not in str(node.flash.readings)


def test_it_is_sealed_once_and_sent_again_the_same_also_after_a_loss_of_power() -> None:
    node = board()
    node.sampled(831425, 0)
    node.at(RETRY_MS)
    node.power_on()
    node.link_up()
    node.at(node.now_ms + 1000)
    readings = sealed(node)
    assert len(readings) == 3 and len({reading["sealed"] for reading in readings}) == 1
    assert [opened(reading) for reading in readings] == [8314.25] * 3 and "up_ms" in readings[-1]


def test_the_same_value_never_looks_the_same() -> None:
    node = board()
    for _ in range(3):
        node.sampled(831425, 0)
    node.power_on()
    node.link_up()
    node.sampled(831425, 0)
    assert len({reading["sealed"] for reading in sealed(node)}) == 4


def test_an_implausible_value_is_a_fault_that_does_not_say_it() -> None:
    node = board()
    node.sampled(9_999_999, 0)
    (fault,) = node.events("sensor.fault")
    assert fault == {"metric": "co2", "reason": "out-of-range", "value": None}


def test_without_its_key_a_node_that_is_to_seal_does_not_begin() -> None:
    with pytest.raises(ValueError, match="no sealing key"):
        Board(sensors=[CO2]).power_on()
