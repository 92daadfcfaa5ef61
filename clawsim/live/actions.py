"""What a timeline asks of the real tiers besides faults: calls of the API, and raw messages under an identity."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from clawsim.live.deploy import LOOPBACK, Deployment
from clawsim.live.framing import publish_packet
from clawsim.live.proxy import FaultProxy
from clawsim.scenario.plan import FLEET, CallAction, InjectAction
from firmware.hosting.mqtt import Login, MqttPort
from fleet.host.tokens import issue, load_key

ANSWER_WITHIN_S = 120.0
"""Wall time for one answer of the API: a long safety net, the API's own time-outs come first."""
CONNECT_WITHIN_S = 5.0
TOKEN_TTL_S = 86_400
CALLER = "scenario"


class FleetApi:
    """The fleet manager's HTTP API, at the port where it runs just now."""

    def __init__(self, deployment: Deployment) -> None:
        self.port = 0
        self._deployment = deployment
        self._client = httpx.AsyncClient(timeout=ANSWER_WITHIN_S, trust_env=False)

    async def request(self, method: str, path: str, body: Any = None, role: str = "viewer") -> httpx.Response:
        """Raises :class:`httpx.HTTPError`."""
        url = f"http://{LOOPBACK}:{self.port}{path}"
        return await self._client.request(method, url, json=body, headers=self._headers(role))

    async def close(self) -> None:
        """Lets go of its connections."""
        await self._client.aclose()

    def _headers(self, role: str) -> dict[str, str]:
        if role == "anonymous":
            return {}
        key = load_key(self._deployment.data(FLEET))
        return {"Authorization": f"Bearer {issue(key, CALLER, role, TOKEN_TTL_S)}"}


async def answer_of(api: FleetApi, action: CallAction) -> tuple[int | None, Any]:
    """(status, body) of a call; the status is ``None`` when there was no answer, and the body then says why."""
    try:
        answer = await api.request(action.method, action.path, action.body, action.as_role)
    except httpx.HTTPError as error:
        return None, {"error": "no_answer", "message": str(error) or type(error).__name__}
    try:
        return answer.status_code, answer.json()
    except json.JSONDecodeError:
        return answer.status_code, answer.text


async def publish_as(deployment: Deployment, proxy: FaultProxy, action: InjectAction) -> str:
    """Publishes a raw message with the credentials of ``action.as_id``; why that was impossible, or nothing.

    While the entity is connected its own connection carries the message: a second one would cost it its session.
    """
    if proxy.slip_in(action.as_id, publish_packet(action.topic, action.payload)):
        return ""
    listener = _Listener()
    login = Login(action.as_id, deployment.password(action.as_id))
    address = deployment.addresses.of[action.as_id]
    port = MqttPort("inject", login, [f"clawland/{action.as_id}/cmd"], listener, bind_address=address)
    port.connect(f"{LOOPBACK}:{proxy.port}")
    try:
        await asyncio.wait_for(listener.decided.wait(), CONNECT_WITHIN_S)
    except TimeoutError:
        return "the broker does not answer"
    else:
        sent = port.send(action.topic, action.payload)
        return "" if sent else f"cannot connect as {action.as_id}: {port.last_failure}"
    finally:
        await port.close()


class _Listener:
    """Waits until a connection is up or has failed, and hears nothing else."""

    def __init__(self) -> None:
        self.decided = asyncio.Event()

    def link_up(self, port: str) -> None:
        self.decided.set()

    def link_down(self, port: str) -> None:
        self.decided.set()

    def receive(self, port: str, topic: str, payload: bytes) -> None:
        pass

    def congested(self) -> bool:
        return False
