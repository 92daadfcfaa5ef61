"""Users and tokens, for admins."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from fleet.host.access import Doorkeeper
from fleet.host.accounts import Row
from fleet.host.answers import DENIED, answer, done, problem_docs
from fleet.host.auth_routes import SECRET, NewPassword
from fleet.host.bodies import Whole
from fleet.host.deeds import kept, when
from fleet.host.problems import Problem
from fleet.host.stage import Stage
from fleet.host.tokens import MAX_TTL_S, Caller, TokenError

UserName = Annotated[str, Path(max_length=64)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
Role = Literal["viewer", "operator", "admin"]
MONTH_S = 30 * 86_400


class NewUser(BaseModel):
    """A person."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    role: Role
    password: NewPassword


class ChangedUser(BaseModel):
    """Whatever is given is changed, and ends the user's logins."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = None
    password: NewPassword | None = None
    disabled: bool | None = Field(None, strict=True)


class NewToken(BaseModel):
    """For a program, or for a node or gateway itself."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    role: Literal["viewer", "operator", "admin", "node", "gateway"]
    ttl: Whole = Field(MONTH_S, ge=1, le=MAX_TTL_S, description="seconds")


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes of accounts."""
    admin = [Depends(doors.needs("admin"))]
    routes = APIRouter(prefix="/api/v1", tags=["users and tokens"], dependencies=admin)
    _add_users(routes, stage)
    _add_tokens(routes, stage, doors)
    return routes


def _add_users(routes: APIRouter, stage: Stage) -> None:
    missing = problem_docs(_404="there is no such user", **DENIED)
    user_doc = ("the user, without the password", {"name": "alice", "role": "operator"})

    @routes.get("/users", summary="Users, by name", responses=problem_docs(**DENIED))
    async def users() -> Response:
        rows = stage.accounts.users
        return answer({"users": [_user(name, rows[name]) for name in sorted(rows)]})

    @routes.post(
        "/users",
        summary="Add a user",
        status_code=201,
        responses=done(201, *user_doc) | problem_docs(_409="the name is taken", **DENIED),
    )
    async def add_user(user: NewUser) -> Response:
        row = await kept(stage.accounts.add_user(user.name, user.role, user.password))
        return answer(_user(user.name, row), 201)

    @routes.get("/users/{name}", summary="One user", responses=done(200, *user_doc) | missing)
    async def user(name: UserName) -> Response:
        row = stage.accounts.users.get(name)
        if row is None:
            raise Problem(404, "not_found", f"there is no user {name!r}")
        return answer(_user(name, row))

    @routes.patch("/users/{name}", summary="Change a user", responses=done(200, *user_doc) | missing)
    async def change_user(name: UserName, user: ChangedUser) -> Response:
        row = await kept(stage.accounts.change_user(name, user.role, user.password, user.disabled))
        return answer(_user(name, row))

    @routes.delete("/users/{name}", summary="Remove a user", status_code=204, responses=missing)
    async def drop_user(name: UserName) -> Response:
        await kept(stage.accounts.drop_user(name))
        return Response(status_code=204)


def _add_tokens(routes: APIRouter, stage: Stage, doors: Doorkeeper) -> None:
    token_doc = ("the token is shown this once", {"token_id": "…", "token": "eyJ…", "name": "grafana"})

    @routes.get(
        "/tokens", summary="Tokens that the server keeps account of, newest first", responses=problem_docs(**DENIED)
    )
    async def tokens() -> Response:
        rows = sorted(stage.accounts.tokens.items(), key=lambda each: each[1]["created_s"], reverse=True)
        return answer({"tokens": [_token(key, row) for key, row in rows]})

    @routes.post(
        "/tokens",
        summary="Issue a token",
        status_code=201,
        responses=done(201, *token_doc)
        | problem_docs(_404="there is no such node or gateway", _409="there are too many tokens", **DENIED),
    )
    async def issue(token: NewToken, caller: Annotated[Caller, Depends(doors.needs("admin"))]) -> Response:
        try:
            key, row, text = await kept(stage.accounts.issue(token.name, token.role, token.ttl, caller.name))
        except TokenError as error:
            raise Problem(400, "invalid", str(error)) from None
        return answer(_token(key, row) | {"token": text}, 201, SECRET)

    @routes.delete(
        "/tokens/{token_id}",
        summary="Revoke a token, by its id (`jti`); also one that `fleet token` made",
        status_code=204,
        responses=problem_docs(_409="there are too many tokens", **DENIED),
    )
    async def revoke(
        token_id: Annotated[str, Path(min_length=1, max_length=64, pattern="^[0-9a-f]{1,64}$")],
        caller: Annotated[Caller, Depends(doors.needs("admin"))],
    ) -> Response:
        await kept(stage.accounts.revoke(token_id, caller.expires_s + MAX_TTL_S))
        return Response(status_code=204)


def _user(name: str, row: Row) -> dict[str, Any]:
    return {"name": name, "role": row["role"], "disabled": row["disabled"], "created_at": when(row["created_s"])}


def _token(key: str, row: Row) -> dict[str, Any]:
    return {
        "token_id": key,
        "kind": row["kind"],
        "name": row["name"],
        "role": row["role"],
        "created_at": when(row["created_s"]),
        "expires_at": when(row["until_s"]),
        "issued_by": row.get("by"),
        "revoked": bool(row.get("revoked")),
    }
