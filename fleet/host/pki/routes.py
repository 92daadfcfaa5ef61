"""`POST /api/v1/fleet/enrol` and `/renew`: certificates for gateways, which prove themselves without an API token."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from fleet.host.answers import answer, documented, problem_docs
from fleet.host.pki import certificates, enrolment
from fleet.host.pki.authority import Authority
from fleet.host.pki.certificates import MAX_REQUEST_CHARS, RequestRefused
from fleet.host.pki.enrolment import Granted, TokenRefused
from fleet.host.pki.files import PkiError
from fleet.host.problems import Problem, unauthorized
from fleet.host.stage import Stage
from fleet.wire.enrolment import ENROL_PATH, RENEW_PATH

LOG = logging.getLogger("clawland.pki")
MAX_AT_ONCE = 4  # strangers may ask, and each request takes a thread


class EnrolRequest(BaseModel):
    """A gateway's first request."""

    model_config = ConfigDict(extra="forbid")

    gateway_id: str = Field(max_length=32)
    request: str = Field(max_length=MAX_REQUEST_CHARS, description="PKCS #10 in PEM, for the common name `gateway_id`")


class RenewRequest(BaseModel):
    """A later one, vouched for by the present certificate."""

    model_config = ConfigDict(extra="forbid")

    certificate: str = Field(max_length=MAX_REQUEST_CHARS, description="the present one, in PEM")
    request: str = Field(max_length=MAX_REQUEST_CHARS, description="PKCS #10 in PEM, for the same common name")


_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="CertificateProof",
    description="to enrol, a token of `fleet pki token`, which works once; to renew, base64 of the ECDSA-SHA-256 "
    'signature by the present key over "clawland certificate renewal 1", a zero byte and the request in DER',
)


async def proof(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> str:
    """What a gateway shows instead of an API token."""
    if credentials is None:
        raise unauthorized("this needs a proof, as in: Authorization: Bearer TOKEN; see fleet pki token")
    return credentials.credentials


Proof = Annotated[str, Depends(proof)]

_RESPONSES = {
    200: documented("the certificate", {"certificate": "-----BEGIN …", "authority": "-----BEGIN …"}),
    **problem_docs(
        _400="not a signing request that can be granted",
        _401="no proof",
        _403="the token, or the present certificate, does not hold",
        _404="this server has no certificate authority",
        _413="the body is too long",
        _429="too many at once; Retry-After says when to come back",
        _503="the authority's files cannot be used",
    ),
}


def router(stage: Stage) -> APIRouter:
    """The two routes."""
    routes = APIRouter(tags=["certificates"])
    desk = _Desk(stage)

    @routes.post(ENROL_PATH, summary="A gateway's first certificate", responses=_RESPONSES)
    async def enrol(body: EnrolRequest, token: Proof) -> Response:
        work = partial(enrolment.enrol, name=body.gateway_id, token=token, request_pem=body.request)
        return await desk.grant("certificate.issued", work)

    @routes.post(RENEW_PATH, summary="A gateway's next certificate", responses=_RESPONSES)
    async def renew(body: RenewRequest, signed: Proof) -> Response:
        signature = _bytes(signed)
        work = partial(enrolment.renew, certificate_pem=body.certificate, request_pem=body.request, signature=signature)
        return await desk.grant("certificate.renewed", work)

    return routes


class _Desk:
    """Signs on threads, since that reads and writes files, and only so many at once."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._at_work = 0

    async def grant(self, kind: str, work: Callable[[Authority], Granted]) -> Response:
        authority = self._stage.authority
        if authority is None or not authority.can_sign:
            raise Problem(404, "not_found", "this server has no certificate authority: fleet pki init makes one")
        if self._at_work >= MAX_AT_ONCE:
            raise Problem(429, "too_many_requests", "too many at once: try again", headers={"Retry-After": "1"})
        self._at_work += 1
        try:
            granted = await asyncio.to_thread(work, authority)
        except (TokenRefused, RequestRefused) as error:
            _tell(self._stage, "certificate.refused", reason=str(error))
            raise _refusal(error) from None
        except PkiError as error:
            LOG.error("the certificate authority fails: %s", error)
            raise Problem(503, "unavailable", "the certificate authority fails; the server's log says why") from None
        finally:
            self._at_work -= 1
        _tell(self._stage, kind, gateway=granted.name)
        texts = {"certificate": granted.certificate, "authority": granted.authority}
        return answer({name: certificates.pem(found).decode() for name, found in texts.items()})


def _refusal(error: Exception) -> Problem:
    if isinstance(error, TokenRefused):
        return Problem(403, "enrolment_refused", str(error))
    return Problem(400, "invalid", str(error))


def _tell(stage: Stage, kind: str, **fields: str) -> None:
    LOG.info("%s %s", kind, fields)
    stage.runtime.events.write(kind, fields, stage.runtime.clock.now_ms())


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, "invalid", "Authorization: the signature is not base64") from None
