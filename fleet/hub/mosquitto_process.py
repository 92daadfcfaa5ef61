"""The installed Mosquitto as a child process, started and stopped like the embedded broker."""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import ssl
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader

from fleet.hub.access import StaticAccess
from fleet.hub.embedded import listen_on
from fleet.hub.errors import HubError
from fleet.hub.mosquitto import MosquittoFiles, write_mosquitto_credentials, write_mosquitto_files
from fleet.hub.mosquitto_log import MosquittoLog
from fleet.hub.rejections import EventSink, Rejections
from fleet.hub.tls import TlsFiles

_SEARCH = ("/usr/local/sbin", "/usr/sbin", "/opt/mosquitto/sbin")  # Debian keeps daemons off a user's PATH
_START_WITHIN_S = 10.0
_STOP_WITHIN_S = 5.0
_POLL_S = 0.02
_ATTEMPTS = 5  # another program may take the free port between our look and Mosquitto's
_LAST_LINES = 5
_NO_WORDS = "it said nothing"
_PROBE = "_ready"  # no identity can have this name

_ACCEPTED = b"\x20\x02\x00\x00"  # CONNACK, return code 0


class MosquittoBroker:
    """Mosquitto with the rights of `access`, its files in `directory`, its log appended to `log_file`.

    `on_event(kind, fields)` is told of `message.rejected`, as by the embedded broker; then Mosquitto writes a line for
    each packet, which costs it speed, and stands still while nobody reads them. Without it nothing is told.

    It dies with the thread that started it, whatever happens to this process.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        access: StaticAccess,
        max_payload_bytes: int,
        directory: Path,
        log_file: Path | None = None,
        max_clients: int = 2000,
        tls: TlsFiles | None = None,
        on_event: EventSink | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.log_file = log_file or directory / "mosquitto.log"
        self._wanted_port = port
        self._access = access
        self._max_payload_bytes = max_payload_bytes
        self._directory = directory
        self._max_clients = max_clients
        self._tls = tls
        self._files: MosquittoFiles | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._tells = on_event is not None
        self._rejections = Rejections(on_event)
        self._reader: asyncio.Task[None] | None = None

    @property
    def rejected(self) -> Counter[str]:
        """How often each reason made it drop a message; nothing where nobody wants to be told."""
        return self._rejections.counts.copy()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Run Mosquitto and wait until it answers. `port` is the real one afterwards.

        Raises HubError: not installed, port in use, or its own last words.
        """
        if self.running:
            raise HubError(f"Mosquitto on {self.host}:{self.port} is running already")
        command = _command()
        for attempt in range(_ATTEMPTS):
            self.port = _free_port(self.host, self._wanted_port)
            if await self._launch(command):
                return
            if self._wanted_port or attempt == _ATTEMPTS - 1:
                break
        raise HubError(f"Mosquitto did not start on {self.host}:{self.port}: {self._last_words()}")

    async def stop(self) -> None:
        """End Mosquitto, by force if it does not go. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._reader is not None:
            await self._reader

    async def reload(self) -> None:
        """Put changed passwords into force. Those whose password went are disconnected, nobody else is.

        With TLS it is started anew, since Mosquitto keeps the sessions of certificates that have been revoked.
        Raises HubError when Mosquitto is not running or does not answer.
        """
        if self._process is None or self._files is None or not self.running:
            raise HubError(f"Mosquitto on {self.host}:{self.port} is not running")
        if self._tls is not None:
            await self._restart()
            return
        probe = secrets.token_hex(16)
        write_mosquitto_credentials(self._files, self._access, {_PROBE: probe.encode()})
        self._process.send_signal(signal.SIGHUP)
        if not await self._answers(self._process, probe):
            raise HubError(f"Mosquitto on {self.host}:{self.port} did not take its new passwords: {self._last_words()}")

    async def _restart(self) -> None:
        port = self.port
        await self.stop()
        if not await self._launch(_command()):
            raise HubError(f"Mosquitto did not start again on {self.host}:{port}: {self._last_words()}")

    async def _launch(self, command: list[str]) -> bool:
        probe = secrets.token_hex(16)
        self._files = write_mosquitto_files(
            self._directory,
            access=self._access,
            host=self.host,
            port=self.port,
            max_payload_bytes=self._max_payload_bytes,
            max_clients=self._max_clients,
            extra_passwords={_PROBE: probe.encode()},
            tls=self._tls,
            log_packets=self._tells,
        )
        self._process = await self._spawn([*command, str(self._files.config)])
        ready = False
        try:
            ready = await self._answers(self._process, probe)
        finally:
            if not ready:
                await self.stop()
        return ready

    async def _spawn(self, command: list[str]) -> asyncio.subprocess.Process:
        log = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.PIPE if self._tells else log,
            )
        finally:
            os.close(log)
        if process.stderr is not None:
            self._reader = asyncio.create_task(self._read_log(process.stderr))
        return process

    async def _read_log(self, lines: asyncio.StreamReader) -> None:
        """Until Mosquitto ends. A log that cannot be written costs lines, never the service."""
        with self.log_file.open("ab", buffering=0) as file:

            def keep(line: bytes) -> None:
                with contextlib.suppress(OSError):
                    file.write(line)

            log = MosquittoLog(self._access, self._rejections, keep)
            async for line in lines:
                log.feed(line)

    async def _answers(self, process: asyncio.subprocess.Process, probe: str) -> bool:
        """Whether it comes to accept the probe's password, or shows the hub's certificate: that it is ours and up."""
        deadline_s = asyncio.get_running_loop().time() + _START_WITHIN_S
        while process.returncode is None and asyncio.get_running_loop().time() < deadline_s:
            if self._tls is not None:
                if await _shows(self.host, self.port, self._tls):
                    return True
            elif await _accepts(self.host, self.port, _PROBE, probe):
                return True
            await asyncio.sleep(_POLL_S)
        return False

    def _last_words(self) -> str:
        """What it wrote about its failure: from its last error on, or its last line."""
        with contextlib.suppress(OSError):
            lines = self.log_file.read_text(errors="replace").splitlines()[-_LAST_LINES:]
            errors = [line for line in lines if "Error" in line]
            return "; ".join(errors or lines[-1:]) or _NO_WORDS
        return _NO_WORDS

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _command() -> list[str]:
    """Mosquitto under util-linux's setpriv, which has the kernel end it when its parent dies (PR_SET_PDEATHSIG)."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SEARCH))
    mosquitto = shutil.which("mosquitto", path=path)
    if mosquitto is None:
        raise HubError("the broker Mosquitto is not installed: apt-get install mosquitto")
    setpriv = shutil.which("setpriv", path=path)
    if setpriv is None:
        raise HubError("the program setpriv is not installed: apt-get install util-linux")
    return [setpriv, "--pdeathsig", "KILL", mosquitto, "-c"]


def _free_port(host: str, port: int) -> int:
    """`port`, or one that is free just now if it is 0. Raises HubError if it is taken."""
    with listen_on(host, port) as probe:
        return int(probe.getsockname()[1])


async def _accepts(host: str, port: int, username: str, password: str) -> bool:
    header = ConnectVariableHeader()
    header.clean_session_flag = header.username_flag = header.password_flag = True
    packet = ConnectPacket(
        variable_header=header, payload=ConnectPayload(username, username=username, password=password)
    )
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_START_WITHIN_S):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(packet.to_bytes())
            return await reader.readexactly(4) == _ACCEPTED
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    finally:
        if writer is not None:
            writer.close()


async def _shows(host: str, port: int, tls: TlsFiles) -> bool:
    """Whether a server there proves that it has a key which the authority certified. It is shown no certificate."""
    context = ssl.create_default_context(cafile=str(tls.authority))
    context.check_hostname = False  # loopback may not be among the hub's names
    try:
        async with asyncio.timeout(_START_WITHIN_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
