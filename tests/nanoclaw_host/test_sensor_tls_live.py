"""Nodes that speak TLS to their gateway know it by its certificate, and tell their password to no other."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from firmware.hosting.lifecycle import CannotRun
from firmware.hosting.mqtt import Login, MqttPort
from firmware.hosting.secrecy import hidden
from firmware.hosting.tls import PinnedTls, spelled
from nanoclaw.host.local_broker import LocalBroker
from nanoclaw.host.sensor_tls import SensorTls, TlsFront, fingerprint, make_pair
from nanoclaw.host.status import read_status
from tests.hosting.test_mqtt_port import Ears
from tests.nanoclaw_host.rig import GATEWAY, NODE, eventually, gateway_config, node_config, rig

pytestmark = pytest.mark.live


@asynccontextmanager
async def broker(directory: Path, kind: str = "embedded") -> AsyncIterator[LocalBroker]:
    front = TlsFront(SensorTls(0, directory / "sensors.pem"), GATEWAY, "127.0.0.1")
    made = LocalBroker(kind, GATEWAY, "127.0.0.1", 0, directory, front)
    await made.start()
    await made.set_passwords({NODE: b"of-the-node"})
    try:
        yield made
    finally:
        await made.stop()


def node(made: LocalBroker, ears: Ears, *pins: str | None) -> MqttPort:
    tls = PinnedTls(tuple(pin for pin in pins if pin))
    login = Login(NODE, b"of-the-node", tls)
    return MqttPort("up", login, [f"clawland/{NODE}/cmd"], ears, target=f"127.0.0.1:{made.tls_port}")


@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
async def test_a_node_that_pins_the_certificate_is_let_in_and_heard(tmp_path: Path, kind: str) -> None:
    ears, gateway_ears = Ears(), Ears()
    async with broker(tmp_path, kind) as made:
        port = node(made, ears, "0" * 64, made.fingerprint)
        gateway = MqttPort("nodes", made.login, ["clawland/+/+"], gateway_ears, target=made.target)
        gateway.connect()
        await gateway_ears.until("up")
        port.connect()
        await ears.until("up")
        port.send(f"clawland/{NODE}/temp", b'{"value":1}')
        await gateway_ears.until("up", f'clawland/{NODE}/temp {{"value":1}}')
        await port.close()
        await gateway.close()


async def test_a_node_with_another_pin_says_nothing_and_tells_which_certificate_it_found(tmp_path: Path) -> None:
    ears = Ears()
    async with broker(tmp_path) as made:
        port = node(made, ears, "0" * 64)
        port.connect()
        await ears.until("down")
        found = spelled(made.fingerprint or "")
        assert port.last_failure == f"the certificate is not the pinned one: its fingerprint is {found}"
        assert hidden(port.last_failure) == port.last_failure, "it is no secret, and people need it"


async def test_a_node_never_speaks_tls_to_a_port_without_it(tmp_path: Path) -> None:
    ears = Ears()
    async with broker(tmp_path) as made:
        port = node(made, ears, made.fingerprint)
        port.connect(f"127.0.0.1:{made.port}")
        await ears.until("down")


async def test_who_speaks_no_tls_on_that_port_is_dropped(tmp_path: Path) -> None:
    async with broker(tmp_path) as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.tls_port)
        writer.write(bytes(200))
        assert len(await asyncio.wait_for(reader.read(), 10)) < 10, "an alert of TLS at most, and the end"
        writer.close()
        ears = Ears()
        port = node(made, ears, made.fingerprint)
        port.connect()
        await ears.until("up")
        await port.close()


async def test_a_taken_port_and_a_broken_certificate_are_one_line_each(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        front = TlsFront(SensorTls(port, tmp_path / "sensors.pem"), GATEWAY, "127.0.0.1")
        with pytest.raises(CannotRun, match=f"tls_port: {port} on 127.0.0.1: address already in use"):
            await front.start(("127.0.0.1", 1))
    (tmp_path / "broken.pem").write_text("no certificate")
    with pytest.raises(CannotRun, match=r"local\.certificate: .*broken\.pem: no certificate and key in PEM"):
        await TlsFront(SensorTls(0, tmp_path / "broken.pem"), GATEWAY, "127.0.0.1").start(("127.0.0.1", 1))


def test_the_certificate_is_made_once_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    pair = tmp_path / "tls" / "sensors.pem"
    make_pair(pair, GATEWAY)
    first = fingerprint(pair)
    make_pair(pair, GATEWAY)
    assert fingerprint(pair) == first and pair.stat().st_mode & 0o777 == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pair)


async def test_a_node_process_sends_its_readings_over_tls_to_a_gateway_that_takes_nothing_else(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        await made.cloud.start()
        config = gateway_config(tmp_path, made.cloud.broker.port)
        config.write_text(config.read_text().replace("[local]\n", "[local]\ntls = true\ntls_port = 0\n"))
        await made.gateway.spawn("nanoclaw.cli", config)
        made.gateway.give_clock(made.clock)
        pin = await eventually(lambda: read_status(made.gateway_data).get("fingerprint"), "the fingerprint is told")
        settings = node_config(tmp_path, made.gateway.ready["tls_port"])
        secured = f'[gateway]\ntls = true\nfingerprint = "{pin}"\n'
        settings.write_text(settings.read_text().replace("[gateway]\n", secured))
        await made.node.spawn("firmware.cli", settings)
        made.node.give_clock(made.clock)
        await eventually(lambda: made.cloud.readings, "a reading is in the cloud")
