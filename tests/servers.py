"""PostgreSQL and Redis of the tests' own: real servers in temporary directories, on ports that the system chose.

They are missing on a machine only until `make setup`; a test that needs one then fails and says so.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import redis

START_S = 30


class MissingServer(Exception):
    """The machine lacks a program; the text says what to install."""


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """One cluster with password login over TCP. It refuses to run as root: then it is the user `postgres`."""

    def __init__(self, fsync: bool = False) -> None:
        """`fsync`: wait for the disk at commits, which only a machine's crash can tell from not waiting."""
        self._fsync = fsync
        self._bin = _postgresql_programs()
        self._as = _unprivileged()
        # Not below pytest's own directories, which only their owner may enter.
        self.directory = Path(tempfile.mkdtemp(prefix="clawland-pg-"))
        self.port, self.password = free_port(), secrets.token_hex(8)
        self.password_file = self.directory / "password"
        self.password_file.write_text(self.password)
        for place in (self.directory, self.password_file):
            place.chmod(0o700 if place.is_dir() else 0o600)
            if self._as is not None:
                os.chown(place, *self._as)
        self._run("initdb", "-D", self.directory / "data", "-U", "fleet", "-A", "scram-sha-256", "--no-sync",
                  f"--pwfile={self.password_file}", "-E", "UTF8", "--no-locale")  # fmt: skip
        self.start()

    def start(self) -> None:
        """Starts, and returns when connections are taken."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c shared_buffers=128MB"
        options += f" -c fsync={'on' if self._fsync else 'off'}"
        log = self.directory / "log"
        self._run("pg_ctl", "-D", self.directory / "data", "-w", "-t", START_S, "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Stops at once: connections are cut, as when the machine goes down."""
        self._run("pg_ctl", "-D", self.directory / "data", "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        """Ends the server and deletes all that it wrote."""
        self.stop()
        shutil.rmtree(self.directory)

    def make_database(self) -> str:
        """A new, empty database's URL, without a password."""
        name = f"test_{secrets.token_hex(6)}"
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://fleet@127.0.0.1:{self.port}/{name}"

    def connect(self, database: str) -> "psycopg.Connection[tuple[object, ...]]":
        """A connection of the test's own."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="fleet", password=self.password, dbname=database, autocommit=True
        )

    def _run(self, program: str, *arguments: object) -> None:
        who = {"user": self._as[0], "group": self._as[1], "extra_groups": []} if self._as else {}
        done = subprocess.run(
            [self._bin / program, *map(str, arguments)],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # no pipe: the server would inherit it, and keep it open
            stderr=subprocess.DEVNULL,
            timeout=START_S + 10,
            **who,  # type: ignore[call-overload]
        )
        log = self.directory / "log"
        assert done.returncode == 0, f"{program} failed: {log.read_text()[-2000:] if log.exists() else '?'}"


class RedisServer:
    """One server with a password, which keeps nothing on disk."""

    def __init__(self, directory: Path) -> None:
        program = _found("redis-server", "redis-server", Path("/usr/bin"))
        self.port, self.password = free_port(), secrets.token_hex(8)
        self.password_file = directory / "redis-password"
        self.password_file.write_text(self.password)
        self.password_file.chmod(0o600)
        self._config = directory / "redis.conf"
        self._config.write_text(
            f'bind 127.0.0.1\nport {self.port}\nsave ""\ndir {directory}\nrequirepass {self.password}\n'
        )
        self._program = program
        self.start()

    @property
    def url(self) -> str:
        """Without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A client of the test's own."""
        return redis.Redis(port=self.port, password=self.password, decode_responses=True)

    def start(self) -> None:
        """Starts, and returns when requests are answered."""
        self._child = subprocess.Popen([self._program, self._config], stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + START_S
        while True:
            try:
                self.client().ping()
                return
            except redis.ConnectionError:
                assert self._child.poll() is None and time.monotonic() < deadline_s, "redis-server does not start"
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: what it held is gone."""
        self._child.kill()
        self._child.wait()


def _unprivileged() -> tuple[int, int] | None:
    """The user and group to run a server as, None for ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise MissingServer("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _postgresql_programs() -> Path:
    """The folder of initdb and pg_ctl: Debian keeps them off PATH, a folder a version."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: -int(place.parts[-2]))
    return _found("pg_ctl", "postgresql", *places).parent


def _found(program: str, package: str, *places: Path) -> Path:
    for folder in (*places, *map(Path, os.environ.get("PATH", "").split(os.pathsep))):
        if (folder / program).exists():
            return folder / program
    raise MissingServer(f"{program} is missing on this machine: make setup, or sudo apt-get install {package}")
