"""What stands before every route of the API: a token of a sufficient role, and a database that works."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from fleet.host.problems import Problem, unauthorized, unavailable
from fleet.host.stage import Stage
from fleet.host.tokens import Caller, TokenError, verify

_BEARER = HTTPBearer(auto_error=False, bearerFormat="JWT", description="from `fleet token`")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]


class Doorkeeper:
    """Makes the dependencies `viewer`, `operator` and `admin` of one server."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def needs(self, role: str) -> Callable[[Request, HTTPAuthorizationCredentials | None], Awaitable[Caller]]:
        """A dependency: who calls, when the token is of `role` or above and the database takes requests."""

        async def caller(_request: Request, credentials: Credentials) -> Caller:
            if credentials is None:
                raise unauthorized("this needs a token, as in: Authorization: Bearer TOKEN; make one with: fleet token")
            try:
                found = verify(self._stage.key, credentials.credentials)
            except TokenError as error:
                raise unauthorized(str(error)) from None
            if not found.may(role):
                message = f"this needs the role {role}; the token of {found.name} is for {found.role}"
                raise Problem(403, "forbidden", message)
            if self._stage.runtime.writer.failing is not None:
                raise unavailable(self._stage.runtime.writer.failing)
            return found

        return caller
