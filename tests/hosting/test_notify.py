"""What systemd hears of a daemon, over the socket that it named, and nothing without one."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware.hosting.notify import ServiceManager


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ear:
        ear.bind(str(tmp_path / "notify"))
        yield ear


def said(ear: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(ear.recv(4096).decode())
        except BlockingIOError:
            return found


def test_it_says_ready_with_a_status_and_that_it_stops(heard: socket.socket) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": heard.getsockname()})
    manager.ready("all well")
    manager.status("busy")
    manager.stopping()
    assert said(heard) == ["READY=1\nSTATUS=all well", "STATUS=busy", "STOPPING=1"]


def test_a_name_in_the_abstract_namespace_begins_with_an_at() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ear:
        ear.bind(f"\0clawland-test-{os.getpid()}")
        ServiceManager({"NOTIFY_SOCKET": f"@clawland-test-{os.getpid()}"}).status("here")
        assert said(ear) == ["STATUS=here"]


def test_without_systemd_nothing_is_said_and_nothing_fails() -> None:
    manager = ServiceManager({})
    manager.ready("all well")
    assert manager.watchdog_s is None


def test_a_socket_that_is_gone_costs_a_log_line(tmp_path: Path) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("all well")


def test_children_do_not_inherit_the_socket(heard: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": heard.getsockname(), "WATCHDOG_USEC": "1000000", "PATH": "/bin"}
    ServiceManager(environ)
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_for_this_process_or_for_nobody(environ: dict[str, str], watchdog_s: float | None) -> None:
    assert ServiceManager({"NOTIFY_SOCKET": "/nowhere", **environ}).watchdog_s == watchdog_s


async def test_signs_of_life_end_when_the_core_is_pumped_no_longer(heard: socket.socket) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": heard.getsockname(), "WATCHDOG_USEC": "3000"})
    lives = iter([True, True, False, False])
    over = asyncio.Event()

    def alive() -> bool:
        found = next(lives, None)
        if found is None:
            over.set()
        return bool(found)

    watch = asyncio.create_task(manager.watch(alive))
    await asyncio.wait_for(over.wait(), 10)
    watch.cancel()
    assert said(heard) == ["WATCHDOG=1", "WATCHDOG=1"]


async def test_the_watchdog_is_fed_again_and_again_while_the_service_lives(heard: socket.socket) -> None:
    heard.settimeout(10)
    manager = ServiceManager({"NOTIFY_SOCKET": heard.getsockname(), "WATCHDOG_USEC": "20000"})
    watch = asyncio.create_task(manager.watch(lambda: True))
    for _ in range(3):
        assert await asyncio.to_thread(heard.recv, 999) == b"WATCHDOG=1"
    watch.cancel()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nowhere/socket"}, {"NOTIFY_SOCKET": "vsock:2:1"}], ids=str)
async def test_where_there_is_no_systemd_nobody_is_told_and_nothing_waits(environ: dict[str, str]) -> None:
    manager = ServiceManager(environ | {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    manager.ready("x")
    manager.stopping()
    await manager.watch(lambda: True)
