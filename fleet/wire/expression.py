"""The rule expression that people write, parsed to the tree that travels: `temp > 30`."""

import re

from firmware.wire.ids import valid_metric
from firmware.wire.rules import OPERATORS, holds

MAX_CHARS = 200
_TOKEN = re.compile(r"\s*(?:(?P<number>-?\d+(?:\.\d+)?)|(?P<word>\w+)|(?P<op>[<>=!]=|[<>])|(?P<text>\"[^\"]*\"))")

Condition = dict[str, object]


class ExpressionError(ValueError):
    """What is wrong with an expression, and at which column (from 1)."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message)
        self.message = message
        self.column = column


def parse(text: str) -> Condition:
    """The tree of `metric op value`: `{"metric": "temp", "op": ">", "value": 30}`.

    The value is a number, `true`, `false` or a text in double quotes; only `==` and `!=` compare the latter three.
    Raises ExpressionError.
    """
    if len(text) > MAX_CHARS:
        raise ExpressionError(f"longer than {MAX_CHARS} characters", MAX_CHARS)
    tokens = _tokens(text)
    if len(tokens) != 3:
        column = tokens[3][2] if len(tokens) > 3 else len(text) + 1
        raise ExpressionError("expected: metric, operator, value, as in temp > 30", column)
    (kind, metric, at), (op_kind, op, op_at), value_token = tokens
    if kind != "word" or not valid_metric(metric):
        raise ExpressionError(f"{metric!r} is not the name of a metric", at)
    if op_kind != "op" or op not in OPERATORS:
        raise ExpressionError(f"{op!r} is not an operator; use one of {' '.join(OPERATORS)}", op_at)
    return {"metric": metric, "op": op, "value": _value(value_token, op)}


def _tokens(text: str) -> list[tuple[str, str, int]]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            column = at + len(text[at:]) - len(text[at:].lstrip()) + 1
            raise ExpressionError(f"unexpected {text[column - 1]!r}", column)
        kind = str(match.lastgroup)
        found.append((kind, match.group(kind), match.start(kind) + 1))
        at = match.end()
    return found


def _value(token: tuple[str, str, int], op: str) -> object:
    kind, text, column = token
    if kind == "number":
        return float(text) if "." in text else int(text)
    if kind == "text" or text in ("true", "false"):
        if op not in ("==", "!="):
            raise ExpressionError(f"{op} needs a number on its right, not {text}", column)
        return text[1:-1] if kind == "text" else text == "true"
    raise ExpressionError(f"{text!r} is not a value: a number, true, false or a text in double quotes", column)


def check_condition(tree: object) -> Condition:
    """`tree` itself when it is a condition as `parse` makes them; raises ValueError saying what is wrong."""
    if not isinstance(tree, dict) or set(tree) != {"metric", "op", "value"}:
        raise ValueError("a condition is an object of metric, op and value")
    if not valid_metric(tree["metric"]):
        raise ValueError(f"{tree['metric']!r} is not the name of a metric")
    if tree["op"] not in OPERATORS:
        raise ValueError(f"{tree['op']!r} is not an operator; use one of {' '.join(OPERATORS)}")
    value = tree["value"]
    if not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a number, a boolean or a text")
    if isinstance(value, bool | str) and tree["op"] not in ("==", "!="):
        raise ValueError(f"{tree['op']} needs a number, not {value!r}")
    return tree


def meets_both(when: Condition, clear: Condition) -> object:
    """A value that would raise an episode and end it at once, or None: with one, a level signal raises alert after
    alert. The limits, what lies just beyond and what lies between stand for all values."""
    for value in _examples(when["value"], clear["value"]):
        if holds(when, value) and holds(clear, value):
            return value
    return None


def _examples(one: object, other: object) -> list[object]:
    if isinstance(one, bool) and isinstance(other, bool):
        return [True, False]
    if isinstance(one, int | float) and isinstance(other, int | float):
        low, high = sorted((one, other))
        return [(low + high) / 2, one, other, low - 1, high + 1]
    return [one, other, f"{one}{other}"]
