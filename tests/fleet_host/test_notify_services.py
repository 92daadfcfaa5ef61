"""The core's messages through a real mail server and a real webhook, with their failures."""

import http.server
import json
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from fleet.host.notify import Notifier
from tests.fleet_core.rig import QUIET_MS, Cloud, Notify
from tests.fleet_host.test_notify import Told

pytestmark = pytest.mark.live


class Mailbox:
    """Takes mail, unless it is told to refuse it."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.refuses = False

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:
        if self.refuses:
            return "451 come back later"
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


class MailServer(Controller):
    """On a port that the system chooses."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def mailbox() -> Iterator[tuple[str, Mailbox]]:
    handler = Mailbox()
    server = MailServer(handler, hostname="127.0.0.1", port=0)
    server.start()
    yield f"mailto://127.0.0.1:{server.port}?from=fleet@example.org&to=people@example.org&mode=insecure", handler
    server.stop()


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]], list[int]]]:
    told: list[dict[str, Any]] = []
    answers: list[int] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = answers.pop(0) if answers else 200
            if status == 200:
                told.append(message)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}/hook", told, answers
    server.shutdown()
    server.server_close()


async def deliver(url: str, messages: list[Notify], tries: int = 1) -> dict[str, bool]:
    told = Told()
    notifier = Notifier([url], told)
    for _ in range(tries):
        told.answers.clear()
        for message in messages:
            notifier.deliver(message.message_id, message.subject, message.body)
        await told.wait(len(messages))
    await notifier.close()
    return told.answers


def storm() -> list[Notify]:
    """What the core asks for when three nodes go down at once."""
    cloud = Cloud().started()
    for node in ("sensor-01", "sensor-02"):
        cloud.status(node, "up")
        cloud.status(node, "down")
    cloud.later(QUIET_MS)
    return [notify for notify in cloud.of(Notify) if "down" in notify.subject]


async def test_a_storm_is_one_mail_with_its_nodes_and_the_id_of_the_message(mailbox: tuple[str, Mailbox]) -> None:
    url, handler = mailbox
    messages = storm()
    assert await deliver(url, messages) == {messages[0].message_id: True}
    (mail,) = handler.mails
    text = mail.get_body(("plain", "html")).get_content()
    assert mail["Subject"] == "2 nodes are down (warning)"
    for part in ("node sensor-01 is down", "node sensor-02 is down", messages[0].message_id):
        assert part in text


async def test_a_mail_server_that_is_busy_is_a_failure_and_takes_the_same_message_later(
    mailbox: tuple[str, Mailbox],
) -> None:
    url, handler = mailbox
    messages = storm()
    handler.refuses = True
    assert await deliver(url, messages) == {messages[0].message_id: False}
    handler.refuses = False
    assert await deliver(url, messages) == {messages[0].message_id: True}
    assert len(handler.mails) == 1


async def test_a_webhook_that_fails_twice_hears_the_message_once(
    webhook: tuple[str, list[dict[str, Any]], list[int]],
) -> None:
    url, told, answers = webhook
    messages = storm()
    answers += [503, 500]
    assert await deliver(url, messages, tries=3) == {messages[0].message_id: True}
    assert [message["title"] for message in told] == ["2 nodes are down (warning)"]
    assert messages[0].message_id in told[0]["message"]
