"""Garbage on every topic, by whoever may publish there: counted, and nothing that was acknowledged is lost."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from tests.cli.command import EXPECT_ALL, TINY, clawsim, scenario

READINGS = 30
GARBAGE = (
    "{text: ''}",
    "{hex: 'ff00fe01c3'}",
    "{text: 'hello'}",
    """{text: '{"value": 25'}""",
    "{text: '[', times: 400}",
    "{text: '7'}",
)
NODE_TOPICS = ("temp", "heartbeat", "beacon", "ack")
GATEWAY_TOPICS = ("batch", "batch/gz", "heartbeat", "status", "ack", "config/ack")


class Injected(NamedTuple):
    """A raw message, and who is to refuse it."""

    by: str
    who: str
    topic: str
    payload: str


TOO_BIG = (
    Injected("gateway-01", "sensor-01", "clawland/sensor-01/temp", "{text: x, times: 513}"),
    Injected("hub", "gateway-01", "clawland/gateway-01/batch", "{text: x, times: 262145}"),
)
FORBIDDEN = (
    Injected("gateway-01", "sensor-01", "clawland/sensor-02/temp", "{json: {value: 99, boot: 1, seq: 0}}"),
    Injected("gateway-01", "sensor-01", "clawland/sensor-02/cmd", "{json: {action: restart, id: x, ttl_ms: 60000}}"),
    Injected("gateway-01", "sensor-01", "clawland/sensor-01/received", "{json: {boot: 1, upto: 100}}"),
    Injected("hub", "gateway-01", "clawland/gateway-01/cmd", "{json: {action: alert, target: sensor-02, id: x}}"),
    Injected("hub", "gateway-01", "clawland/gateway-01/batch/ack", "{json: {batch: gateway-01-1-1}}"),
)
NONSENSE = (
    *(Injected("gateway-01", "sensor-01", f"clawland/sensor-01/{t}", p) for t in NODE_TOPICS for p in GARBAGE),
    *(Injected("fleet", "gateway-01", f"clawland/gateway-01/{t}", p) for t in GATEWAY_TOPICS for p in GARBAGE),
)


@dataclass
class Attacked:
    """A run with all of it."""

    exit_code: int
    complaints: str
    summary: dict[str, Any]
    events: list[dict[str, Any]]

    def refused(self, by: str) -> Counter[str]:
        """The topics on which `by` refused messages, and how many on each."""
        return Counter(e["topic"] for e in self.events if e["kind"] == "message.rejected" and e["who"] == by)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((), id="virtual"),
        pytest.param(("--world", "live"), marks=pytest.mark.live, id="live"),
        pytest.param(("--world", "live", "--broker", "mosquitto"), marks=pytest.mark.live, id="live-mosquitto"),
    ],
)
def attacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    place = tmp_path_factory.mktemp("attacked")
    entries = [
        f"  - {{at: {60 + number} s, name: g{number}, inject: {each.payload}, as: {each.who}, topic: {each.topic}}}\n"
        for number, each in enumerate((*NONSENSE, *TOO_BIG, *FORBIDDEN))
    ]
    file = scenario(place, TINY + "timeline:\n" + "".join(entries) + EXPECT_ALL)
    done = clawsim("run", file, *request.param, "--out", place / "out", "--json")
    events = [json.loads(line) for line in (place / "out" / "events.jsonl").read_text().splitlines()]
    return Attacked(done.returncode, done.stderr, json.loads(done.stdout), events)


def _expected(by: str, *lots: tuple[Injected, ...]) -> Counter[str]:
    return Counter(each.topic for lot in lots for each in lot if each.by == by)


def test_no_reading_suffers_and_nobody_falls(attacked: Attacked) -> None:
    assert (attacked.exit_code, attacked.complaints, attacked.summary["reasons"]) == (0, "", [])
    assert attacked.summary["readings"]["delivered"] == attacked.summary["readings"]["produced"] == READINGS
    assert not [event for event in attacked.events if event["kind"] in ("node.down", "gateway.offline")]


def test_the_gateway_refuses_and_counts_each_message_that_makes_no_sense_or_is_too_big_or_forbidden(
    attacked: Attacked,
) -> None:
    assert attacked.refused("gateway-01") == _expected("gateway-01", NONSENSE, TOO_BIG, FORBIDDEN)


def test_the_fleet_manager_refuses_and_counts_each_message_that_makes_no_sense(attacked: Attacked) -> None:
    assert attacked.refused("fleet") == _expected("fleet", NONSENSE)


def test_the_hub_refuses_and_counts_what_is_too_big_or_forbidden(attacked: Attacked) -> None:
    assert attacked.refused("hub") == _expected("hub", TOO_BIG, FORBIDDEN)


def test_nobody_obeys_a_command_from_one_who_may_not_give_it(attacked: Attacked) -> None:
    assert not [event for event in attacked.events if event["kind"] in ("command.executed", "alarm.local")]
    assert len([event for event in attacked.events if event["kind"] == "node.started"]) == 2


def test_every_refusal_says_why(attacked: Attacked) -> None:
    assert all(event["reason"] for event in attacked.events if event["kind"] == "message.rejected")
