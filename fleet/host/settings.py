"""What `fleet serve` is told: checked values, and the files that configuration and secrets come from."""

import ipaddress
import json
import logging
import os
import re
import stat
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware.hosting.secrecy import conceal

LOG = logging.getLogger(__name__)
MAX_SECRET_BYTES = 4096
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MAX_FILE_BYTES = 16 * 1024 * 1024


class SettingsError(Exception):
    """Something that the user configured is wrong; the text says where and what."""


@dataclass(frozen=True)
class ServeSettings:
    """Everything that `fleet serve` needs; `hub` None means an embedded hub on `hub_host` and `hub_port`.

    With `hub_tls` either hub is reached by TLS, with the certificates of the data directory.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    hub: str | None = None
    hub_password_file: Path | None = None
    hub_port: int = 1883
    inventory: Path | None = None
    notify_file: Path | None = None
    trace: Path | None = None
    sim_clock: bool = False
    hub_host: str = "127.0.0.1"
    hub_tls: bool = False
    rate_limit: float = 100.0
    """Requests a second that one caller may make in the long run."""
    database_url: str | None = None
    database_password_file: Path | None = None
    retention: str | None = None
    redis_url: str | None = None
    redis_password_file: Path | None = None
    forwarded_allow_ips: str = "127.0.0.1,::1"
    """Proxies whose `X-Forwarded-For` says who calls."""
    encryption_declared: str | None = None
    """What of the PostgreSQL the operator says is encrypted at rest: nothing of it can be seen from here."""
    data_key_file: Path | None = None
    """Keys of sensitive values at rest."""

    def __post_init__(self) -> None:
        self._check_hub()
        proxies_of(self.forwarded_allow_ips)
        declared_of(self.encryption_declared)
        if self.database_url is None and self.database_password_file is not None:
            raise SettingsError("--database-password-file is for a PostgreSQL: give its address with --database-url")
        if self.redis_url is None and self.redis_password_file is not None:
            raise SettingsError("--redis-password-file is for a Redis: give its address with --redis-url")

    def _check_hub(self) -> None:
        if self.hub is not None and self.hub_password_file is None and not self.hub_tls:
            raise SettingsError(
                "--hub needs --hub-password-file: the file with the manager's password on that hub; or --hub-tls"
            )
        if self.hub_password_file is not None and self.hub_tls:
            raise SettingsError("--hub-tls proves who the manager is by certificate: leave out --hub-password-file")
        if self.hub is None and self.hub_host not in LOOPBACK and not self.hub_tls:
            raise SettingsError(f"--hub-host {self.hub_host}: beyond this machine the hub is for TLS: add --hub-tls")
        if self.hub is None and self.hub_password_file is not None:
            raise SettingsError("--hub-password-file is for a hub elsewhere: give its address with --hub HOST:PORT")


ENCRYPTABLE = ("disk", "backup")


def proxies_of(text: str) -> list[str]:
    """The proxies in `--forwarded-allow-ips`. Raises SettingsError."""
    found = [each.strip() for each in text.split(",") if each.strip()]
    for each in found:
        try:
            ipaddress.ip_network(each)
        except ValueError:
            raise SettingsError(
                f"--forwarded-allow-ips: {each!r} is neither an address nor a network, as in 10.0.0.0/8"
            ) from None
    return found


def declared_of(text: str | None) -> list[str]:
    """What `--encryption-declared` names. Raises SettingsError."""
    found = [each.strip() for each in (text or "").split(",") if each.strip()]
    for each in found:
        if each not in ENCRYPTABLE:
            raise SettingsError(f"--encryption-declared: {each!r} is not one of {', '.join(ENCRYPTABLE)}")
    return found


_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(name: str, text: str) -> int:
    """Milliseconds of a duration such as `36h` or `90d`, more than nothing. Raises SettingsError."""
    match = re.fullmatch(r"(\d{1,6})\s*([smhd])", text.strip())
    if match is None or int(match[1]) == 0:
        raise SettingsError(f"{name}: {text!r} is not a duration: a whole number and s, m, h or d, as in 90d")
    return int(match[1]) * _UNITS_MS[match[2]]


def read_secret(path: Path) -> bytes:
    """The first line of a secret's file. Raises SettingsError."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SECRET_BYTES + 1)
            warn_if_shared(path, file.fileno())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    secret = text.splitlines()[0].strip() if text.strip() else b""
    if not secret or len(text) > MAX_SECRET_BYTES:
        raise SettingsError(f"{path}: expected one line with a secret")
    conceal(secret.decode(errors="replace"))
    return secret


def read_secret_text(path: Path) -> str:
    """The first line of a secret's file as text. Raises SettingsError."""
    try:
        return read_secret(path).decode()
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not a text in UTF-8") from None


def read_secret_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of secrets. Raises SettingsError."""
    try:
        with path.open("rb") as file:
            warn_if_shared(path, file.fileno())
            found = json.loads(file.read(MAX_FILE_BYTES))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: expected an object")
    return found


def read_lines(path: Path) -> list[str]:
    """The lines of a file of notification URLs, without blank ones and `#` comments. Raises SettingsError."""
    return [line for _, line in numbered_lines(path)]


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The same, with the number of each. Raises SettingsError."""
    try:
        with path.open() as file:
            warn_if_shared(path, file.fileno())
            lines = [line.strip() for line in file.read(MAX_FILE_BYTES).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {getattr(error, 'strerror', None) or 'not a text in UTF-8'}") from None
    found = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    for _, line in found:
        conceal(line)
    return found


def read_toml(path: Path, section: str, known: Collection[str]) -> dict[str, Any]:
    """The table `section` of a TOML file; its keys are the long flags with `_` or `-`. Raises SettingsError."""
    try:
        table = tomllib.loads(path.read_text()).get(section, {})
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: {section}: expected a table, [{section}]")
    found = {key.replace("-", "_"): value for key, value in table.items()}
    for key in found:
        if key not in known:
            raise SettingsError(f"{path}: {section}.{key}: unknown key; known are {', '.join(sorted(known))}")
    return found


def warn_if_shared(path: Path, handle: int) -> None:
    """Logs a warning when others than its owner can read the open file."""
    if is_shared(path, os.fstat(handle).st_mode):
        LOG.warning("%s holds secrets and others can read it: chmod 600 %s", path, path)


def is_shared(path: Path, mode: int) -> bool:
    """Whether others than its owner can read a file of secrets.

    Not so in systemd's directory of credentials: its access list, which shows as rights of the group, names our user.
    """
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    if given and path.is_relative_to(given):
        return False
    return bool(mode & (stat.S_IRWXG | stat.S_IRWXO))
