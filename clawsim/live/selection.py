"""Which parts of a world are real: `fleet`, `hub`, `gateways`, `nodes`, or single ids."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from clawsim.scenario.plan import FLEET, HUB, Plan


class UnknownPart(ValueError):
    """There is nothing of that name to be made real, or not by itself; the message says what there is."""


def everything(plan: Plan) -> frozenset[str]:
    """All parts of ``plan``."""
    return frozenset((HUB, FLEET, *(each.id for each in plan.gateways), *(each.id for each in plan.nodes)))


def select(plan: Plan, names: Iterable[str]) -> frozenset[str]:
    """The ids that ``names`` stand for, in any combination and also separated by commas; :class:`UnknownPart`."""
    groups = {
        "gateways": frozenset(each.id for each in plan.gateways),
        "nodes": frozenset(each.id for each in plan.nodes),
        "cloud": frozenset((HUB, FLEET)),
        "all": everything(plan),
    }
    parts = groups | {one: frozenset((one,)) for one in everything(plan)}
    wanted = [name.strip() for text in names for name in text.split(",") if name.strip()]
    for name in wanted:
        if name not in parts:
            raise UnknownPart(_message(name, parts))
    found = frozenset().union(*(parts[name] for name in wanted))
    for node in plan.nodes:
        if node.wired and (node.id in found) != (node.gateway in found):
            raise UnknownPart(f"{node.id} is at a serial cable of {node.gateway}: make both real, or neither")
    return found


def _message(name: str, parts: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(parts), 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"nothing is called {name!r}: use hub, fleet, gateways, nodes, all, or the id of one of them{hint}"
