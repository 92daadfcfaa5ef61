"""A rule: a condition, and what is done about it. Checked when it is made, so that nothing is left to find out later.

name      an id, or any short text
when      the condition that begins an episode (`fleet.wire.condition`)
clear     the condition that ends it; without one it ends when `when` no longer holds
severity  info, warning (the default) or critical
action    alert: people are told and the node's alarm sounds until the episode ends; notify: people are told;
          command: `command` is sent when it begins; both: people are told and `command` is sent; none
command   {"action", "params", "targets"}; without targets it goes to the node that the episode is about
message   what people read: "{node}: {metric} is {value}"
cooldown_ms  after an episode that people were told of, others that begin within this time wait for its end
"""

import json
import re
import string
from collections.abc import Iterator
from typing import Any

from firmware.wire.ids import valid_id
from firmware.wire.messages import MAX_TEXT_CHARS
from firmware.wire.rules import CAPABILITIES, holds
from fleet.wire.condition import (
    MAX_SPAN_MS,
    WORDS,
    Condition,
    check_condition,
    is_per_node,
    metrics_of,
    needs,
    subtrees,
)
from fleet.wire.uplink import Message, Rejected

ACTIONS = ("alert", "notify", "command", "both", "none")
SEVERITIES = ("info", "warning", "critical")
COMMANDS = ("alert", "restart", "config", "identify")
KEYS = ("name", "when", "clear", "severity", "action", "command", "message", "cooldown_ms")
FIELDS = ("node", "rule", "metric", "value", "severity", "site")
MAX_MESSAGE_CHARS = 200
MAX_TARGETS = 100
MAX_PARAMS_BYTES = 128  # with the rule's name it has to fit a node's message
# Every evaluator can do this much; a gateway that announces nothing is taken to.
BASE = frozenset(CAPABILITIES)
# What a gateway announces that has `fleet.wire.watch`: all conditions, and it sends the commands of rules.
ALL = (*CAPABILITIES, *WORDS, "for", "command")


def check_rule(rule: Any) -> None:
    """Raises Rejected, with what is wrong, unless `rule` is one that the fleet manager can evaluate and act upon."""
    if not isinstance(rule, dict) or not isinstance(rule.get("name"), str) or rule.get("action") not in ACTIONS:
        raise Rejected("a rule has no name, or no action of " + ", ".join(ACTIONS))
    if not 0 < len(rule["name"]) <= MAX_TEXT_CHARS:
        raise Rejected(f"the name of a rule is 1 to {MAX_TEXT_CHARS} characters long")
    try:
        when = check_condition(rule.get("when"))
        if rule.get("clear") is not None:
            check_clear(when, check_condition(rule["clear"]))
        _check_words(rule)
        check_message(rule.get("message"))
        _check_action(rule, is_per_node(when))
    except ValueError as error:
        raise Rejected(f"rule {rule['name']}: {error}") from error


def check_keys(rule: Message) -> None:
    """Raises Rejected for a key that no rule has: where people write one, a word misspelt must not be passed over.

    Between tiers, where one may be newer than the other, such a key is ignored.
    """
    if unknown := sorted(set(rule) - set(KEYS)):
        raise Rejected(f"rule {rule.get('name')}: unknown key {unknown[0]!r}; known are {', '.join(KEYS)}")


def check_clear(when: Condition, clear: Condition) -> None:
    """Raises ValueError unless `clear` can end what `when` begins."""
    if "for_ms" in clear:
        raise ValueError("clear takes no `for`: an episode ends at once")
    if not set(metrics_of(clear)) <= set(metrics_of(when)):
        raise ValueError("when and clear are about different metrics")
    if is_per_node(clear) and not is_per_node(when):
        raise ValueError("when is about no single node, so clear cannot be")
    both = meets_both(when, clear)
    if both is not None:
        raise ValueError(f"clear overlaps when: {both} would raise and clear at once, again and again")


def meets_both(when: Condition, clear: Condition) -> object:
    """A value that would raise an episode and end it at once, or None: with one, a level signal raises alert after
    alert. Of two comparisons only. The limits, what lies just beyond and what lies between stand for all values."""
    when = when["of"] if "for_ms" in when else when  # type: ignore[assignment]
    if when.keys() != _COMPARISON or clear.keys() != _COMPARISON:
        return None
    for value in _examples(when["value"], clear["value"]):
        if holds(when, value) and holds(clear, value):
            return value
    return None


_COMPARISON = {"metric", "op", "value"}


