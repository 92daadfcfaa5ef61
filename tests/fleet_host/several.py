"""Two `fleet serve` on one PostgreSQL and one hub, behind nginx: real processes, for tests that kill them."""

import asyncio
import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from fleet.host.tokens import issue, load_key
from tests.fleet_host.stand import Fleet, command, fleet_with_hub
from tests.servers import NginxServer, PostgresServer, free_port

READY_S = 30


def nginx_config(directory: Path, port: int, servers: list[int]) -> str:
    """Managers on `servers` behind `port`; one that does not answer, or says 503, gives way to the other."""
    upstream = "".join(f"server 127.0.0.1:{each} max_fails=1 fail_timeout=1s;" for each in servers)
    return f"""
        daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.log; worker_processes 1;
        events {{}}
        http {{
            access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
            fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
            upstream managers {{ {upstream} }}
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    proxy_pass http://managers; proxy_http_version 1.1; proxy_set_header Connection "";
                    proxy_buffering off; proxy_next_upstream error timeout http_503;
                }}
            }}
        }}
    """


@contextlib.contextmanager
def nginx(directory: Path, servers: list[int]) -> Iterator[str]:
    """A running nginx before `servers`; its URL."""
    port = free_port()
    server = NginxServer(directory, nginx_config(directory, port, servers), port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


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

    child: "subprocess.Popen[str]"
    port: int
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}"

    def role(self) -> str | None:
        """`leader` or `follower`, None while it is not ready."""
        with contextlib.suppress(httpx.HTTPError):
            response = httpx.get(f"{self.url}/readyz", timeout=5)
            return str(response.json()["role"]) if response.status_code == 200 else None
        return None

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()
        self.child.wait()

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        self.child.send_signal(number)


@dataclass
class Several:
    """The whole stand."""

    fleet: Fleet
    database: str
    password_file: Path
    options: tuple[str | Path, ...]
    managers: list[Manager]
    url: str = ""

    def start(self, *ports: int) -> list[Manager]:
        """A manager on each port, 0 for any, when they are ready."""
        serve = ("serve", "--data", self.fleet.data, *self.options)
        children = [
            subprocess.Popen(command(*serve, "--port", str(port)), stdout=subprocess.PIPE, text=True) for port in ports
        ]
        found = [Manager(child, _port_of(child)) for child in children]
        self.managers += found
        return found

    def api(self, url: str, role: str = "admin") -> httpx.Client:
        """A client of one manager, or of nginx."""
        token = issue(load_key(self.fleet.data), "tester", role, 600)
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def by_role(self, role: str) -> Manager:
        """The manager that leads, or one that follows; waits for it."""

        def find() -> Manager | None:
            return next((each for each in self.managers if each.child.poll() is None and each.role() == role), None)

        found: Manager = until(find, f"a {role}")
        return found


@contextlib.contextmanager
def two_managers(
    directory: Path, postgres: PostgresServer, *options: str | Path, proxy: bool = True
) -> Iterator[Several]:
    """Two of them, and nginx before both."""
    with fleet_with_hub(directory) as fleet, contextlib.ExitStack() as stack:
        database = postgres.make_database()
        common: tuple[str | Path, ...] = ("--database-url", database)
        common += ("--database-password-file", postgres.password_file, "--inventory", fleet.inventory)
        common += ("--hub", fleet.hub, "--hub-password-file", fleet.password, "--rate-limit", "100000")
        found = Several(fleet, database, postgres.password_file, (*common, *options), [])
        try:
            found.start(0, 0)
            if proxy:
                found.url = stack.enter_context(nginx(directory, [each.port for each in found.managers]))
            found.by_role("leader")
            yield found
        finally:
            for each in found.managers:
                each.child.send_signal(signal.SIGCONT)
                each.child.kill()
                each.child.communicate()


def _port_of(child: "subprocess.Popen[str]") -> int:
    """From the line that says that it is ready."""
    assert child.stdout
    line = child.stdout.readline()
    assert line, "the manager did not start"
    return int(re.findall(r"http://[^:]+:(\d+)", line)[0])


async def off_loop(work: Any, *args: Any) -> Any:
    """Blocking work beside a gateway on the loop."""
    return await asyncio.to_thread(work, *args)
