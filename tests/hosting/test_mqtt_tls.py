"""A port over TLS: who it trusts, what it shows, and that nothing stays behind in a decrypted record."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from firmware.hosting.mqtt import Login, MqttPort
from firmware.hosting.tls import ClientTls
from fleet.host.pki import certificates
from fleet.host.pki.authority import Authority
from fleet.hub import CertificateAccess, EmbeddedBroker
from tests.hosting.test_mqtt_port import Ears, Script
from tests.hub.certified import MANAGER, authority_in, files_of

pytestmark = pytest.mark.live


@dataclass
class Hub:
    """A broker behind TLS and its authority."""

    authority: Authority
    broker: EmbeddedBroker

    def port(self, ears: Ears, topics: list[str], name: str = "gateway-01") -> MqttPort:
        """With a fresh certificate for `name`."""
        key, pair = certificates.new_key(), self.authority.directory / f"{name}.test.pem"
        pair.write_bytes(certificates.pair_pem(key, self.authority.issue(name, key.public_key())))
        tls = ClientTls(self.authority.certificate_file, pair, pair)
        return MqttPort("up", Login(name, tls=tls), topics, ears, target=f"localhost:{self.broker.port}")


@asynccontextmanager
async def hub(directory: Path) -> AsyncIterator[Hub]:
    authority = authority_in(directory)
    access = CertificateAccess(MANAGER)
    async with EmbeddedBroker(access=access, max_payload_bytes=4096, tls=files_of(authority)) as broker:
        yield Hub(authority, broker)


async def test_it_connects_with_a_certificate_and_hears_every_message_of_a_burst(tmp_path: Path) -> None:
    """Many small messages share a TLS record, after which the socket itself has nothing to read."""
    ears = Ears()
    async with hub(tmp_path) as running:
        port = running.port(ears, ["clawland/gateway-01/cmd"])
        port.connect()
        await ears.until("up")
        for number in range(500):
            await running.broker.publish("clawland/gateway-01/cmd", b"%d" % number)
        await ears.until("up", *(f"clawland/gateway-01/cmd {number}" for number in range(500)))
        await port.close()


async def test_a_full_core_stops_the_reading_and_nothing_is_lost(tmp_path: Path) -> None:
    ears = Ears()
    async with hub(tmp_path) as running:
        port = running.port(ears, ["clawland/gateway-01/cmd"])
        port.connect()
        await ears.until("up")
        ears.full = True
        for number in range(100):
            await running.broker.publish("clawland/gateway-01/cmd", b"%d" % number)
        await ears.until("up", "clawland/gateway-01/cmd 0")
        assert len(ears.heard) < 10
        ears.full = False
        await ears.until("up", *(f"clawland/gateway-01/cmd {number}" for number in range(100)))
        await port.close()


async def test_a_hub_under_another_name_is_not_trusted(tmp_path: Path) -> None:
    ears = Ears()
    async with hub(tmp_path) as running:
        port = running.port(ears, [])
        # the broker listens on 127.0.0.1: what answers here only passes on
        server = await asyncio.start_server(_forward(running.broker.port), "127.0.0.2", running.broker.port)
        async with server:
            port.connect(f"127.0.0.2:{running.broker.port}")
            await ears.until("down")
        assert "127.0.0.2" in port.last_failure and "mismatch" in port.last_failure


def _forward(port: int) -> Script:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, downstream), copy(upstream, writer), return_exceptions=True)

    return serve


async def test_a_hub_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    ears = Ears()
    async with hub(tmp_path / "one") as running, hub(tmp_path / "two") as other:
        port = running.port(ears, [])
        port.connect(f"localhost:{other.broker.port}")
        await ears.until("down")
    assert "certificate verify failed" in port.last_failure


async def test_a_file_that_is_missing_is_named_and_fails_the_attempt_alone(tmp_path: Path) -> None:
    ears = Ears()
    async with hub(tmp_path) as running:
        port = running.port(ears, [])
        pair = running.authority.directory / "gateway-01.test.pem"
        moved = pair.rename(pair.with_suffix(".gone"))
        port.connect()
        await ears.until("down")
        assert str(pair) in port.last_failure
        moved.rename(pair)
        port.connect()
        await ears.until("down", "up")
        await port.close()


async def test_a_revoked_certificate_is_what_the_failure_asks_about(tmp_path: Path) -> None:
    ears = Ears()
    async with hub(tmp_path) as running:
        port = running.port(ears, [])
        running.authority.revoke("gateway-01")
        running.broker.refresh_certificates()
        port.connect()
        await ears.until("down")
    assert "certificate" in port.last_failure


async def test_a_connection_dropped_at_once_leaves_nothing_behind(tmp_path: Path) -> None:
    ears = Ears()
    async with hub(tmp_path) as running:
        port = running.port(ears, [])
        for _ in range(20):
            port.connect()
            await asyncio.sleep(0)
        port.disconnect()
        port.connect()
        await ears.until("up")
        assert ears.heard == ["up"]
        await port.close()
