"""Notification through a real webhook, or the log."""

import asyncio
import http.server
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fleet.host import notify
from fleet.host.notify import Notifier, NotifyError


class Receiver(http.server.BaseHTTPRequestHandler):
    """A webhook that keeps what it is told, and refuses what says so."""

    told: list[dict[str, Any]]

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.told.append(message)
        self.send_response(500 if "refuse" in message["title"] else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    told: list[dict[str, Any]] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("R", (Receiver,), {"told": told}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}/hook", told
    server.shutdown()
    server.server_close()


class Told:
    """What the core would hear."""

    def __init__(self) -> None:
        self.answers: dict[str, bool] = {}
        self._news = asyncio.Event()

    def __call__(self, message_id: str, ok: bool) -> None:
        self.answers[message_id] = ok
        self._news.set()

    async def wait(self, count: int) -> dict[str, bool]:
        async with asyncio.timeout(20):
            while len(self.answers) < count:
                self._news.clear()
                await self._news.wait()
        return self.answers


async def test_a_message_reaches_the_webhook_and_the_core_hears_how_it_went(
    webhook: tuple[str, list[dict[str, Any]]],
) -> None:
    url, received = webhook
    told = Told()
    notifier = Notifier([url], told)
    notifier.deliver("m-1", "node sensor-01 is down", "Said by gateway-01.")
    notifier.deliver("m-2", "refuse this", "please")
    assert await told.wait(2) == {"m-1": True, "m-2": False}
    assert ("node sensor-01 is down", "Said by gateway-01.") in [(each["title"], each["message"]) for each in received]
    await notifier.close()


async def test_a_service_that_is_not_there_is_a_failure_not_a_hang() -> None:
    told = Told()
    notifier = Notifier(["json://127.0.0.1:1/hook"], told)
    notifier.deliver("m-1", "subject", "body")
    assert await told.wait(1) == {"m-1": False}


async def test_without_services_people_read_the_log(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    with caplog.at_level(logging.WARNING):
        Notifier([], told).deliver("m-1", "node sensor-01 is down", "Said by gateway-01.")
    assert await told.wait(1) == {"m-1": True}
    assert "node sensor-01 is down: Said by gateway-01." in caplog.text


async def test_messages_beyond_the_limit_fail_at_once_so_that_the_core_tries_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notify, "MAX_WAITING", 0)
    told = Told()
    Notifier(["json://127.0.0.1:1/hook"], told).deliver("m-1", "subject", "body")
    assert await told.wait(1) == {"m-1": False}


def test_a_wrong_url_is_named_by_its_number_without_its_secrets() -> None:
    with pytest.raises(NotifyError) as error:
        notify.check(["json://localhost", "nosuch://user:hunter2@host"])
    assert str(error.value) == "URL 2 (nosuch:…) is none that apprise understands"
