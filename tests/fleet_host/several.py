"""Two `fleet serve` on one PostgreSQL and one hub, behind nginx, as the project's script starts them: to be killed."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from fleet.host.tokens import issue, load_key
from tests.fleet_host.stand import INVENTORY, command
from tests.servers import free_port

SCRIPT = Path(__file__).parents[2] / "scripts" / "two-managers.sh"
READY_S = 60


def until(holds: Any, what: str, most_s: float = READY_S) -> Any:
    """Waits for another process; what it waited for."""
    deadline_s = time.monotonic() + most_s
    while not (found := holds()):
        assert time.monotonic() < deadline_s, f"waited in vain for {what}"
        time.sleep(0.05)
    return found


@dataclass
class Manager:
    """A `fleet serve` process; stopped or killed as the test likes."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Of its API."""
        return f"http://127.0.0.1:{self.port}"

    def role(self) -> str | None:
        """`leader` or `follower`, None while it is not ready."""
        with contextlib.suppress(httpx.HTTPError):
            response = httpx.get(f"{self.url}/readyz", timeout=5)
            return str(response.json()["role"]) if response.status_code == 200 else None
        return None

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        os.kill(self.pid, number)


@dataclass
class Several:
    """The whole stand, kept in `directory`; `url` is nginx's."""

    directory: Path
    hub: str
    database: str
    url: str
    managers: list[Manager]
    options: tuple[str | Path, ...]
    restarted: "list[subprocess.Popen[str]]" = field(default_factory=list)

    @property
    def data(self) -> Path:
        """Both managers' directory."""
        return self.directory / "data"

    @property
    def password_file(self) -> Path:
        """Of the database."""
        return self.directory / "database-password"

    def kill(self, manager: Manager) -> None:
        """SIGKILL."""
        manager.send(signal.SIGKILL)
        self.managers.remove(manager)

    def serve(self, port: int, *options: str | Path) -> list[str]:
        """The command line of a manager of this database."""
        database = ("--database-url", self.database, "--database-password-file", self.password_file)
        return command("serve", "--data", self.data, "--port", str(port), *database, *options)

    def start(self, port: int) -> None:
        """A manager in the place of one that was killed, when it is ready."""
        hub = ("--hub", self.hub, "--hub-password-file", self.directory / "hub-password")
        words = self.serve(port, "--inventory", self.directory / "inventory.json", *hub, *self.options)
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.restarted.append(child)
        assert child.stdout and child.stdout.readline(), "the manager did not start"
        self.managers.append(Manager(child.pid, port))

    def api(self, url: str, role: str = "admin") -> httpx.Client:
        """A client of one manager, or of nginx."""
        token = issue(load_key(self.data), "tester", role, 600)
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def by_role(self, role: str) -> Manager:
        """The manager that leads, or one that follows; waits for it."""
        found: Manager = until(lambda: next((each for each in self.managers if each.role() == role), None), f"a {role}")
        return found


@contextlib.contextmanager
def two_managers(*options: str | Path) -> Iterator[Several]:
    """What the script starts, with the tests' inventory and more `options` for both managers."""
    directory = Path(tempfile.mkdtemp(prefix="clawland-two-"))
    directory.chmod(0o755)  # PostgreSQL has to come in, as a user of its own
    (directory / "inventory.json").write_text(json.dumps(INVENTORY))
    port, hub, postgres = ports_in_a_row(3), free_port(), free_port()
    places = {"PORT": port, "HUB_PORT": hub, "PG_PORT": postgres, "INVENTORY": directory / "inventory.json"}
    options = ("--rate-limit", "100000", *options)
    script = subprocess.Popen(
        [SCRIPT, directory, *options],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {name: str(value) for name, value in places.items()},
    )
    restarted: list[subprocess.Popen[str]] = []
    try:
        assert script.stdout
        said = script.stdout.readline()
        assert said.startswith("two managers behind"), said
        managers = [Manager(int((directory / f"manager-{n}.pid").read_text()), port + n) for n in (1, 2)]
        database = f"postgresql://fleet@127.0.0.1:{postgres}/postgres"
        url, broker = f"http://127.0.0.1:{port}", f"127.0.0.1:{hub}"
        yield Several(directory, broker, database, url, managers, options, restarted)
    finally:
        for child in restarted:
            child.kill()
            child.communicate()
        script.terminate()
        script.communicate(timeout=60)
        shutil.rmtree(directory)


def ports_in_a_row(count: int) -> int:
    """The first of so many ports that nobody listens on at the moment."""
    while True:
        first = free_port()
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


async def off_loop(work: Any, *args: Any) -> Any:
    """Blocking work beside a gateway on the loop."""
    return await asyncio.to_thread(work, *args)
