"""Rules are checked when they are made: actions, commands, messages, and who can evaluate them."""

import re
from typing import Any

import pytest

from fleet.wire import snapshot, uplink
from fleet.wire.expression import parse
from fleet.wire.rule import BASE, capable, check_rule, fill
from fleet.wire.uplink import Rejected

HOT = {"name": "hot", "when": parse("temp > 30"), "clear": parse("temp < 29"), "action": "alert"}
BARN = {"name": "barn", "when": parse("any(site: barn, temp > 30)"), "action": "notify"}
RESTART = {"action": "restart"}


@pytest.mark.parametrize(
    "rule",
    [
        HOT,
        BARN,
        HOT | {"message": "{node}: {metric} is {value} {{sic}}", "severity": "critical", "cooldown_ms": 0},
        HOT | {"action": "command", "command": RESTART},
        HOT | {"action": "both", "command": RESTART | {"params": {"a": 1}, "targets": ["sensor-01"]}},
        BARN | {"action": "both", "command": {"action": "alert", "targets": ["siren-01"]}},
        HOT | {"when": parse("temp > 30 for 5 min")},
    ],
    ids=str,
)
def test_a_sound_rule_is_taken(rule: dict[str, Any]) -> None:
    check_rule(rule)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": ""}, "1 to 64"),
        ({"severity": "urgent"}, "severity"),
        ({"cooldown_ms": -1}, "cooldown_ms"),
        ({"cooldown_ms": True}, "cooldown_ms"),
        ({"message": ""}, "one line"),
        ({"message": "a\nb"}, "one line"),
        ({"message": "{node"}, "no template"),
        ({"message": "{nose}"}, "{nose}; it can have {node}"),
        ({"message": "{node.key}"}, "it can have"),
        ({"message": "{value!r}"}, "it can have"),
        ({"message": "{value:.99999999f}"}, "it can have"),
        ({"message": "{}"}, "it can have"),
        ({"action": "command"}, "need `command`"),
        ({"command": RESTART}, "need `command`"),
        ({"action": "both", "command": {"action": "release"}}, "none of alert"),
        ({"action": "both", "command": RESTART | {"params": 3}}, "params"),
        ({"action": "both", "command": RESTART | {"params": {"a": "x" * 200}}}, "params"),
        ({"action": "both", "command": RESTART | {"targets": ["Not An Id"]}}, "targets"),
        ({"action": "both", "command": RESTART | {"target": "x"}}, "has no target"),
        ({"clear": parse("humidity < 3")}, "different metrics"),
        ({"clear": parse("temp < 29 for 5 min")}, "no `for`"),
        ({"when": parse("any(fleet, temp > 3)"), "action": "notify"}, "no single node"),
        ({"when": parse("any(fleet, temp > 3)"), "clear": None}, "no single node"),
    ],
    ids=str,
)
def test_a_rule_that_could_not_be_acted_upon_is_refused_with_the_reason(change: dict[str, Any], words: str) -> None:
    with pytest.raises(Rejected, match=re.escape(words)):
        check_rule(HOT | change)


def test_a_message_is_filled_with_what_happened() -> None:
    assert fill("{node}: {metric} is {value} {{sic}}", {"node": "n", "metric": "m", "value": "{rule}"}) == (
        "n: m is {rule} {sic}"
    )


@pytest.mark.parametrize(
    ("rule", "able"),
    [
        (HOT, True),
        (HOT | {"clear": None}, True),
        (HOT | {"when": parse("temp > 30 for 5 min")}, False),
        (HOT | {"clear": parse("temp < 29 and temp > 0")}, False),
        (HOT | {"action": "both", "command": RESTART}, False),
        (BARN, False),
    ],
    ids=str,
)
def test_a_gateway_is_given_only_what_it_can_evaluate_and_do(rule: dict[str, Any], able: bool) -> None:
    assert capable(rule, BASE) is able
    built = snapshot.build(1, [rule], {}, "gateway-01", b"g" * 32, bytes(12))
    if able:
        assert snapshot.read(uplink.encode(built), "gateway-01", b"g" * 32)[0]["rules"] == [rule]
        return
    with pytest.raises(Rejected, match="only the fleet manager"):
        snapshot.read(uplink.encode(built), "gateway-01", b"g" * 32)
