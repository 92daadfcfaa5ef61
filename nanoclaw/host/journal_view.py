"""`nanoclaw journal`: what a gateway decided by itself, read from its disk, whether or not it runs."""

import json
import time
from pathlib import Path
from typing import Any

from nanoclaw.core.journal import entries_of
from nanoclaw.core.outbox import REPORT
from nanoclaw.host.outbox_store import read_outbox


def look(data: Path, last: int) -> list[dict[str, Any]]:
    """The `last` entries, the oldest first. `told`: whether the cloud has it; None for what it is not told.

    Raises sqlite3.Error when the outbox cannot be read.
    """
    found = read_outbox(data)
    waiting = {json.loads(body)["message"]["item"] for _, kind, body in found["outbox"] if kind == REPORT}
    entries = [entry for _, entry in entries_of(found["slots"])][-last:]
    return [entry | {"told": entry["item"] not in waiting if "item" in entry else None} for entry in entries]


def lines(entries: list[dict[str, Any]]) -> list[str]:
    """One line an entry, for people."""
    return [f"{_when(entry['utc_ms'])}  {_TOLD[entry['told']]:<6} {_text(entry)}" for entry in entries]


_TOLD = {True: "told", False: "waits", None: ""}


def _when(utc_ms: int | None) -> str:
    if utc_ms is None:
        return f"{'time not known':<19}"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(utc_ms / 1000))


def _text(entry: dict[str, Any]) -> str:
    what = entry["what"]
    if what == "offline":
        return f"decides alone: {entry['reason']}, silent for {entry['silent_ms'] // 1000} s"
    if what == "online":
        return f"reached the cloud after {entry['offline_ms'] // 1000} s"
    if what.startswith("alert-"):
        return _alert(entry)
    if what == "cooldown-over":
        return f"{entry['rule']} on {entry['node'] or 'its scope'}: still there after its cooldown{_commands(entry)}"
    if what == "command-refused":
        return f"{entry['rule']} cannot command {entry['target']}: {entry['reason']}"
    reason = entry.get("reason") or entry.get("status")
    return f"{entry['action']} for {entry['target']} {what.removeprefix('command-')}" + (
        f": {reason}" if reason else ""
    )


def _alert(entry: dict[str, Any]) -> str:
    text = f"{entry['rule']} on {entry.get('node') or entry.get('scope')}: {entry['what'].removeprefix('alert-')}"
    text += f", value {entry['value']}" if entry.get("value") is not None else ""
    if entry.get("members", 0) > entry.get("judged", 0):
        text += f", over {entry['judged']} of {entry['members']} nodes"
    return text + _commands(entry)


def _commands(entry: dict[str, Any]) -> str:
    return "".join(f"; {command['action']} for {command['target']}" for command in entry["commands"])
