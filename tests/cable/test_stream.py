"""A port by its pyserial URL: what comes and goes, how it ends, and in which words it says why it cannot."""

import asyncio
import errno
import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import serial
import serial.rfc2217

from firmware.cable.stream import SerialStream, open_port, problem_of_url, reason_of
from tests.cable.cable import GATEWAY, NODE, Cable
from tests.nanoclaw_host.rig import eventually


class Owner:
    """Hears all."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.bytes = b""
        self.count = 0
        self.reason = ""

    def opened(self, stream: Any) -> None:
        self.heard.append("opened")

    def data(self, stream: Any, data: bytes) -> None:
        self.bytes += data

    def written(self, stream: Any, count: int) -> None:
        self.count += count

    def lost(self, stream: Any, reason: str) -> None:
        self.heard.append("lost")
        self.reason = reason

    def congested(self) -> bool:
        return False


@pytest.fixture
async def cable(tmp_path: Path) -> AsyncIterator[Cable]:
    made = Cable(tmp_path)
    yield made
    made.close()


async def opened(url: str) -> tuple[SerialStream, Owner]:
    owner = Owner()
    stream = SerialStream(owner, url, 115_200)
    stream.open()
    await eventually(lambda: owner.heard, f"{url} open")
    assert owner.heard == ["opened"], owner.reason
    return stream, owner


async def end(*streams: SerialStream) -> None:
    for stream in streams:
        stream.leave()
    await asyncio.gather(*(stream.released.wait() for stream in streams))


async def test_bytes_go_both_ways_through_a_device(cable: Cable) -> None:
    (one, at_one), (other, at_other) = await opened(str(cable.gateway)), await opened(str(cable.node))
    one.write(b"there")
    other.write(b"and back" * 1000)
    await eventually(lambda: at_other.bytes == b"there" and at_one.bytes == b"and back" * 1000, "the bytes")
    assert (at_one.count, at_other.count) == (5, 8000)
    await end(one, other)


async def test_a_device_that_is_unplugged_is_lost_with_the_reason(cable: Cable) -> None:
    _, owner = await opened(str(cable.gateway))
    cable.unplug(GATEWAY)
    await eventually(lambda: owner.reason, "the loss")
    assert owner.reason == "unplugged, or the other end closed it"


async def test_a_device_is_for_one_process_alone_until_it_is_let_go(cable: Cable) -> None:
    stream, _ = await opened(str(cable.node))
    with pytest.raises(OSError, match="exclusively") as error:
        open_port(str(cable.node), 9600)
    assert reason_of(error.value) == "in use by another process"
    await end(stream)
    open_port(str(cable.node), 9600).close()


async def test_what_is_not_there_is_lost_at_once_and_what_was_left_says_nothing(cable: Cable) -> None:
    cable.unplug(NODE)
    owner, silent = Owner(), Owner()
    for each in (owner, silent):
        stream = SerialStream(each, str(cable.node), 9600)
        stream.open()
    stream.leave()
    await stream.released.wait()
    await eventually(lambda: owner.heard, "the failure")
    assert (owner.heard, owner.reason, silent.heard) == (["lost"], "there is no such device", [])


async def test_a_socket_is_a_port_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        stream, owner = await opened(f"socket://127.0.0.1:{port}")
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"hello")
            stream.write(b"hi")
            await eventually(lambda: owner.bytes == b"hello" and owner.count == 2, "bytes")
            assert peer.recv(10) == b"hi"
    await eventually(lambda: owner.reason, "the end")
    stream = SerialStream(owner := Owner(), f"socket://127.0.0.1:{port}", 9600)
    stream.open()
    await stream.released.wait()
    await eventually(lambda: owner.reason == "connection refused", "the refusal")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:serial.rfc2217")
async def test_a_port_of_a_remote_bench_is_one_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        bench = threading.Thread(target=serve_rfc2217, args=(server,), daemon=True)
        bench.start()
        stream, owner = await opened(f"rfc2217://127.0.0.1:{server.getsockname()[1]}")
        stream.write(b"hello\xff")
        await eventually(lambda: owner.bytes == b"hello\xff", "the echo of the bench")
        await end(stream)
        await asyncio.to_thread(bench.join)


def serve_rfc2217(server: socket.socket) -> None:
    """What a remote bench does: a port behind Telnet (RFC 2217), for one client; this port echoes."""
    connection, _ = server.accept()
    connection.settimeout(0.02)
    port = serial.serial_for_url("loop://", timeout=0)
    writer = type("Writer", (), {"write": staticmethod(connection.sendall)})
    manager = serial.rfc2217.PortManager(port, writer)
    with connection, port:
        while True:
            try:
                data = connection.recv(1024)
                if not data:
                    return
                port.write(b"".join(manager.filter(data)))
            except TimeoutError:
                pass
            except OSError:
                return
            if found := port.read(1024):
                connection.sendall(b"".join(manager.escape(found)))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ttyUSB0", "must be a device as /dev/ttyUSB0, or a URL as socket://host:port"),
        ("http://barn:80", "http:// is not among alt, cp2110, hwgrep, loop, rfc2217, socket, spy"),
        ("socket://barn", "needs host and port, as socket://host:4000, not 'barn'"),
        ("rfc2217://:70000", "needs host and port, as rfc2217://host:4000, not ':70000'"),
    ],
)
def test_a_url_that_cannot_be_is_told(url: str, words: str) -> None:
    assert problem_of_url(url) == words


def test_urls_that_can_be_are_taken() -> None:
    for url in ("/dev/ttyUSB0", "socket://127.0.0.1:4000", "rfc2217://barn:4000", "loop://", "hwgrep://ttyUSB"):
        assert problem_of_url(url) is None


def test_the_system_s_own_words_are_found_behind_those_of_the_library() -> None:
    assert "group" in reason_of(serial.SerialException(errno.EACCES, "could not open port"))
    hidden = serial.SerialException("Could not open port")
    hidden.__context__ = OSError(errno.EHOSTUNREACH, "x")
    assert reason_of(hidden) == os.strerror(errno.EHOSTUNREACH).lower()
    assert reason_of(ValueError("no idea")) == "no idea"
