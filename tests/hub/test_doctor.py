"""What the doctor says of each broker, and that its visit disturbs nobody."""

import asyncio
import ssl
from pathlib import Path

import pytest

from fleet.hub import EmbeddedBroker, HubAccess, doctor
from fleet.hub.access import DOCTOR
from fleet.hub.doctor import Finding, Patient, Unreachable, examine
from tests.hub.certified import MANAGER, MAX_PAYLOAD_BYTES, CertifiedHub, certified_hub

pytestmark = pytest.mark.live


async def diagnosis(hub: CertifiedHub, size: int = MAX_PAYLOAD_BYTES) -> dict[str, Finding]:
    """Findings by what they are about."""
    context = hub.context(hub.authority.equip_doctor())
    return {found.what: found for found in await examine(Patient("127.0.0.1", hub.broker.port, context), size)}


async def test_it_knows_the_embedded_hub_and_its_limits(tmp_path: Path) -> None:
    async with certified_hub("embedded", tmp_path) as hub:
        found = await diagnosis(hub)
    assert all(each.good for each in found.values()), found
    assert found["product"].found == "Clawland's embedded hub, by its behaviour"
    assert found["MQTT versions"].found == "3.1.1, not 5"
    assert found["strangers"].found == "refused"
    assert found["quality of service"].found == "up to 1 for a subscriber"
    assert found["retained messages"].found == "kept for later subscribers"
    assert found["largest message"].found == "512 bytes, as the fleet needs"
    assert found["shared subscriptions"].found == "refused"
    assert found["keepalive"].found == "enforced: a silent client was cut off after 1.5 times the interval"


async def test_it_knows_mosquitto_and_its_limits(tmp_path: Path) -> None:
    async with certified_hub("mosquitto", tmp_path) as hub:
        found = await diagnosis(hub)
    assert all(each.good for each in found.values()), found
    assert "mosquitto version 2" in found["product"].found
    assert found["MQTT versions"].found == "3.1.1 and 5"
    assert found["strangers"].found == "refused"
    assert found["quality of service"].found == "up to 2 for a subscriber"
    assert found["largest message"].found == "512 bytes, as the fleet needs"
    assert found["keepalive"].found.startswith("enforced")


async def test_a_limit_below_what_the_fleet_sends_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SILENCE_S", 0.1)
    async with certified_hub("embedded", tmp_path) as hub:
        found = await diagnosis(hub, MAX_PAYLOAD_BYTES + 1)
    assert found["largest message"] == Finding(
        "largest message", "below 513 bytes, which a batch of the fleet may have", good=False
    )
    assert found["keepalive"].good is False


async def test_its_visit_takes_over_nobody_s_session_and_nobody_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "SILENCE_S", 0.1)
    async with certified_hub("embedded", tmp_path) as hub:
        manager, gateway = await hub.connect(MANAGER), await hub.connect("gateway-01")
        await gateway.subscribe("clawland/gateway-01/cmd")
        await diagnosis(hub)
        manager.publish("clawland/gateway-01/cmd", b"undisturbed")
        assert (await gateway.delivery()).payload == b"undisturbed"


async def test_with_a_password_it_comes_under_its_own_name_and_has_no_other_rights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "SILENCE_S", 0.1)
    access = HubAccess({DOCTOR: b"of the doctor", "gateway-01": b"x"}, MANAGER, b"y")
    async with EmbeddedBroker(access=access, max_payload_bytes=MAX_PAYLOAD_BYTES) as broker:
        patient = Patient("127.0.0.1", broker.port, None, DOCTOR, b"of the doctor")
        found = await examine(patient, MAX_PAYLOAD_BYTES)
        with pytest.raises(Unreachable, match="not accepted"):
            await examine(Patient("127.0.0.1", broker.port, None, DOCTOR, b"wrong"), 9)
    assert [each.what for each in found if not each.good] == ["keepalive"]
    assert not access.may_publish(DOCTOR, "clawland/gateway-01/cmd")
    assert not access.may_subscribe(DOCTOR, "clawland/+/probe")
    assert "of the doctor" not in repr(patient)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x02\x00\x05", b"\x20\xff\xff\xff\x7f"]
)
async def test_what_is_no_broker_or_refuses_is_said_in_one_line(said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=f"127.0.0.1:{port}: "):
            await examine(Patient("127.0.0.1", port), 9)
    with pytest.raises(Unreachable):
        await examine(Patient("127.0.0.1", port), 9)
    with pytest.raises(Unreachable):
        await examine(Patient("127.0.0.1", port, ssl.create_default_context()), 9)
