"""What stands before every route of the API: a token of a sufficient role, and a database that works."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from fleet.host.problems import Problem, unauthorized, unavailable
from fleet.host.stage import Stage
from fleet.host.tokens import Caller

_BEARER = HTTPBearer(auto_error=False, bearerFormat="JWT", description="from `fleet token` or /api/v1/auth/login")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
Dependency = Callable[[Request, HTTPAuthorizationCredentials | None], Awaitable[Caller]]


class Doorkeeper:
    """Makes the dependencies of one server's routes; who calls, the turnstile has found out."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def needs(self, role: str, database: bool = True) -> Dependency:
        """A dependency: who calls, when the token is of `role` or above and the database (if needed) takes requests."""

        async def caller(request: Request, _credentials: Credentials) -> Caller:
            found = self.somebody(request)
            if not found.may(role):
                raise _forbidden(f"this needs the role {role}", found)
            if database:
                self.check_database()
            return found

        return caller

    def needs_or_is(self, role: str, device: str, parameter: str) -> Dependency:
        """The same, or the `device` (node, gateway) itself that the path's `parameter` names."""

        async def caller(request: Request, _credentials: Credentials) -> Caller:
            found = self.somebody(request)
            if not (found.may(role) or found.is_device(device, request.path_params[parameter])):
                raise _forbidden(f"this needs the role {role}, or the token of that {device}", found)
            self.check_database()
            return found

        return caller

    def device(self, kind: str) -> Dependency:
        """A dependency: a device, with its own token."""

        async def caller(request: Request, _credentials: Credentials) -> Caller:
            found = self.somebody(request)
            if found.role != kind:
                raise _forbidden(f"this is for {kind}s, with the token of their registration", found)
            self.check_database()
            return found

        return caller

    def anybody(self) -> Dependency:
        """A dependency: any token that is accepted."""

        async def caller(request: Request, _credentials: Credentials) -> Caller:
            self.check_database()
            return self.somebody(request)

        return caller

    def may_register(self) -> Callable[[Request, HTTPAuthorizationCredentials | None], Awaitable[str | None]]:
        """A dependency: the registration token that came instead of another one, or None."""

        async def secret(request: Request, _credentials: Credentials) -> str | None:
            found: str | None = getattr(request.state, "registration", None)
            if found is None:
                self.somebody(request)
            self.check_database()
            return found

        return secret

    def somebody(self, request: Request) -> Caller:
        """Who calls. Raises Problem."""
        found: Caller | None = request.state.caller
        if found is not None:
            return found
        if request.state.refusal is not None:
            raise unauthorized(request.state.refusal)
        raise unauthorized("this needs a token, as in: Authorization: Bearer TOKEN; make one with: fleet token")

    def check_database(self) -> None:
        """Raises Problem while the database takes no requests."""
        if self._stage.runtime.writer.failing is not None:
            raise unavailable(self._stage.runtime.writer.failing)


def _forbidden(what: str, found: Caller) -> Problem:
    return Problem(403, "forbidden", f"{what}; the token of {found.name} is for {found.role}")
