"""The command `clawsim` as a user starts it: in a process of its own, in a directory of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from typer.testing import CliRunner

from clawsim.cli import app

CLAWSIM = str(Path(sys.executable).with_name("clawsim"))
SCENARIOS = Path(__file__).parents[2] / "scenarios"
LONGEST_S = 60

TINY = """\
version: 1
name: tiny
duration: 5 min
fleet:
  gateways: [{id: gateway-01}]
  nodes:
    - id: "sensor-{:02d}"
      count: 2
      type: microclaw
      gateway: gateway-01
      sensors: [{metric: temp, every: 20 s, signal: {constant: 21.5}}]
"""
EXPECT_ALL = "expect: [{readings: lost, equals: 0}, {readings: buffered, equals: 0}]\n"


def clawsim(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """`clawsim` with these arguments, to its end; a hang fails the test."""
    command = [CLAWSIM, *map(str, arguments)]
    return subprocess.run(command, **{"capture_output": True, "text": True, "timeout": LONGEST_S} | options)


def clawsim_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The same without a process of its own, for what ends before anything runs; an exception is the test's."""
    done = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    return subprocess.CompletedProcess(["clawsim"], done.exit_code, done.stdout, done.stderr)


def assert_refused(done: subprocess.CompletedProcess[str], exit_code: int, said: str) -> None:
    """It ended with `exit_code` and a line on stderr that matches `said`, and without a traceback."""
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert re.search(said, done.stderr), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout == ""


def scenario(directory: Path, text: str = TINY) -> Path:
    """A scenario file with this text."""
    path = directory / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    return path


class Running:
    """`clawsim` while it runs, and everything that it started."""

    def __init__(self, process: subprocess.Popen[str], temporary: Path) -> None:
        self.process = process
        self.temporary = temporary
        self._seen: dict[int, psutil.Process] = {}

    def children(self) -> list[psutil.Process]:
        """Its processes by now, also those of earlier looks that still live."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        self._seen |= {child.pid: child for child in found}
        return [child for child in self._seen.values() if _lives(child)]

    def child(self, words: str) -> psutil.Process | None:
        """The child whose command line contains `words`."""
        for child in self.children():
            try:
                if words in " ".join(child.cmdline()):
                    return child
            except psutil.Error:
                continue
        return None

    def ports(self) -> set[int]:
        """The ports that it and its children listen on."""
        found: set[int] = set()
        for process in [psutil.Process(self.process.pid), *self.children()]:
            try:
                connections = process.net_connections(kind="tcp")
            except psutil.Error:
                continue
            found |= {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
        return found

    def send(self, number: signal.Signals) -> None:
        """A signal to the command alone, as `kill` sends it."""
        self.process.send_signal(number)

    def ended(self) -> bool:
        """Whether it is over."""
        return self.process.poll() is not None

    def end(self) -> tuple[int, str, str]:
        """Its exit code and what it said."""
        out, err = self.process.communicate(timeout=LONGEST_S)
        return self.process.returncode, out, err


@contextmanager
def running(directory: Path, *arguments: str | Path) -> Iterator[Running]:
    """`clawsim` in the background; its temporary files are in `directory`/tmp."""
    temporary = directory / "tmp"
    temporary.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [CLAWSIM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
    )
    found = Running(process, temporary)
    try:
        yield found
    finally:
        for child in found.children():
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.communicate()


def until(claim: Callable[[], Any], what: str, within_s: float = 30) -> Any:
    """What `claim` gives once it is true; a real process leaves no other way than to ask again."""
    deadline_s = time.monotonic() + within_s
    while not (found := claim()):
        assert time.monotonic() < deadline_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)
    return found


def nobody_listens(ports: set[int]) -> bool:
    """Whether no process of this machine listens on any of `ports` any more."""
    listening = {c.laddr.port for c in psutil.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN}
    return not ports & listening


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
