"""An input of the core, asked for over the API: its refusals become problems, and its answer follows the commit."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson

from fleet.core.errors import Busy, Conflict, Unknown
from fleet.host.problems import Problem, unavailable
from fleet.host.stage import Stage
from fleet.host.storage import StorageError

T = TypeVar("T")


async def carry_out(stage: Stage, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """What `method(…, now_ms)` returns, once whatever it stores is on disk. Raises Problem."""
    result = ask(stage, method, *args, **kwargs)
    await stored(stage)
    return result


def ask(stage: Stage, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """What `method(…, now_ms)` returns. Raises Problem."""
    try:
        return stage.runtime.do(method, *args, **kwargs)
    except Unknown as error:
        raise Problem(404, "not_found", str(error)) from None
    except Conflict as error:
        raise Problem(409, "conflict", str(error)) from None
    except Busy as error:
        raise Problem(503, "busy", str(error), headers={"Retry-After": "1"}) from None
    except ValueError as error:
        raise Problem(400, "invalid", str(error)) from None


async def stored(stage: Stage) -> None:
    """Waits until everything asked for so far is on disk. Raises Problem."""
    try:
        await stage.runtime.committed()
    except StorageError as error:
        raise unavailable(str(error)) from None


async def kept(change: Awaitable[T]) -> T:
    """What a change of the accounts gives. Raises Problem."""
    try:
        return await change
    except Unknown as error:
        raise Problem(404, "not_found", str(error)) from None
    except Conflict as error:
        raise Problem(409, "conflict", str(error)) from None
    except StorageError as error:
        raise unavailable(str(error)) from None


def check_size(name: str, value: object, most: int) -> None:
    """Raises Problem unless a free part of a body can be kept, in at most so many bytes."""
    try:
        found = orjson.dumps(value)
    except TypeError:  # an integer of more than 64 bits, half a surrogate pair, or nested too deep
        raise Problem(400, "invalid", f"body.{name}: holds a number, a text or a depth that cannot be kept") from None
    if b"\\u0000" in found:
        raise Problem(400, "invalid", f"body.{name}: holds a text with a zero character, which cannot be kept")
    if len(found) > most:
        raise Problem(413, "too_large", f"body.{name}: longer than {most} bytes")


def when(at_s: int | None) -> str | None:
    """ISO 8601 of seconds since 1970."""
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")
