"""The inventory file: the gateways, nodes and rules that a fleet begins with, as JSON.

What is wrong with it comes back as one line: `FILE:LINE:COLUMN: nodes.3.key: message`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware.wire.ids import valid_id
from fleet.core.errors import Conflict
from fleet.host.json_place import line_and_column
from fleet.host.settings import SettingsError
from fleet.wire.expression import ExpressionError, parse

MAX_BYTES = 64 * 1024 * 1024
NODE_TYPES = ("microclaw", "picoclaw", "picclaw", "nanoclaw", "moltclaw")

Item = dict[str, Any]
_LISTS = ("gateways", "nodes", "rules", "sensitive")


@dataclass(frozen=True)
class Inventory:
    """What the file says, each item with its required keys checked; the core checks what they mean."""

    path: Path
    fleet: str
    gateways: list[Item]
    nodes: list[Item]
    rules: list[Item]
    sensitive: list[Item]


def load(path: Path) -> Inventory:
    """The inventory in `path`. Raises SettingsError."""
    found = _object(path, "", _parse(path))
    fleet = found.get("fleet", "clawland")
    _expect(path, "fleet", valid_id(fleet), "expected an id of a-z, 0-9 and '-'")
    known = {"fleet", "gateways", "nodes", "rules", "sensitive"}
    for key in found:
        _expect(path, key, key in known, f"unknown key; known are {', '.join(sorted(known))}")
    inventory = Inventory(path, fleet, *(_items(path, found, name) for name in _LISTS))
    _check(inventory)
    for number, rule in enumerate(inventory.rules):
        _read_conditions(path, f"rules.{number}", rule)
    return inventory


def apply(inventory: Inventory, core: Any, now_ms: int) -> None:
    """Hands everything to the core, gateways first. Raises SettingsError with the item that the core refuses.

    What an operator has decided over the API since stays as it is.
    """
    if not core.sensitive.settled:
        _try(inventory.path, "sensitive", core.sensitive.set_all, inventory.sensitive, now_ms)
    for name, items, add in (
        ("gateways", inventory.gateways, core.add_gateway),
        ("nodes", inventory.nodes, core.add_node),
    ):
        for number, item in enumerate(items):
            if not core.members.is_settled(item["id"]):
                _try(inventory.path, f"{name}.{number}", add, item, now_ms)
    if not core.configuration.rules_settled:
        _try(inventory.path, "rules", core.set_rules, inventory.rules, now_ms)


def _try(path: Path, place: str, add: Callable[[Any, int], object], what: object, now_ms: int) -> None:
    try:
        add(what, now_ms)
    except (ValueError, Conflict) as error:
        raise _wrong(path, place, str(error)) from None


def _read_conditions(path: Path, place: str, rule: Item) -> None:
    """People write a condition as text; the core takes its tree."""
    for key in ("when", "clear"):
        if isinstance(rule.get(key), str):
            try:
                rule[key] = parse(rule[key])
            except ExpressionError as error:
                raise _wrong(path, f"{place}.{key}", f"at character {error.column}: {error.message}") from None


def _parse(path: Path) -> object:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SettingsError(f"{path}: larger than {MAX_BYTES} bytes")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise SettingsError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError):
        raise SettingsError(f"{path}: not JSON in UTF-8") from None


def _items(path: Path, found: Item, name: str) -> list[Item]:
    items = found.get(name, [])
    _expect(path, name, isinstance(items, list), "expected a list")
    return [_object(path, f"{name}.{number}", item) for number, item in enumerate(items)]


def _object(path: Path, place: str, value: object) -> Item:
    if not isinstance(value, dict):
        raise _wrong(path, place, "expected an object")
    return value


def _check(inventory: Inventory) -> None:
    seen: dict[str, str] = {}
    gateways = {gateway.get("id") for gateway in inventory.gateways}
    for name, items in (("gateways", inventory.gateways), ("nodes", inventory.nodes)):
        for number, item in enumerate(items):
            _check_member(inventory.path, f"{name}.{number}", item, seen)
    for number, node in enumerate(inventory.nodes):
        place = f"nodes.{number}"
        _expect(
            inventory.path, f"{place}.type", node.get("type") in NODE_TYPES, f"expected one of {', '.join(NODE_TYPES)}"
        )
        _check_sealing(inventory.path, place, node)
        gateway = node.get("gateway")
        _expect(inventory.path, f"{place}.gateway", gateway in gateways, f"{gateway!r} is not among the gateways")


def _check_sealing(path: Path, place: str, node: Item) -> None:
    """A node that seals metrics names them, and has a key of its own for it, which no gateway gets."""
    sealed, key = node.get("sealed", []), node.get("sealing_key")
    _expect(path, f"{place}.sealed", isinstance(sealed, list), "expected a list of metrics")
    _expect(path, f"{place}.sealing_key", key is None or _is_key(key), "expected a key of 64 hexadecimal digits")
    _expect(path, f"{place}.sealing_key", key is None or key != node.get("key"), "is the node's other key, too")
    _expect(path, f"{place}.sealing_key", bool(sealed) or key is None, "of no use without `sealed`: the metrics")


def _check_member(path: Path, place: str, item: Item, seen: dict[str, str]) -> None:
    name = item.get("id")
    if not valid_id(name):
        raise _wrong(path, f"{place}.id", f"{name!r} is not an id: 1 to 32 of a-z, 0-9 and '-', not '-' first")
    earlier = seen.setdefault(str(name), place)
    _expect(path, f"{place}.id", earlier == place, f"{name!r} is taken by {earlier}")
    _expect(path, f"{place}.key", _is_key(item.get("key")), "expected a key of 64 hexadecimal digits")


def _is_key(value: object) -> bool:
    """Says nothing of the value in any message: it is a secret."""
    return isinstance(value, str) and len(value) == 64 and all(digit in "0123456789abcdef" for digit in value.lower())


def _expect(path: Path, place: str, holds: bool, message: str) -> None:
    if not holds:
        raise _wrong(path, place, message)


def _wrong(path: Path, place: str, message: str) -> SettingsError:
    """The error about `place`; the file is read once more to tell its line."""
    try:
        line, column = line_and_column(path.read_text(encoding="utf-8"), place)
    except (OSError, ValueError, IndexError):  # it has changed since
        return SettingsError(f"{path}: {place}: {message}")
    return SettingsError(f"{path}:{line}:{column}: {place + ': ' if place else ''}{message}")
