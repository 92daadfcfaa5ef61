"""What a file declares, gathered before anything is validated: so that one bad node is one error, not twenty.

References are checked against these names even when the entry that declares one has a mistake elsewhere.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from clawsim.scenario.base import ID_PATTERN
from clawsim.scenario.errors import Mark, Problems
from clawsim.scenario.models import MAX_NODES
from clawsim.scenario.plan import FLEET, HUB
from clawsim.scenario.source import YamlList, YamlMap
from clawsim.scenario.vocabulary import RESERVED_IDS

ENTRY_KINDS = ("fault", "call", "inject")
_ID = re.compile(ID_PATTERN)
_UNFIT = re.compile(r"[^a-z0-9-]+")
_PLACEHOLDER = re.compile(r"\{(?::0?([1-9])d)?\}")


@dataclass
class Names:
    """Declared names by sort; ``entries`` maps each timeline entry's name to its kind (fault, call, inject)."""

    gateways: dict[str, Mark] = field(default_factory=dict)
    nodes: dict[str, Mark] = field(default_factory=dict)
    metrics: set[str] = field(default_factory=set)
    entries: dict[str, str] = field(default_factory=dict)

    def entities(self) -> list[str]:
        """Everything that a fault can strike and an event can come from."""
        return [*self.gateways, *self.nodes, HUB, FLEET]

    def matching(self, pattern: str) -> list[str]:
        """The entities that a shell pattern such as ``sensor-*`` means."""
        return fnmatch.filter(self.entities(), pattern)

    def of_kind(self, kind: str) -> list[str]:
        """The names of the timeline's entries of one kind."""
        return [name for name, found in self.entries.items() if found == kind]


def gather(raw: YamlMap, problems: Problems) -> Names:
    """The names that ``raw`` declares; bad and duplicate ids go to ``problems``.

    Labels every entry of the timeline with its name, given or generated.
    """
    names = Names()
    fleet = raw.get("fleet")
    if isinstance(fleet, YamlMap):
        _gather_entities(fleet.get("gateways"), names.gateways, names, problems)
        _gather_entities(fleet.get("nodes"), names.nodes, names, problems)
        for node in _mappings(fleet.get("nodes")):
            names.metrics.update(
                sensor["metric"] for sensor in _mappings(node.get("sensors")) if isinstance(sensor.get("metric"), str)
            )
    _gather_entries(raw.get("timeline"), names, problems)
    return names


def expanded_ids(pattern: str, count: int | None, start: int) -> list[str]:
    """The ids of a group: ``sensor-{:02d}`` with a count of 2 is sensor-01 and sensor-02.

    Raises :class:`ValueError` when pattern and count do not fit each other or an id breaks the grammar of ids.
    """
    places = len(_PLACEHOLDER.findall(pattern))
    if count is None and "{" in pattern:
        raise ValueError(f"'{pattern}' is a pattern: add `count`, or write a plain id")
    if count is not None and places == 0 and "{" in pattern:
        raise ValueError(f"'{pattern}': the place for the number is written {{}}, or {{:02d}} for two digits")
    if count is not None and places != 1:
        raise ValueError(
            f"with `count` an id needs one place for the number, for example 'sensor-{{:02d}}': '{pattern}'"
        )
    ids = [pattern] if count is None else [_numbered(pattern, start + i) for i in range(count)]
    for found in (ids[0], ids[-1]):
        if not _ID.fullmatch(found):
            raise ValueError(
                f"'{found}' is not an id: lower-case letters, digits and hyphens, at most 32, no hyphen first"
            )
        if found in RESERVED_IDS:
            raise ValueError(f"'{found}' is reserved")
    return ids


def _numbered(pattern: str, number: int) -> str:
    return _PLACEHOLDER.sub(lambda place: f"{number:0{place[1] or 1}d}", pattern)


def _gather_entities(items: Any, into: dict[str, Mark], names: Names, problems: Problems) -> None:
    for item in _mappings(items):
        pattern, count, start = item.get("id"), item.get("count"), item.get("start", 1)
        if (
            not isinstance(pattern, str)
            or not (count is None or _small(count, 1, MAX_NODES))
            or not _small(start, 0, 10**6)
        ):
            continue  # the models say so
        mark = item.values_at["id"]
        if len(into) + (count or 1) > MAX_NODES:
            problems.add(mark, f"more than {MAX_NODES} nodes")
            return
        try:
            ids = expanded_ids(pattern, count, start)
        except ValueError as error:
            problems.add(mark, str(error))
            for meant in _meant(pattern, count, start):
                if meant not in names.gateways and meant not in names.nodes:
                    into[meant] = mark
            continue
        _declare(ids, mark, into, names, problems)


def _meant(pattern: str, count: int | None, start: int) -> set[str]:
    """What other places of the file may call the ids of a pattern that was refused: one mistake is one error."""
    numbers = range(start, start + count) if count is not None else [start]
    ids = {_numbered(pattern, number) for number in numbers} - set(RESERVED_IDS)
    return ids | {_UNFIT.sub("-", found.lower()).strip("-") for found in ids}


def _declare(ids: list[str], mark: Mark, into: dict[str, Mark], names: Names, problems: Problems) -> None:
    taken = [found for found in ids if found in names.gateways or found in names.nodes]
    if taken:
        first = names.gateways.get(taken[0]) or names.nodes[taken[0]]
        more = f" (and {len(taken) - 1} more)" if len(taken) > 1 else ""
        problems.add(mark, f"duplicate id '{taken[0]}'{more}; the first is at {first}")
    for found in ids:
        into.setdefault(found, mark)


def _gather_entries(items: Any, names: Names, problems: Problems) -> None:
    marks: dict[str, Mark] = {}
    for item, name, kind in named_entries(items):
        item.label = name
        mark = item.values_at.get("name", item.mark)
        if name in names.entries:
            problems.add(mark, f"duplicate name '{name}' in the timeline; the first is at {marks[name]}")
        else:
            names.entries[name] = kind
            marks[name] = mark


def named_entries(items: Any) -> Iterator[tuple[YamlMap, str, str]]:
    """Each recognisable entry of the timeline with its name and kind; unnamed ones are ``fault-1``, ``call-1``, …"""
    counts = dict.fromkeys(ENTRY_KINDS, 0)
    for item in _mappings(items):
        kind = next((kind for kind in ENTRY_KINDS if kind in item), None)
        if kind is None:
            continue
        counts[kind] += 1
        name = item.get("name")
        yield item, name if isinstance(name, str) else f"{kind}-{counts[kind]}", kind


def _mappings(items: Any) -> list[YamlMap]:
    return [item for item in items if isinstance(item, YamlMap)] if isinstance(items, YamlList) else []


def _small(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
