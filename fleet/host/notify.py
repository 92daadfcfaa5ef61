"""Telling people: through the services that apprise knows, or into the log when none is configured."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from firmware.hosting.logs import ALWAYS

LOG = logging.getLogger("clawland.notification")
MAX_WAITING = 1_000
AT_ONCE = 4

Told = Callable[[str, bool], None]


class NotifyError(Exception):
    """A notification service's URL that apprise does not understand; its text leaves out the URL's secrets."""


def check(urls: Sequence[str]) -> None:
    """Raises NotifyError when a URL is wrong. Loads apprise, which is slow, only when there are any."""
    if urls:
        _services(urls)


class Notifier:
    """Delivers messages and calls `told(message_id, ok)` on the loop once each is accepted or refused."""

    def __init__(self, urls: Sequence[str], told: Told) -> None:
        self._urls = list(urls)
        self._told = told
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting: set[asyncio.Task[None]] = set()

    def deliver(self, message_id: str, subject: str, body: str) -> None:
        """Begins to deliver one message; with `MAX_WAITING` under way it fails at once, and the core tries again."""
        if not self._urls:
            LOG.warning("%s: %s", subject, body, extra=ALWAYS)
            asyncio.get_running_loop().call_soon(self._told, message_id, True)
        elif len(self._waiting) >= MAX_WAITING:
            asyncio.get_running_loop().call_soon(self._told, message_id, False)
        else:
            task = asyncio.ensure_future(self._deliver(message_id, subject, body))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def close(self) -> None:
        """Gives up what is still under way: undelivered messages are stored, and go out after the next start."""
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def _deliver(self, message_id: str, subject: str, body: str) -> None:
        async with self._places:
            ok = await _in_thread(lambda: _send(self._urls, subject, body))
        if not ok:
            LOG.error("notification %s was not accepted: %s", message_id, subject)
        self._told(message_id, ok)


async def _in_thread(work: Callable[[], bool]) -> bool:
    """On a thread that a server which ends does not wait for, as it would for an executor's."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def finish(ok: bool) -> None:
        if not done.done():
            done.set_result(ok)

    def run() -> None:
        try:
            ok = work()
        except Exception as error:
            LOG.error("a notification service raised %s", type(error).__name__)
            ok = False
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(finish, ok)

    threading.Thread(target=run, name="notify", daemon=True).start()
    return await done


def _send(urls: Sequence[str], subject: str, body: str) -> bool:
    return bool(_services(urls).notify(title=subject, body=body))


def _services(urls: Sequence[str]) -> Any:
    import apprise  # slow to load, and most starts never need it

    services = apprise.Apprise()
    for number, url in enumerate(urls, 1):
        if not services.add(url):
            scheme = url.partition(":")[0]
            raise NotifyError(f"URL {number} ({scheme}:…) is none that apprise understands")
    return services
