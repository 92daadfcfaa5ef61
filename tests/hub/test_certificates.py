"""Claims about a hub behind TLS: who gets in, as whom, and what an attacker gains. Put to both brokers."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.host.pki import certificates
from fleet.host.pki.authority import HUB, Authority
from fleet.hub import CertificateAccess, EmbeddedBroker, HubAccess, HubError, TlsFiles
from tests.hub.certified import MANAGER, MAX_PAYLOAD_BYTES, CertifiedHub, authority_in, certified_hub, files_of
from tests.hub.client import CONNACK, PUBACK, RawClient, connect_packet


@pytest.fixture(params=["embedded", "mosquitto"])
async def hub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CertifiedHub]:
    async with certified_hub(str(request.param), tmp_path) as running:
        yield running


async def test_a_gateway_with_a_certificate_reaches_the_manager_and_is_reached(hub: CertifiedHub) -> None:
    manager, gateway = await hub.connect(MANAGER), await hub.connect("gateway-01")
    await manager.subscribe("clawland/+/batch")
    await gateway.subscribe("clawland/gateway-01/cmd")

    gateway.publish("clawland/gateway-01/batch", b"up")
    manager.publish("clawland/gateway-01/cmd", b"down")

    assert (await manager.delivery()).payload == b"up"
    assert (await gateway.delivery()).payload == b"down"


async def test_without_a_certificate_nobody_gets_in(hub: CertifiedHub) -> None:
    assert await hub.attempt(hub.context()) is None


async def test_anonymous_and_password_clients_without_tls_get_nothing(hub: CertifiedHub) -> None:
    for username, password in ((None, None), ("gateway-01", "x"), (MANAGER, "")):
        client = await RawClient.open(hub.broker.port)
        client.send(connect_packet("x", username, password))
        with pytest.raises((EOFError, AssertionError)):  # hung up, or bytes that are no CONNACK: an alert of TLS
            await client.expect(CONNACK)
        client.drop()


async def test_a_certificate_of_another_authority_is_refused_also_under_the_same_names(
    hub: CertifiedHub, tmp_path: Path
) -> None:
    other = authority_in(tmp_path / "other")

    assert await hub.attempt(hub.context_of("gateway-01", other)) is None
    assert await hub.attempt(hub.context_of(MANAGER, other)) is None


async def test_a_certificate_that_signs_itself_is_refused(hub: CertifiedHub, tmp_path: Path) -> None:
    key = certificates.new_key()
    pair = tmp_path / "self.pem"
    pair.write_bytes(certificates.pair_pem(key, certificates.build_authority(key, MANAGER, datetime.now(UTC))))

    assert await hub.attempt(hub.context(pair)) is None


async def test_an_expired_certificate_is_refused(hub: CertifiedHub) -> None:
    past = Authority(hub.authority.directory.parent, lambda: datetime.now(UTC) - timedelta(days=91))
    assert past.directory == hub.authority.directory

    assert await hub.attempt(hub.context_of("gateway-01", past)) is None


async def test_the_hub_s_own_certificate_lets_nobody_in_as_a_client(hub: CertifiedHub) -> None:
    assert await hub.attempt(hub.context(hub.authority.file_of(HUB))) is None


async def test_a_revocation_ends_the_session_and_refuses_the_next_and_leaves_others_alone(hub: CertifiedHub) -> None:
    lost = hub.context_of("gateway-01")
    thief = await hub.attempt(lost)
    assert thief is not None

    await hub.revoke("gateway-01")

    assert await thief.is_closed_by_broker()
    assert await hub.attempt(lost) is None
    assert await hub.attempt(hub.context_of("gateway-02")) is not None
    assert await hub.attempt(hub.context_of("gateway-01")) is not None  # a new one, issued after it


async def test_a_name_and_password_in_connect_change_nothing_of_who_it_is(hub: CertifiedHub) -> None:
    """The certificate of gateway-01 with the user name, and the client id, of gateway-02 and of the manager."""
    manager, victim = await hub.connect(MANAGER), await hub.connect("gateway-02")
    await manager.subscribe("clawland/+/batch")
    await victim.subscribe("clawland/gateway-02/cmd")
    for name in ("gateway-02", MANAGER):
        liar = await hub.attempt(hub.context_of("gateway-01"), client_id=name, username=name, password="x")
        assert liar is not None
        for topic in ("clawland/gateway-02/batch", "clawland/gateway-02/cmd", "clawland/gateway-01/batch"):
            liar.publish(topic, b"by gateway-01", qos=1)
            await liar.expect(PUBACK)
        assert (await manager.delivery()).topic == "clawland/gateway-01/batch"
    await victim.ping()  # nothing came, and the session is still its own
    await manager.ping()


@pytest.mark.parametrize(
    "topic", ["clawland/gateway-02/batch", "clawland/gateway-02/ack", "clawland/gateway-02/cmd", "clawland/+/batch"]
)
async def test_a_gateway_cannot_speak_as_another(hub: CertifiedHub, topic: str) -> None:
    manager, attacker = await hub.connect(MANAGER), await hub.connect("gateway-01")
    await manager.subscribe("#")
    attacker.publish(topic, b"forged")
    try:
        await attacker.ping()
    except EOFError:  # a wildcard in a topic ends the connection
        attacker = await hub.connect("gateway-01")
    attacker.publish("clawland/gateway-01/ack", b"honest")

    assert (await manager.delivery()).payload == b"honest"


@pytest.mark.parametrize(
    "topic_filter",
    ["#", "clawland/#", "clawland/+/cmd", "+/+/config", "clawland/gateway-02/cmd", "$share/g/clawland/+/cmd", "$SYS/#"],
)
async def test_a_gateway_hears_nothing_of_another_whatever_it_subscribes_to(
    hub: CertifiedHub, topic_filter: str
) -> None:
    manager, curious = await hub.connect(MANAGER), await hub.connect("gateway-01")
    await curious.subscribe("clawland/gateway-01/cmd")
    await curious.subscribe(topic_filter)
    for verb in ("cmd", "config", "batch/ack"):
        manager.publish(f"clawland/gateway-02/{verb}", b"private")
    manager.publish("clawland/gateway-01/cmd", b"mine")

    assert (await curious.delivery()).payload == b"mine"


async def test_an_oversize_payload_reaches_nobody_and_others_still_do(hub: CertifiedHub) -> None:
    manager, gateway = await hub.connect(MANAGER), await hub.connect("gateway-01")
    await manager.subscribe("clawland/+/batch")
    gateway.publish("clawland/gateway-01/batch", b"x" * (MAX_PAYLOAD_BYTES + 1))
    gateway.publish("clawland/gateway-01/batch", b"y" * MAX_PAYLOAD_BYTES)

    assert (await manager.delivery()).payload == b"y" * MAX_PAYLOAD_BYTES


async def test_a_client_recognises_a_hub_that_is_not_its_own(hub: CertifiedHub, tmp_path: Path) -> None:
    other = authority_in(tmp_path / "other")
    context = hub.context(hub.authority.file_of(MANAGER), other.certificate_file)

    with pytest.raises(ssl.SSLCertVerificationError):
        await RawClient.open(hub.broker.port, context)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_tls_before_1_2_is_refused(hub: CertifiedHub) -> None:
    context = hub.context_of("gateway-01")
    context.set_ciphers("ALL:@SECLEVEL=0")  # else this side would not even try
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1

    assert await hub.attempt(context) is None


# --- of the embedded broker alone -------------------------------------------------------------------------------------


async def test_each_refusal_is_counted_with_its_reason(tmp_path: Path) -> None:
    async with certified_hub("embedded", tmp_path) as hub:
        assert isinstance(hub.broker, EmbeddedBroker)
        await hub.attempt(hub.context_of("gateway-01", authority_in(tmp_path / "other")))
        await hub.attempt(hub.context())
        await hub.attempt(hub.context_of("gateway-01"))
        await hub.revoke("gateway-01")

        counts = hub.broker.rejected

    assert counts == {"certificate refused": 1, "no TLS with a client certificate": 1, "certificate over": 1}


async def test_a_changed_revocation_list_is_noticed_without_being_told(tmp_path: Path) -> None:
    async with certified_hub("embedded", tmp_path) as hub:
        doomed = await hub.connect("gateway-01")
        hub.authority.revoke("gateway-01")

        assert await doomed.is_closed_by_broker()


async def test_a_certificate_that_runs_out_ends_its_session(tmp_path: Path) -> None:
    async with certified_hub("embedded", tmp_path) as hub:
        almost = Authority(tmp_path / "data", lambda: datetime.now(UTC) - timedelta(days=90, seconds=-2))
        client = await hub.attempt(hub.context_of("gateway-01", almost))
        assert client is not None

        assert await client.is_closed_by_broker()


async def test_a_gateway_that_the_registry_does_not_know_stays_out_whatever_the_authority_signed(
    tmp_path: Path,
) -> None:
    authority = authority_in(tmp_path / "data")
    access = HubAccess({"gateway-01": b"key"}, MANAGER, b"secret")
    async with EmbeddedBroker(access=access, max_payload_bytes=MAX_PAYLOAD_BYTES, tls=files_of(authority)) as broker:
        hub = CertifiedHub(broker, authority, tmp_path)
        assert await hub.attempt(hub.context_of("gateway-02")) is None
        assert await hub.attempt(hub.context_of("gateway-01")) is not None
        for client in hub.clients:
            client.drop()


async def test_a_broken_file_keeps_what_was_in_force(tmp_path: Path) -> None:
    async with certified_hub("embedded", tmp_path) as hub:
        assert isinstance(hub.broker, EmbeddedBroker)
        hub.authority.revocations_file.write_text("nonsense")
        hub.broker.refresh_certificates()

        assert await hub.attempt(hub.context_of("gateway-01")) is not None


async def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path / "ca.crt", tmp_path / "hub.pem", tmp_path / "crl.pem")
    broker = EmbeddedBroker(access=CertificateAccess(MANAGER), max_payload_bytes=9, tls=files)
    with pytest.raises(HubError, match=r"cannot read .*ca\.crt"):
        await broker.start()
    for path in files.all():
        path.write_text("nonsense")
    with pytest.raises(HubError, match=r"cannot use the hub's certificates .*hub\.pem"):
        await broker.start()


async def test_who_begins_no_tls_in_time_is_cut_off_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.hub.reception._CONNECT_WITHIN_S", 0.05)
    async with certified_hub("embedded", tmp_path) as hub:
        assert isinstance(hub.broker, EmbeddedBroker)
        silent = await RawClient.open(hub.broker.port)
        assert await silent.is_closed_by_broker()
        assert hub.broker.rejected == {"no TLS with a client certificate": 1}


async def test_a_hub_behind_tls_stops_with_clients_in_every_state(tmp_path: Path) -> None:
    async with certified_hub("embedded", tmp_path) as hub:
        await hub.connect("gateway-01")
        await RawClient.open(hub.broker.port)
        await RawClient.open(hub.broker.port, hub.context_of("gateway-02"))
        async with asyncio.timeout(5):
            await hub.broker.stop()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_a_fast_writer_over_tls_is_heard_whole(tmp_path: Path) -> None:
    async with certified_hub("embedded", tmp_path) as hub:
        manager, gateway = await hub.connect(MANAGER), await hub.connect("gateway-01")
        await manager.subscribe("clawland/+/batch")
        for number in range(2000):
            gateway.publish("clawland/gateway-01/batch", b"%d " % number * 60)
        for number in range(2000):
            assert (await manager.delivery()).payload == b"%d " % number * 60
