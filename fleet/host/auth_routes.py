"""Logging in and out, new tokens for those that run out, and the keys that sign them all."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from fleet.host.access import Credentials, Doorkeeper
from fleet.host.accounts import DEVICE_S, Session
from fleet.host.answers import DENIED, answer, done, problem_docs
from fleet.host.bodies import Whole
from fleet.host.deeds import kept, when
from fleet.host.passwords import LEAST_CHARS, MOST_CHARS
from fleet.host.problems import Problem, unauthorized
from fleet.host.stage import Stage
from fleet.host.tokens import MAX_TTL_S, Caller

Password = Annotated[str, Field(min_length=1, max_length=MOST_CHARS)]
NewPassword = Annotated[
    str, Field(min_length=LEAST_CHARS, max_length=MOST_CHARS, description=f"at least {LEAST_CHARS} characters")
]
SECRET = {"Cache-Control": "no-store"}


class Login(BaseModel):
    """Who, and the password."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    password: Password


class Refresh(BaseModel):
    """The refresh token of the last login or refresh."""

    model_config = ConfigDict(extra="forbid")

    refresh_token: str = Field(min_length=1, max_length=200)


class ChangedPassword(BaseModel):
    """The old one proves that it is you."""

    model_config = ConfigDict(extra="forbid")

    old: Password
    new: NewPassword


class Rotation(BaseModel):
    """How long tokens of the keys before are still accepted."""

    model_config = ConfigDict(extra="forbid")

    overlap: Whole = Field(DEVICE_S, ge=0, le=MAX_TTL_S, description="seconds")


_TOKENS = done(
    200,
    "keep the refresh token: it works once",
    {"access_token": "eyJ…", "token_type": "Bearer", "expires_at": "2026-03-16T10:15:00Z", "refresh_token": "…"},
)


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes of authentication."""
    routes = APIRouter(prefix="/api/v1/auth", tags=["authentication"])
    _add_sessions(routes, stage, doors)
    _add_own(routes, stage, doors)
    _add_keys(routes, stage, doors)
    return routes


def _add_sessions(routes: APIRouter, stage: Stage, doors: Doorkeeper) -> None:
    @routes.post("/login", summary="Log in with a password", responses=_TOKENS | problem_docs(**DENIED))
    async def login(login: Login, request: Request) -> Response:
        request.state.who = login.name
        doors.check_database()
        session = await kept(stage.accounts.log_in(login.name, login.password))
        if session is None:
            raise unauthorized("there is no such user with that password")
        return _session(session)

    @routes.post(
        "/refresh",
        summary="The next tokens: of a login for its refresh token, of an agent for its token of now",
        responses=_TOKENS | problem_docs(**DENIED),
    )
    async def refresh(request: Request, _credentials: Credentials, refresh: Refresh | None = None) -> Response:
        doors.check_database()
        if refresh is not None:
            session = await kept(stage.accounts.refresh(refresh.refresh_token))
            if session is None:
                raise unauthorized("this refresh token is used up, expired or unknown; log in again")
            return _session(session)
        caller = doors.somebody(request)
        if caller.role != "node":
            raise Problem(403, "forbidden", 'only agents do without a refresh token, as in {"refresh_token": "…"}')
        token, until_s = stage.accounts.device_token(caller.name)
        return answer({"node_id": caller.name, "token": token, "expires_at": when(until_s)}, headers=SECRET)

    @routes.post(
        "/logout",
        summary="End this login",
        status_code=204,
        responses=problem_docs(_409="the token comes from no login", **DENIED),
    )
    async def logout(caller: Annotated[Caller, Depends(doors.anybody())]) -> Response:
        if not caller.session:
            raise Problem(409, "conflict", "this token comes from no login; an admin can revoke it")
        await kept(stage.accounts.log_out(caller.session))
        return Response(status_code=204)


def _add_own(routes: APIRouter, stage: Stage, doors: Doorkeeper) -> None:
    @routes.get("/me", summary="Who the token stands for", responses=problem_docs(**DENIED))
    async def me(caller: Annotated[Caller, Depends(doors.anybody())]) -> Response:
        return answer({"name": caller.name, "role": caller.role, "expires_at": when(caller.expires_s)})

    @routes.post(
        "/password",
        summary="Change your own password; ends all your logins",
        status_code=204,
        responses=problem_docs(_404="the token is not a user's", **DENIED),
    )
    async def password(change: ChangedPassword, caller: Annotated[Caller, Depends(doors.anybody())]) -> Response:
        if not caller.session or caller.name not in stage.accounts.users:
            raise Problem(404, "not_found", "this token does not come from a user's login")
        if not await stage.accounts.password_fits(caller.name, change.old):
            raise Problem(403, "forbidden", "the old password is not that")
        await kept(stage.accounts.change_user(caller.name, None, change.new, None))
        return Response(status_code=204)


def _add_keys(routes: APIRouter, stage: Stage, doors: Doorkeeper) -> None:
    admin = [Depends(doors.needs("admin"))]

    @routes.get("/keys", summary="Ids of the signing keys", dependencies=admin, responses=problem_docs(**DENIED))
    async def keys() -> Response:
        return answer(_keys(stage))

    @routes.post(
        "/keys/rotate",
        summary="A new key signs from now on; those before it still verify for a while",
        dependencies=admin,
        responses=problem_docs(**DENIED),
    )
    async def rotate(rotation: Rotation | None = None) -> Response:
        stage.keys.rotate((rotation or Rotation()).overlap)
        return answer(_keys(stage))


def _keys(stage: Stage) -> dict[str, Any]:
    return {"keys": [{"key_id": key, "verifies_until": when(until_s)} for key, until_s in stage.keys.views()]}


def _session(session: Session) -> Response:
    body = {"access_token": session.access, "token_type": "Bearer", "expires_at": when(session.access_until_s)}
    body |= {"refresh_token": session.refresh, "refresh_expires_at": when(session.refresh_until_s)}
    return answer(body | {"name": session.name, "role": session.role}, headers=SECRET)
