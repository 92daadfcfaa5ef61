"""From plain data to models, with pydantic's complaints in the scenario's own words and places."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from clawsim.scenario.base import ID_PATTERN
from clawsim.scenario.errors import Mark, Problems, did_you_mean
from clawsim.scenario.models import CALL_PATTERN, HEX_PATTERN, Scenario
from clawsim.scenario.source import YamlList, YamlMap

_STAND_INS = {"version": 1, "name": "scenario", "duration": "366 d"}
"""What required keys are taken for, once their mistake is noted, while the rest of the file is checked."""

_OPTIONAL = ("action", "backlog", "jitter", "link", "loss", "name", "not_before", "power_on", "role", "severity",
             "stagger", "type", "within")  # fmt: skip
_HARMLESS: dict[str, str | None] = {
    **dict.fromkeys(_OPTIONAL),
    "for": "1 us",
    "add": "1 ms",
    "rate": "1 %",
    "latency": "1 h",
}
"""Keys of entries that can go (or be this instead) without making any other statement of the file look wrong."""

_MESSAGES = {
    "model_type": "must be a mapping of keys and values",
    "dict_type": "must be a mapping of keys and values",
    "list_type": "must be a list",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
}
_BOUNDS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "finite_number": "must be a finite number",
}
_PATTERNS = {
    ID_PATTERN: "is not an id: lower-case letters, digits and hyphens, at most 32, no hyphen first",
    CALL_PATTERN: "is not METHOD /path, as in GET /api/v1/fleet/nodes",
    HEX_PATTERN: "is not hexadecimal: two digits a byte",
}


def validate(raw: YamlMap, problems: Problems) -> Scenario | None:
    """The model of ``raw``, without the entries that are wrong (all noted in ``problems``).

    ``None`` when too little is left to go on.
    """
    try:
        return Scenario.model_validate(raw, context=problems)
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        problems.add(*_located(raw, detail))
    try:
        return Scenario.model_validate(_mended(raw, details), context=Problems())
    except ValidationError:
        return None


def _located(raw: YamlMap, detail: ErrorDetails) -> tuple[Mark, str]:
    """Follow the error's path through the data; what pydantic adds to it (tags of variants) is not there to follow."""
    here: Any = raw
    mark, key = raw.mark, ""
    for step in detail["loc"]:
        if isinstance(here, YamlMap) and step in here:
            key, mark, here = str(step), here.values_at[str(step)], here[str(step)]
        elif isinstance(here, YamlList) and isinstance(step, int) and step < len(here):
            mark, here = here.items_at[step], here[step]
    if detail["type"] == "missing":
        return mark, f"'{detail['loc'][-1]}' is missing" + (f" in {key}" if key else "")
    return mark, f"{key}: {_message(detail)}" if key and detail["type"] != "variant" else _message(detail)


def _message(detail: ErrorDetails) -> str:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "literal_error":
        return _not_one_of(given, re.findall(r"'([^']*)'|(\d+)", str(context["expected"])))
    if kind == "variant":
        return _variant(detail["msg"], given)
    if kind == "string_pattern_mismatch":
        return f"'{given}' {_PATTERNS[context['pattern']]}"
    if kind == "string_type" and isinstance(given, bool | int | float):
        return "must be a text; put it in quotes"
    if kind in ("too_short", "too_long"):
        return _length(kind, context)
    if kind in _BOUNDS:
        return _BOUNDS[kind].format_map(context)
    if kind in _MESSAGES:
        return _MESSAGES[kind] + ("; it has no value" if given is None else "")
    return detail["msg"][:1].lower() + detail["msg"][1:]


def _length(kind: str, context: dict[str, Any]) -> str:
    count = context["actual_length"]
    if kind == "too_short":
        return f"needs at least {context['min_length']}; it has {count or 'none'}"
    return f"must be at most {context['max_length']}; there are {count or 'more'}"


def _not_one_of(given: object, found: list[tuple[str, str]]) -> str:
    known = [text or number for text, number in found]
    return f"'{given}' is not possible{did_you_mean(str(given), known)}"


def _variant(message: str, given: object) -> str:
    if not isinstance(given, dict):
        return f"{message}; it is not a mapping"
    keys = message.rpartition(": ")[2].split(", ")
    present = [key for key in keys if key in given]
    if present:
        return f"{message}; it has {' and '.join(present)}"
    hints = [f"'{key}'{hint}" for key in given if (hint := did_you_mean(str(key), keys)).startswith("; did you mean")]
    return f"{message}; it has {hints[0].replace(';', ':', 1)}" if hints else message


def _mended(raw: YamlMap, details: list[ErrorDetails]) -> YamlMap:
    """A copy of ``raw`` with the least taken out that makes it fit the models, so that the rest can be checked too."""
    copy: YamlMap = _copy(raw)
    doomed: list[tuple[YamlList, Any]] = []
    for detail in details:
        doomed += _mend(copy, detail["loc"])
    for items, item in doomed:
        items.drop(item)
    for group in _groups(copy):
        if group.get("sensors") == []:
            group.put("sensors", _sensors(group.mark), group.mark, group.mark)
    for key, value in _STAND_INS.items():
        if key not in copy:
            copy.put(key, value, raw.mark, raw.mark)
    return copy


def _mend(copy: YamlMap, path: tuple[int | str, ...]) -> list[tuple[YamlList, Any]]:
    """Replace or remove the faulty value where that is harmless; else return the list item that has to go."""
    here: Any = copy
    item: list[tuple[YamlList, Any]] = []
    for step in path:
        if isinstance(here, YamlList) and isinstance(step, int) and step < len(here):
            item = [(here, here[step])]
            here = here[step]
        elif isinstance(here, YamlMap) and isinstance(step, str) and step in here:
            if step in _HARMLESS and here is not copy:
                _take_out(here, step)
                return []
            if here is copy and (step in _STAND_INS or not isinstance(here[step], YamlList | YamlMap)):
                del here[step]
                return []
            here = here[step]
    return item


def _take_out(entry: YamlMap, key: str) -> None:
    if _HARMLESS[key] is None:
        del entry[key]
    else:
        entry[key] = _HARMLESS[key]


def _groups(copy: YamlMap) -> list[YamlMap]:
    fleet = copy.get("fleet")
    nodes = fleet.get("nodes") if isinstance(fleet, YamlMap) else None
    return [node for node in nodes if isinstance(node, YamlMap)] if isinstance(nodes, YamlList) else []


def _sensors(mark: Mark) -> YamlList:
    sensors = YamlList(mark)
    sensors.append({"metric": "temp", "signal": {"constant": 20}, "every": "60 s"})
    sensors.items_at.append(mark)
    return sensors


def _copy(data: Any) -> Any:
    if isinstance(data, YamlList):
        items = YamlList(data.mark)
        items.extend(_copy(item) for item in data)
        items.items_at = list(data.items_at)
        return items
    if not isinstance(data, YamlMap):
        return data
    copy = YamlMap(data.mark)
    copy.label = data.label
    for key, value in data.items():
        copy.put(key, _copy(value), data.keys_at[key], data.values_at[key])
    return copy
