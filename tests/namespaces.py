"""Network namespaces of one test: machines with cables between them, gone with the test however it ends.

A namespace is a file descriptor here and has no name, so nothing is left behind, and what runs in one is a thread.
"""

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import pytest

CLONE_NEWNET = 0x40000000
T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


class Machine:
    """A network namespace of its own, with its loopback up."""

    def __init__(self) -> None:
        self._fd = _in_a_thread(_new_namespace)
        self.ip("link set lo up")

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def run(self, work: Callable[[], T]) -> T:
        """Do `work` on this machine; sockets that it makes stay there, and so do processes that it starts."""
        return _in_a_thread(lambda: _work_in(self._fd, work))

    def command(self, *command: str, stdin: str = "") -> str:
        done = self.run(lambda: subprocess.run(command, input=stdin, capture_output=True, text=True, check=False))
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def ip(self, arguments: str) -> None:
        self.command("ip", *arguments.split())

    def set(self, path: str, value: int) -> None:
        """A kernel setting below /proc/sys/net of this machine."""
        self.run(lambda: _write(f"/proc/sys/net/{path}", value))

    def close(self) -> None:
        os.close(self._fd)


def cable(one: Machine, name: str, address: str, other: Machine, other_name: str, other_address: str) -> None:
    """Connect two machines by interfaces of these names, with addresses like 10.1.0.1/24."""
    one.ip(f"link add {name} type veth peer name far")
    one.ip(f"link set far netns {other.path}")
    other.ip(f"link set far name {other_name}")
    for machine, interface, given in ((one, name, address), (other, other_name, other_address)):
        machine.ip(f"address add {given} dev {interface}")
        machine.ip(f"link set {interface} up")


@contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """So many machines without cables; the test is skipped where nobody may have them."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces are made by root only")
    made: list[Machine] = []
    try:
        for _ in range(count):
            made.append(Machine())
        yield made
    finally:
        for machine in made:
            machine.close()


def _in_a_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(work).result()


def _new_namespace() -> int:
    _check(_libc.unshare(CLONE_NEWNET))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _work_in(namespace: int, work: Callable[[], T]) -> T:
    _check(_libc.setns(namespace, CLONE_NEWNET))
    return work()


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"a network namespace: {os.strerror(ctypes.get_errno())}")


def _write(path: str, value: int) -> None:
    with open(path, "w") as file:  # noqa: PTH123
        file.write(str(value))
