"""The rule expression that people write, parsed to the tree that travels, and written back.

temp > 30                                   a node's latest value; `==` and `!=` also compare true, false and "texts"
rate(temp, 10 min) > 2                      by how much it rose: the newest value less the oldest within the span
absent(temp, 15 min)                        a node that has measured it once sent nothing for that long
not a, a and b, a or b, (a)                 as usual: `not` binds closest, then `and`, then `or`
any(site: barn, temp > 30)                  at least one node there; all( … ): each of them
count(group: pumps, absent(temp, 5 min)) > 3
avg(fleet, temp) > 25                       scopes: node: ID, group: ID, site: ID, or fleet
temp > 30 and humidity < 20 for 5 min       `for` ends the expression and covers all of it
"""

import re
from decimal import Decimal
from typing import NamedTuple, cast

from firmware.wire.ids import valid_id, valid_metric
from firmware.wire.rules import OPERATORS
from fleet.wire.condition import FLEET, MAX_NUMBER, MAX_SPAN_MS, MAX_TERMS, SCOPES, Condition, metric_of

MAX_CHARS = 400
MAX_NESTING = 5  # of parentheses, `not` and scopes: far below what `check_condition` takes
UNITS_MS = {"ms": 1, "s": 1_000, "sec": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?)|(?P<word>\w+)|(?P<op>[<>=!]=|[<>])|(?P<text>\"[^\"]*\")|(?P<mark>[(),:]))"
)
_ID = re.compile(r"\s*([\w-]+)")
_KEYWORDS = ("and", "or", "not", "for")
_FUNCTIONS = ("rate", "absent", "any", "all", "count", "avg")
_WANTED = "expected: metric, operator, value, as in temp > 30"
_FOR_IS_LAST = "`for` ends the expression and covers all of it"


class ExpressionError(ValueError):
    """What is wrong with an expression, and at which column (from 1)."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message)
        self.message = message
        self.column = column


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


def parse(text: str) -> Condition:
    """The tree of an expression, as `fleet.wire.condition` describes them. Raises ExpressionError."""
    if len(text) > MAX_CHARS:
        raise ExpressionError(f"longer than {MAX_CHARS} characters", MAX_CHARS)
    return _Parser(text).expression()


def parse_duration(text: str) -> int:
    """Milliseconds of a duration such as `5 min`. Raises ExpressionError."""
    parser = _Parser(text)
    span_ms = parser.duration()
    parser.end("a duration is a number and a unit, as in 5 min")
    return span_ms


class _Parser:
    """Reads one token ahead, from left to right; what was nested too deep is refused before Python minds."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._nested = 0

    def expression(self) -> Condition:
        """All of the text."""
        tree = self._either()
        if self._take_word("for"):
            tree = {"for_ms": self.duration(), "of": tree}
            self.end(_FOR_IS_LAST)
        self.end(_WANTED)
        return tree

    def end(self, otherwise: str) -> None:
        """Nothing may follow."""
        token = self._peek()
        if token.kind != "end":
            raise ExpressionError(otherwise, token.column)

    def duration(self) -> int:
        """A number and its unit, in milliseconds."""
        number, unit = self._take(), self._take()
        if number.kind != "number" or number.text.startswith("-"):
            raise ExpressionError("expected a duration, as in 5 min", number.column)
        if unit.text not in UNITS_MS:
            raise ExpressionError(f"expected a unit of time: {', '.join(UNITS_MS)}", unit.column)
        span_ms = round(float(number.text) * UNITS_MS[unit.text])
        if not 0 < span_ms <= MAX_SPAN_MS:
            raise ExpressionError("a duration is 1 ms to 7 days long", number.column)
        return span_ms

    # --- from the loosest to the closest bond -------------------------------------------------------------------------

    def _either(self, scoped: bool = False) -> Condition:
        return self._joined("or", scoped)

    def _joined(self, word: str, scoped: bool) -> Condition:
        column = self._peek().column
        terms = [self._term(word, scoped)]
        while self._take_word(word):
            terms.append(self._term(word, scoped))
        if len(terms) > MAX_TERMS:
            raise ExpressionError(f"more than {MAX_TERMS} conditions joined by {word}", column)
        return {word: terms} if len(terms) > 1 else terms[0]

    def _term(self, word: str, scoped: bool) -> Condition:
        return self._joined("and", scoped) if word == "or" else self._closest(scoped)

    def _closest(self, scoped: bool) -> Condition:
        token = self._peek()
        if self._take_word("not"):
            self._deeper(token)
            tree: Condition = {"not": self._closest(scoped)}
        elif token.text == "(" and token.kind == "mark":
            self._take()
            self._deeper(token)
            tree = self._either(scoped)
            self._mark(")")
        else:
            return self._predicate(scoped)
        self._nested -= 1
        return tree

    def _deeper(self, token: _Token) -> None:
        self._nested += 1
        if self._nested > MAX_NESTING:
            raise ExpressionError(f"nested deeper than {MAX_NESTING}", token.column)

    def _predicate(self, scoped: bool) -> Condition:
        token = self._take()
        if token.kind == "end":
            raise ExpressionError(_WANTED, token.column)
        if token.text in _FUNCTIONS and self._peek().text == "(":
            return self._function(token, scoped)
        return {"metric": _metric(token)} | self._compared(False)

    def _function(self, name: _Token, scoped: bool) -> Condition:
        self._mark("(")
        if name.text in ("rate", "absent"):
            tree: Condition = {name.text: _metric(self._take())}
            self._mark(",")
            tree["over_ms"] = self.duration()
        elif scoped:
            raise ExpressionError(f"{name.text} does not stand in any, all, count or avg", name.column)
        else:
            tree = self._quantified(name)
        self._mark(")")
        return tree | self._compared(True) if name.text in ("rate", "count", "avg") else tree

    def _quantified(self, name: _Token) -> Condition:
        self._deeper(name)
        scope = self._scope()
        self._mark(",")
        inner: object = _metric(self._take()) if name.text == "avg" else self._either(True)
        self._nested -= 1
        return {name.text: inner, "in": scope}

    def _scope(self) -> str:
        kind = self._take()
        if kind.text == FLEET:
            return FLEET
        if kind.text not in SCOPES:
            raise ExpressionError(f"expected {FLEET}, or one of {', '.join(SCOPES)} as in site: barn", kind.column)
        self._mark(":")
        match = _ID.match(self._text, self._at)
        column = match.start(1) + 1 if match else self._peek().column
        if match is None or not valid_id(match.group(1)):
            raise ExpressionError(f"expected the id of a {kind.text}", column)
        self._at = match.end()
        return f"{kind.text}:{match.group(1)}"

    def _compared(self, numbers_only: bool) -> Condition:
        op, value = self._operator(), self._take()
        if value.kind == "end":
            raise ExpressionError(_WANTED, value.column)
        if numbers_only and value.kind != "number":
            raise ExpressionError(f"{value.text!r} is not a number", value.column)
        return {"op": op, "value": _value(value, op)}

    def _operator(self) -> str:
        token = self._take()
        if token.kind == "end":
            raise ExpressionError(_WANTED, token.column)
        if token.text not in OPERATORS:
            raise ExpressionError(f"{token.text!r} is not an operator; use one of {' '.join(OPERATORS)}", token.column)
        return token.text

    # --- tokens -------------------------------------------------------------------------------------------------------

    def _mark(self, mark: str) -> None:
        token = self._take()
        if token.text != mark:
            raise ExpressionError(_FOR_IS_LAST if token.text == "for" else f"expected {mark!r}", token.column)

    def _take_word(self, word: str) -> bool:
        token = self._peek()
        found = token.kind == "word" and token.text == word
        if found:
            self._take()
        return found

    def _take(self) -> _Token:
        token = self._peek()
        self._at = token.column - 1 + len(token.text)
        return token

    def _peek(self) -> _Token:
        rest = self._text[self._at :]
        if not rest.strip():
            return _Token("end", "", len(self._text) + 1)
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            column = self._at + len(rest) - len(rest.lstrip()) + 1
            raise ExpressionError(f"unexpected {self._text[column - 1]!r}", column)
        kind = str(match.lastgroup)
        return _Token(kind, match.group(kind), match.start(kind) + 1)


