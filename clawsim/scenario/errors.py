"""What is wrong with a scenario, where, and what would be right: one line each, all of a file at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

MAX_PROBLEMS = 100
"""Problems that are listed; beyond it the file is another kind of text, not a scenario with mistakes."""


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place that a person can go to: a file's line and column (from 1), or an ``--set`` of the command line.

    ``line`` is 0 for a whole file or option.
    """

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct, and where."""

    mark: Mark
    message: str

    def __str__(self) -> str:
        return printable(f"{self.mark}: {self.message}")


class ScenarioError(Exception):
    """The scenario cannot be used. ``problems`` holds every reason found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Problems:
    """Collects problems, each once, so that a person sees all of them in one go."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def add(self, mark: Mark, message: str) -> None:
        """Note ``message`` about the place ``mark``."""
        self._found[Problem(mark, message)] = None

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_if_any(self) -> None:
        """Raise :class:`ScenarioError` with everything noted, the file's own problems first."""
        if not self._found:
            return
        found = sorted(self._found, key=lambda problem: (problem.mark.line == 0, problem.mark))
        rest = len(found) - MAX_PROBLEMS
        if rest > 0:
            found[MAX_PROBLEMS:] = [Problem(Mark(found[0].mark.source), f"… and {rest} more problems")]
        raise ScenarioError(found)


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` when something known resembles ``wanted``, else what there is (up to 12 names)."""
    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(wanted, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {listed(names)}" if names else "; there is none"


def printable(text: str) -> str:
    """``text`` on one line, without what would steer a terminal or cannot be encoded."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def listed(names: Iterable[str], limit: int = 12) -> str:
    """The names with commas, at most ``limit`` of them."""
    every = list(names)
    more = f", … ({len(every) - limit} more)" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more
