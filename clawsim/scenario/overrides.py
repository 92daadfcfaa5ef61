"""``--set fleet.nodes.0.count=50``: one value of the file, replaced from the command line before it is checked."""

from __future__ import annotations

from typing import Any

from clawsim.scenario.errors import Mark, Problem, Problems, ScenarioError, did_you_mean, listed
from clawsim.scenario.source import YamlList, YamlMap, read_text


def apply(override: str, raw: YamlMap, problems: Problems) -> None:
    """Replace in ``raw`` the value that ``override`` (``path=value``, the value in YAML) names.

    Keys and list positions (from 0) are separated by dots. A last key that is not there yet is added. Whatever is wrong
    goes to ``problems``, marked ``--set path=value``.
    """
    mark = Mark(f"--set {override}")
    path, equals, text = override.partition("=")
    if not equals or not path:
        problems.add(mark, "expected PATH=VALUE, for example fleet.nodes.0.count=50")
        return
    try:
        value = read_text(text, mark.source, problems, fixed=mark) if text.strip() else None
        _put(raw, path.split("."), value, mark)
    except ScenarioError as error:
        for problem in error.problems:
            problems.add(problem.mark, problem.message)


def _put(raw: YamlMap, steps: list[str], value: Any, mark: Mark) -> None:
    here: Any = raw
    for index, step in enumerate(steps[:-1]):
        here = _child(here, step, steps[:index], mark)
    if isinstance(here, YamlMap) and steps[-1]:
        here.put(steps[-1], value, mark, mark)
    else:
        _child(here, steps[-1], steps[:-1], mark)
        here[int(steps[-1])] = value
        here.items_at[int(steps[-1])] = mark


def _child(here: Any, step: str, before: list[str], mark: Mark) -> Any:
    """What ``step`` leads to; raises :class:`ScenarioError` saying where the path stops and what is there instead."""
    if isinstance(here, YamlMap) and step in here:
        return here[step]
    if isinstance(here, YamlList) and step.isascii() and step.isdigit() and len(step) < 9 and int(step) < len(here):
        return here[int(step)]
    place = f"'{'.'.join(before)}'" if before else "the file"
    raise ScenarioError([Problem(mark, f"there is no '{step}' in {place}{_what_is_there(here, step)}")])


def _what_is_there(here: Any, step: str) -> str:
    if isinstance(here, YamlMap):
        hint = did_you_mean(step, here)
        return hint if "did you mean" in hint else f", which has: {listed(here)}"
    if isinstance(here, YamlList):
        return f", a list with positions 0 to {len(here) - 1}" if here else ", an empty list"
    return f", which is the value {here!r}"
