"""Checks of what lies on this machine's disk: the data directory, secrets, inventory, notification, certificates."""

import os
import random
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from firmware.hosting.lifecycle import CannotRun
from fleet.core.config import FleetConfig
from fleet.core.manager import FleetCore
from fleet.host import inventory as inventories
from fleet.host import notify
from fleet.host.checks.finding import Check, Finding, warning
from fleet.host.local_hub import MANAGER
from fleet.host.pki import files as pki_files
from fleet.host.pki.authority import HUB, Authority, Issued, runs_out
from fleet.host.pki.files import PkiError
from fleet.host.pki.keeping import hub_files, manager_tls
from fleet.host.settings import (
    ServeSettings,
    SettingsError,
    duration_ms,
    is_shared,
    numbered_lines,
    read_secret,
)
from fleet.host.tokens import KEY_FILE, TokenError, read_keys

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def _data(settings: ServeSettings) -> Iterator[Finding]:
    data = settings.data
    if not data.exists():
        parent = next(each for each in data.absolute().parents if each.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise CannotRun(f"{data} is not there, and this user can make nothing in {parent}")
        yield Finding("data directory", f"{data} will be made")
        return
    if not data.is_dir():
        raise CannotRun(f"{data} is not a directory")
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        raise CannotRun(f"{data}: this user cannot write there")
    mode = stat.S_IMODE(data.stat().st_mode)
    if mode & _OTHERS:
        yield warning("data directory", f"{data} is open to others ({mode:04o}): chmod 700 {data}")
    else:
        yield Finding("data directory", f"{data}, for this user alone")


def _keys(settings: ServeSettings) -> Iterator[Finding]:
    path = settings.data / KEY_FILE
    if not path.exists():
        yield Finding("signing key", "none yet: the first start makes it")
        return
    try:
        count = len(read_keys(path))
    except (OSError, TokenError) as error:
        raise CannotRun(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    yield Finding("signing key", f"{path}" + (f", {count} keys of which the first signs" if count > 1 else ""))


def _secrets(settings: ServeSettings) -> Iterator[Finding]:
    """Every file that holds a secret: it can be read, and by nobody else."""
    for path in (settings.hub_password_file, settings.database_password_file, settings.redis_password_file):
        if path is not None:
            read_secret(path)
            yield Finding("secret", str(path))
    own = (settings.data / KEY_FILE, *sorted((settings.data / "pki").glob("*.key")))
    pairs = sorted((settings.data / "pki").glob("*.pem"))
    named = (settings.hub_password_file, settings.database_password_file, settings.redis_password_file)
    for path in (*own, *pairs, *named, settings.notify_file, settings.inventory):
        if path is not None and path.name != "crl.pem" and _is_open(path):
            yield warning("rights", f"{path} holds secrets and others can read it: chmod 600 {path}")


def _is_open(path: Path) -> bool:
    try:
        return is_shared(path, path.stat().st_mode)
    except OSError:  # whoever needs it says so
        return False


def _inventory(settings: ServeSettings) -> Iterator[Finding]:
    if settings.inventory is None:
        yield Finding("inventory", "none: what the database and the API say")
        return
    found = inventories.load(settings.inventory)
    # A fleet of its own, so that the core's own checks (of rules, too) are made.
    inventories.apply(found, FleetCore(FleetConfig(fleet_id=found.fleet), {}, random.Random(0), 0), 0)
    counts = f"gateways {len(found.gateways)}, nodes {len(found.nodes)}, rules {len(found.rules)}"
    yield Finding("inventory", f"{settings.inventory}: {counts}")


def _notification(settings: ServeSettings) -> Iterator[Finding]:
    if settings.notify_file is None:
        yield warning("notification", "no --notify-file: whatever people are to be told goes to the log alone")
        return
    lines = numbered_lines(settings.notify_file)
    for number, line in lines:
        try:
            notify.check([line])
        except notify.NotifyError:
            scheme = line.partition(":")[0][:20]
            raise SettingsError(
                f"{settings.notify_file}:{number}: {scheme}:… is no URL that apprise understands"
            ) from None
    if not lines:
        yield warning("notification", f"{settings.notify_file} names nobody: messages go to the log alone")
        return
    yield Finding("notification", f"{settings.notify_file}: {len(lines)} service{'s' if len(lines) > 1 else ''}")


def _other_files(settings: ServeSettings) -> Iterator[Finding]:
    if settings.retention is not None:
        duration_ms("--retention", settings.retention)
        yield Finding("retention", f"readings are removed after {settings.retention}")
    if settings.trace is not None:
        place = settings.trace if settings.trace.exists() else settings.trace.absolute().parent
        if not os.access(place, os.W_OK):
            raise SettingsError(f"--trace {settings.trace}: this user cannot write there")
        yield Finding("trace", str(settings.trace))


def _certificates(settings: ServeSettings) -> Iterator[Finding]:
    """The ones that this server shows, and whether those of others run out."""
    authority = Authority(settings.data)
    if settings.hub_tls:
        manager_tls(settings.data)
        names = [MANAGER]
        if settings.hub is None:
            hub_files(settings.data)
            names.append(HUB)
        for name in names:
            yield _own(authority, name)
    if authority.exists:
        yield from _of_gateways(authority)


def _own(authority: Authority, name: str) -> Finding:
    what, path = f"certificate of {name}", authority.file_of(name)
    try:
        found = pki_files.read_certificate(path)
        pki_files.read_key(path)
        good = authority.is_good(found)
    except PkiError as error:
        raise SettingsError(str(error)) from None
    end, now = found.not_valid_after_utc, authority.now()
    if end <= now:
        raise SettingsError(f"{path} ran out on {_day(end)}: fleet pki renew --data {authority.directory.parent}")
    if not good:
        raise SettingsError(f"{path} is revoked, or not of the authority in {authority.directory}")
    if runs_out(found, now) and not authority.can_sign:
        return warning(what, f"{path} runs out on {_day(end)}, and the authority's key is not here to renew it")
    return Finding(what, f"valid until {_day(end)}")


def _of_gateways(authority: Authority) -> Iterator[Finding]:
    try:
        issued, certificate = authority.issued(), authority.certificate()
    except PkiError as error:
        raise SettingsError(str(error)) from None
    last: dict[str, Issued] = {}
    for each in issued:  # by name and then by end
        if each.state != "revoked" and each.name not in (MANAGER, HUB):
            last[each.name] = each
    soon = [f"{each.name} ({_day(each.not_after)})" for each in last.values() if _ends_soon(authority, each)]
    if soon:
        yield warning("certificates of gateways", f"over, or over within 14 days: {', '.join(soon[:10])}")
    end = certificate.not_valid_after_utc
    if end <= authority.now():
        raise SettingsError(f"the authority in {authority.directory} ran out on {_day(end)}")
    yield Finding("authority", f"valid until {_day(end)}, certified gateways: {len(last)}")


def _ends_soon(authority: Authority, issued: Issued) -> bool:
    return (issued.not_after - authority.now()).days < 14


def _day(end: datetime) -> str:
    return f"{end:%Y-%m-%d}"


FILES = (
    Check("data directory", _data),
    Check("signing key", _keys),
    Check("secrets", _secrets),
    Check("inventory", _inventory),
    Check("notification", _notification),
    Check("settings", _other_files),
    Check("certificates", _certificates),
)
