"""Announces the gateway as `_clawland._tcp.local.`, so that nodes whose own has fallen silent find it."""

import ipaddress

import structlog
from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from nanoclaw.host.lines_config import is_specific

_log = structlog.get_logger("nanoclaw.discovery")

SERVICE_TYPE = "_clawland._tcp.local."


class Announcer:
    """Announces `fields` (the TXT record) and `port` on the interface with the address `interface` and on no other.

    Nodes are told to connect to `host`, or to the interface's address when `host` is a wildcard.
    """

    def __init__(self, fields: dict[str, str], host: str, port: int, interface: str) -> None:
        self._fields = fields
        self._address = host if is_specific(host) else interface
        self._name = f"{fields['id']}.{SERVICE_TYPE}"
        self._port = port
        self._interface = interface
        self._zeroconf: AsyncZeroconf | None = None

    async def start(self) -> None:
        """Announce. A network that refuses it costs the announcement, not the gateway: it is logged."""
        try:
            self._zeroconf = AsyncZeroconf(interfaces=[self._interface])
            info = self._info()
            await (await self._zeroconf.async_register_service(info, allow_name_change=True))
            self._name = info.name  # another one where another fleet has a gateway of this id
        except (OSError, ZeroconfError) as error:
            _log.warning("cannot announce this gateway", interface=self._interface, reason=str(error) or repr(error))
        else:
            _log.info("announced", service=SERVICE_TYPE, address=self._address, port=self._port)

    async def update(self, fields: dict[str, str]) -> None:
        """Announce other fields, if they are other."""
        if fields == self._fields or self._zeroconf is None:
            return
        self._fields = fields
        try:
            await self._zeroconf.async_update_service(self._info())
        except (OSError, ZeroconfError) as error:
            _log.warning("cannot announce a change", reason=str(error) or repr(error))

    async def stop(self) -> None:
        """Say goodbye, so that nobody tries to come here, and stop."""
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            await zeroconf.async_unregister_all_services()
            await zeroconf.async_close()

    def _info(self) -> AsyncServiceInfo:
        return AsyncServiceInfo(
            SERVICE_TYPE,
            self._name,
            port=self._port,
            addresses=[ipaddress.ip_address(self._address).packed],
            properties=self._fields,
            server=self._name.removesuffix(SERVICE_TYPE) + "local.",
        )
