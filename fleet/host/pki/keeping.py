"""What a running server does about certificates: it uses its own, renews them in time, and says which run out."""

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from firmware.hosting.tls import ClientTls
from fleet.host.local_hub import MANAGER
from fleet.host.pki.authority import DOCTOR, HUB, Authority
from fleet.host.pki.files import PkiError
from fleet.host.runtime import Runtime
from fleet.host.settings import SettingsError

if TYPE_CHECKING:
    from fleet.hub import TlsFiles

LOG = logging.getLogger("clawland.pki")
LOOK_AGAIN_S = 3600.0
AUTHORITY_NAME = "the authority"


def manager_tls(data: Path) -> ClientTls:
    """What the fleet manager connects to a hub with. Raises SettingsError when there is none yet."""
    authority = Authority(data)
    pair = authority.file_of(MANAGER)
    _require(authority.certificate_file, pair)
    return ClientTls(authority.certificate_file, pair, pair)


def hub_files(data: Path) -> "TlsFiles":
    """What a hub needs: the authority's certificate, its own pair, the revocations. Raises SettingsError."""
    from fleet.hub import TlsFiles  # here, because loading a broker takes long

    authority = Authority(data)
    found = TlsFiles(authority.certificate_file, authority.file_of(HUB), authority.revocations_file)
    _require(*found.all())
    return found


async def keep_certificates(runtime: Runtime, authority: Authority) -> None:
    """Hourly: renew the server's own, tell the core how long everybody's last."""
    while True:
        if authority.can_sign:
            try:
                ends = await asyncio.to_thread(_renew_and_list, authority)
                runtime.pump.feed(runtime.core.learn_certificates, ends)
            except PkiError as error:
                LOG.error("the certificates cannot be looked after: %s", error)
        await asyncio.sleep(LOOK_AGAIN_S)


def _renew_and_list(authority: Authority) -> dict[str, int]:
    for name in authority.renew_own():
        LOG.info("renewed the certificate of %s", name)
    return ends_utc_ms(authority)


def ends_utc_ms(authority: Authority) -> dict[str, int]:
    """When the last certificate of each name, but revoked ones and the doctor's, runs out. Raises PkiError."""
    ends = {AUTHORITY_NAME: authority.certificate().not_valid_after_utc}
    for issued in authority.issued():
        if issued.state != "revoked" and issued.name != DOCTOR:
            ends[issued.name] = max(issued.not_after, ends.get(issued.name, issued.not_after))
    return {name: int(end.timestamp() * 1000) for name, end in ends.items()}


def _require(*paths: Path) -> None:
    for path in paths:
        if not path.exists():
            made = f"fleet pki init --data {path.parent.parent}"
            raise SettingsError(f"TLS needs {path}, which is missing; on the machine with the authority: {made}")
