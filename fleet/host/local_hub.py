"""The Event Hub inside the server, when none is configured: one command is then a whole L3."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from firmware.hosting.dial import dialled_at
from firmware.hosting.lifecycle import CannotRun
from firmware.wire.auth import mqtt_password
from fleet.core.manager import FleetCore
from fleet.wire.uplink import MAX_HUB_BYTES

if TYPE_CHECKING:
    from fleet.hub import TlsFiles

MANAGER = "fleet"
# A batch of 256 KiB is the largest message of the fleet.
MAX_PAYLOAD_BYTES = MAX_HUB_BYTES


class LocalHub:
    """An embedded broker that knows the gateways of the core's registry, also those added later.

    With `tls` a gateway needs a certificate of that authority, and its password is worth nothing.
    """

    def __init__(
        self, core: FleetCore, manager_password: bytes, host: str, port: int, tls: "TlsFiles | None" = None
    ) -> None:
        # Here, because loading a broker takes long and most servers have one elsewhere.
        from fleet.hub import EmbeddedBroker, HubAccess

        access = HubAccess(lambda gateway: _password(core, gateway), MANAGER, manager_password)
        self._host = host
        self._broker = EmbeddedBroker(host=host, port=port, access=access, max_payload_bytes=MAX_PAYLOAD_BYTES, tls=tls)

    @property
    def target(self) -> str:
        """Where the manager itself connects to, once entered."""
        return dialled_at(self._host, self._broker.port)

    async def __aenter__(self) -> Self:
        from fleet.hub import HubError

        try:
            await self._broker.start()
        except HubError as error:
            raise CannotRun(f"the embedded hub: {error} (--hub-port)") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._broker.stop()


def _password(core: FleetCore, gateway: str) -> bytes | None:
    row = core.registry.gateways.get(gateway)
    return None if row is None else mqtt_password(bytes.fromhex(row["doc"]["key"]))