def _examples(one: object, other: object) -> list[object]:
    if isinstance(one, bool) and isinstance(other, bool):
        return [True, False]
    if isinstance(one, int | float) and isinstance(other, int | float):
        low, high = sorted((one, other))
        return [(low + high) / 2, one, other, low - 1, high + 1]
    return [one, other, f"{one}{other}"]


def check_message(message: object) -> None:
    """Raises ValueError unless `message` is a template of `FIELDS`, or None."""
    if message is None:
        return
    if not isinstance(message, str) or not 0 < len(message) <= MAX_MESSAGE_CHARS or not message.isprintable():
        raise ValueError(f"a message is one line of 1 to {MAX_MESSAGE_CHARS} characters")
    try:
        parts = list(string.Formatter().parse(message))
    except ValueError as error:
        raise ValueError(f"the message is no template: {error}") from None
    for _, name, spec, conversion in parts:
        if name is not None and (name not in FIELDS or spec or conversion):
            known = ", ".join(f"{{{field}}}" for field in FIELDS)
            raise ValueError(f"the message has {{{name}}}; it can have {known}")


def capable(rule: Message, capabilities: frozenset[str]) -> bool:
    """Whether an evaluator with these capabilities can judge the rule and act upon it by itself."""
    clear = rule.get("clear")
    asked = needs(rule["when"]) | (needs(clear) if clear else frozenset())
    return asked <= capabilities and ("command" in capabilities or rule.get("command") is None)


def is_plain(rule: Message) -> bool:
    """Whether the rule only compares a metric, which needs no memory but whether its episode is open."""
    clear = rule.get("clear")
    return "metric" in rule["when"] and (not clear or "metric" in clear)


def commands_of(rule: Message, node: str, raised: bool) -> Iterator[tuple[str, str, Message]]:
    """Action, target and params of what a checked rule commands as its episode begins or ends; `node` is the
    episode's. Only an alarm has an end."""
    command: Message = {"action": "alert"} if rule.get("action") == "alert" else rule.get("command") or {}
    sounds = command.get("action") == "alert"
    if not command or not (raised or sounds):
        return
    state = {"state": "on" if raised else "off", "rule": rule["name"]} if sounds else {}
    for target in command.get("targets") or [node]:
        yield command["action"], target, command.get("params", {}) | state


def scope_of(rule: Message) -> str:
    """What a rule that is about no single node is about: the first scope in it."""
    tree = rule.get("when")
    return next((str(part["in"]) for part, _ in subtrees(tree) if "in" in part), "the fleet") if tree else "the fleet"


def _check_words(rule: Message) -> None:
    if rule.get("severity", "warning") not in SEVERITIES:
        raise ValueError(f"{rule['severity']!r} is not a severity: {', '.join(SEVERITIES)}")
    cooldown_ms = rule.get("cooldown_ms")
    if cooldown_ms is not None and (type(cooldown_ms) is not int or not 0 <= cooldown_ms <= MAX_SPAN_MS):
        raise ValueError("cooldown_ms is not a duration of 0 to 7 days")


def _check_action(rule: Message, per_node: bool) -> None:
    command, wanted = rule.get("command"), rule["action"] in ("command", "both")
    if wanted != (command is not None):
        raise ValueError("actions command and both need `command`, and no other has it")
    if rule["action"] == "alert" and not per_node:
        raise ValueError("the condition is about no single node: use notify, or both with the command's targets")
    if command is not None:
        _check_command(command, per_node)


def _check_command(command: Any, per_node: bool) -> None:
    if not isinstance(command, dict) or command.get("action") not in COMMANDS:
        raise ValueError(f"the command's action is none of {', '.join(COMMANDS)}")
    if unknown := set(command) - {"action", "params", "targets"}:
        raise ValueError(f"a command has no {', '.join(sorted(unknown))}")
    params = command.get("params", {})
    if not isinstance(params, dict) or len(json.dumps(params)) > MAX_PARAMS_BYTES:
        raise ValueError(f"the command's params are no object of at most {MAX_PARAMS_BYTES} bytes")
    targets = command.get("targets", [])
    if not isinstance(targets, list) or len(targets) > MAX_TARGETS or not all(valid_id(one) for one in targets):
        raise ValueError(f"the command's targets are no list of at most {MAX_TARGETS} ids")
    if not targets and not per_node:
        raise ValueError("the condition is about no single node: say the command's targets")


def fill(message: str, fields: Message) -> str:
    """The text of a checked template."""
    return re.sub(r"\{\{|\}\}|\{(\w+)\}", lambda found: _filled(found, fields), message)


def _filled(found: "re.Match[str]", fields: Message) -> str:
    name = found.group(1)
    return found.group()[0] if name is None else str(fields.get(name))