def _metric(token: _Token) -> str:
    if token.kind != "word" or token.text in _KEYWORDS or not valid_metric(token.text):
        raise ExpressionError(f"{token.text!r} is not the name of a metric", token.column)
    return token.text


def _value(token: _Token, op: str) -> object:
    kind, text, column = token
    if kind == "number":
        if abs(float(text)) > MAX_NUMBER:
            raise ExpressionError("a number is too large", column)
        return float(text) if "." in text else int(text)
    if kind == "text" or text in ("true", "false"):
        if op not in ("==", "!="):
            raise ExpressionError(f"{op} needs a number on its right, not {text}", column)
        return text[1:-1] if kind == "text" else text == "true"
    raise ExpressionError(f"{text!r} is not a value: a number, true, false or a text in double quotes", column)


# --- back to text ---------------------------------------------------------------------------------------------------


def write(tree: Condition) -> str:
    """The expression of a checked tree: `parse(write(tree)) == tree` for every tree that `parse` makes."""
    if "for_ms" in tree:
        return f"{write(cast(Condition, tree['of']))} for {write_duration(cast(int, tree['for_ms']))}"
    for word in ("and", "or"):
        if word in tree:
            return f" {word} ".join(_bound(term) for term in cast(list[Condition], tree[word]))
    if "not" in tree:
        return f"not {_bound(cast(Condition, tree['not']))}"
    return _written(tree)


def write_duration(span_ms: int) -> str:
    """A duration in its largest unit that divides it: `5 min`."""
    for unit in ("d", "h", "min", "s"):
        if span_ms % UNITS_MS[unit] == 0:
            return f"{span_ms // UNITS_MS[unit]} {unit}"
    return f"{span_ms} ms"


def _written(tree: Condition) -> str:
    compared = f" {tree['op']} {_literal(tree['value'])}" if "op" in tree else ""
    if "metric" in tree:
        return f"{tree['metric']}{compared}"
    if "over_ms" in tree:
        word = "rate" if "rate" in tree else "absent"
        return f"{word}({metric_of(tree)}, {write_duration(cast(int, tree['over_ms']))}){compared}"
    word = next(iter(set(tree) & set(_FUNCTIONS)))
    inner = tree["avg"] if word == "avg" else write(cast(Condition, tree[word]))
    return f"{word}({str(tree['in']).replace(':', ': ')}, {inner}){compared}"


def _bound(tree: Condition) -> str:
    """In parentheses where two words would compete for what stands between them."""
    return f"({write(tree)})" if "and" in tree or "or" in tree else write(tree)


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f") if value % 1 else f"{value:.1f}"
    return f'"{value}"' if isinstance(value, str) else str(value)
