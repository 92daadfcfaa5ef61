"""Claims about running the installed Mosquitto: its files, its start and its end."""

import base64
import contextlib
import hashlib
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.hub import HubAccess, HubError, MosquittoBroker, NodeAccess, write_mosquitto_files
from fleet.hub.mosquitto import password_entry
from tests.hub.client import RawClient

ACCESS = NodeAccess("gateway-01", b"key-of-the-gateway", {"sensor-01": b"key-of-sensor-01"})


def _broker(directory: Path, port: int = 0) -> MosquittoBroker:
    return MosquittoBroker(access=ACCESS, max_payload_bytes=512, directory=directory / "mosquitto", port=port)


def test_its_files_are_for_this_user_alone_and_hold_no_password_in_clear(tmp_path: Path) -> None:
    os.umask(0o022)
    files = write_mosquitto_files(tmp_path, access=ACCESS, host="127.0.0.1", port=1883, max_payload_bytes=512)

    for path in (files.config, files.passwords, files.rights):
        assert path.stat().st_mode & 0o777 == 0o600
        assert "key-of" not in path.read_text()


def test_a_password_is_stored_as_mosquitto_passwd_would(tmp_path: Path) -> None:
    """Format `$7$iterations$salt$hash`; that Mosquitto accepts it is what every other test here shows."""
    _, kind, iterations, salt, digest = password_entry(b"secret").split("$")

    expected = hashlib.pbkdf2_hmac("sha512", b"secret", base64.b64decode(salt), int(iterations))
    assert (kind, base64.b64decode(digest)) == ("7", expected)


def test_rights_are_written_for_each_identity_of_the_hub(tmp_path: Path) -> None:
    access = HubAccess({"gateway-01": b"x"}, "manager", b"y")
    files = write_mosquitto_files(tmp_path, access=access, host="127.0.0.1", port=1883, max_payload_bytes=512)

    first, second, *_ = files.rights.read_text().split("\n\n")
    assert first.splitlines()[0] == "user gateway-01"
    assert "topic write clawland/gateway-01/batch/gz" in first.splitlines()
    assert second.splitlines()[0] == "user manager"
    assert "topic read #" in second.splitlines()


@pytest.mark.parametrize("name", ["sensor\nuser manager", "a:b", "+", "#", "Sensor", "", "-a", "a" * 33])
def test_a_name_that_could_change_the_meaning_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    access = NodeAccess("gateway-01", b"x", {name: b"y"})
    with pytest.raises(HubError, match="cannot be an identity"):
        write_mosquitto_files(tmp_path, access=access, host="127.0.0.1", port=1883, max_payload_bytes=512)


def test_what_cannot_be_written_down_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="NUL"):
        password_entry(b"a\0b")
    with pytest.raises(HubError, match="table of passwords"):
        NodeAccess("gateway-01", b"x", lambda node: None).identities()


async def test_without_mosquitto_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    with pytest.raises(HubError, match="apt-get install mosquitto"):
        await _broker(tmp_path).start()


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HubError, match=f"port {port} on 127.0.0.1 is in use"):
            await _broker(tmp_path, port=port).start()


async def test_its_own_last_words_come_with_the_error(tmp_path: Path) -> None:
    broker = MosquittoBroker(access=ACCESS, max_payload_bytes=-1, directory=tmp_path)
    with pytest.raises(HubError, match="message_size_limit"):
        await broker.start()
    assert not broker.running


async def test_stopping_frees_the_port_and_may_be_repeated(tmp_path: Path) -> None:
    broker = _broker(tmp_path)
    await broker.start()
    client = await RawClient.open(broker.port)
    await broker.stop()
    await broker.stop()

    assert await client.is_closed_by_broker()
    with socket.create_server(("127.0.0.1", broker.port)):
        pass
    with pytest.raises(HubError, match="not running"):
        await broker.reload()


def test_it_does_not_outlive_whoever_started_it(tmp_path: Path) -> None:
    """A parent that is killed has no chance to clean up."""
    program = f"""
import asyncio, os, pathlib
from fleet.hub import MosquittoBroker, NodeAccess
async def main():
    access, directory = NodeAccess("g", b"x", {{}}), pathlib.Path({str(tmp_path)!r})
    broker = MosquittoBroker(access=access, max_payload_bytes=9, directory=directory)
    await broker.start()
    print(broker.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        descriptor = os.pidfd_open(child)
        parent.send_signal(signal.SIGKILL)
    try:
        ended, _, _ = select.select([descriptor], [], [], 5)  # readable once the process has ended
        assert ended
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        os.close(descriptor)
