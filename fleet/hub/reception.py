"""From a connection's first byte to an identity: TLS, then CONNECT, then whether its owner is who they say."""

import asyncio

from amqtt.mqtt.connack import IDENTIFIER_REJECTED, NOT_AUTHORIZED, UNACCEPTABLE_PROTOCOL_VERSION

from fleet.hub.access import Access
from fleet.hub.frames import MQTT_3_1_1, Introduction, read_frame, read_introduction
from fleet.hub.handler import HubHandler
from fleet.hub.rejections import Rejections, log, shown
from fleet.hub.tls import HubTls, NoPeerError, Peer

_CONNECT_WITHIN_S = 10.0


class Reception:
    """Whoever is refused here leaves no trace in anyone's session."""

    def __init__(self, access: Access, rejections: Rejections, max_packet_bytes: int, tls: HubTls | None) -> None:
        self._access = access
        self._rejections = rejections
        self._max_packet_bytes = max_packet_bytes
        self._tls = tls

    async def identify(self, handler: HubHandler) -> tuple[str, Introduction] | None:
        """Who connects and what they say of themselves; None when refused. Raises what `read_frame` raises.

        With TLS nothing may be awaited before this: what the client sends meanwhile would be read as MQTT.
        """
        if self._tls is not None and not await self._secure(handler, self._tls):
            return None
        introduction = await self._introduction(handler)
        if introduction is None:
            return None
        identity = self._authenticate_now(introduction, handler.peer)
        if identity is None:
            name = introduction.username if handler.peer is None else handler.peer.name
            self.refuse(handler, "bad credentials", NOT_AUTHORIZED, username=shown(name))
            return None
        return identity, introduction

    def refuse(self, handler: HubHandler, reason: str, return_code: int | None = None, **fields: object) -> None:
        """Count a refusal, and tell the client if MQTT has a code for it."""
        self._rejections.reject("client.refused", reason, address=handler.address, **fields)
        if return_code is not None:
            handler.refuse(return_code)

    async def _secure(self, handler: HubHandler, tls: HubTls) -> bool:
        try:
            await handler.secure(tls.context, _CONNECT_WITHIN_S)
        except NoPeerError as error:
            self.refuse(handler, error.reason, detail=shown(error.detail))
            return False
        return True

    async def _introduction(self, handler: HubHandler) -> Introduction | None:
        try:
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                frame = await read_frame(handler.stream, self._max_packet_bytes)
        except TimeoutError:
            self.refuse(handler, "no CONNECT in time")
            return None
        if frame is None:
            return None
        introduction = await read_introduction(frame)
        if introduction.level != MQTT_3_1_1:
            self.refuse(handler, "unsupported MQTT version", UNACCEPTABLE_PROTOCOL_VERSION, level=introduction.level)
            return None
        if not introduction.client_id and not introduction.clean:  # [MQTT-3.1.3-8]
            self.refuse(handler, "no client id for a lasting session", IDENTIFIER_REJECTED)
            return None
        return introduction

    def _authenticate_now(self, introduction: Introduction, peer: Peer | None) -> str | None:
        try:
            if peer is not None:
                return self._access.identify(peer.name)
            return self._access.authenticate(introduction.client_id, introduction.username, introduction.password)
        except Exception:
            log.exception("the access policy failed: the client is refused")
            return None
