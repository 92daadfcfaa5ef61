"""`nanoclaw status`: asks a running gateway, or reads what a stopped one left, and shows it to people."""

import http.client
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

from nanoclaw.core.outbox import READINGS
from nanoclaw.host.outbox_store import read_outbox
from nanoclaw.host.status import is_running, read_status

PATIENCE_S = 2.0
MOST_BYTES = 1_000_000
MOST_DOWN_SHOWN = 20


def look(data: Path) -> dict[str, Any]:
    """Everything about the gateway of this data directory.

    A running one is asked over its monitor port, if it has one; else its status file is at most 2 s old. What the
    outbox keeps is read from the disk, which is true also when the daemon is dead.
    """
    running = is_running(data)
    found = read_status(data)
    if running and found.get("monitor_port"):
        found |= _asked(str(found.get("monitor_host")), int(found["monitor_port"]))
    return {**found, "running": running, **_kept(data)}


def _asked(host: str, port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port, PATIENCE_S)  # noqa: S104 - where we listen is not where we dial
    try:
        connection.request("GET", "/status")
        found = json.loads(connection.getresponse().read(MOST_BYTES))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return {"failures": [f"it does not answer on {host}:{port}: {error}"]}
    finally:
        connection.close()
    return found if isinstance(found, dict) else {}


def _kept(data: Path) -> dict[str, Any]:
    try:
        kinds = [kind for _, kind, _ in read_outbox(data)["outbox"]]
    except sqlite3.Error as error:
        return {"outbox_error": str(error)}
    readings = sum(kind in READINGS for kind in kinds)
    return {"outbox_readings": readings, "outbox_reports": len(kinds) - readings}


def table(found: dict[str, Any], utc_ms: int | None = None) -> list[tuple[str, str]]:
    """What people want to know, a name and a text each."""
    utc_ms = time.time_ns() // 1_000_000 if utc_ms is None else utc_ms
    if "id" not in found:
        state = "running" if found["running"] else "not running"
        unused = ("gateway", "no gateway has written its status here yet")
        return [unused, ("state", state), ("outbox", _outbox(found))]
    rows = [("gateway", _who(found)), ("state", _state(found, utc_ms))]
    if found["running"]:
        rows += [("problem", text) for text in found.get("failures", [])]
        rows.append(("nodes", _nodes(found)))
        rows += [("serial", _serial(port)) for port in found.get("serial", [])]
        rows += [("uplink", _uplink(line)) for line in found.get("uplinks", [])]
    rows.append(("cloud", _cloud(found, utc_ms)))
    rows.append(("outbox", _outbox(found)))
    rows += [("moved", f"{name}: an outbox that could not be read") for name in found.get("moved_aside", [])]
    rows.append(
        ("versions", f"nanoclaw {found.get('version')}, configuration {found.get('config')} of the fleet manager")
    )
    return rows


def _who(found: dict[str, Any]) -> str:
    return f"{found['id']} ({found.get('role', 'primary')}, site {found['site']}, fleet {found['fleet']})"


def _state(found: dict[str, Any], utc_ms: int) -> str:
    if not found["running"]:
        return f"not running, {_ago(found.get('utc_ms'), utc_ms, 'last seen')}"
    since = _ago(found.get("started_utc_ms"), utc_ms, "started")
    return f"running, {found.get('mode')}, {since}, process {found.get('pid')}"


def _nodes(found: dict[str, Any]) -> str:
    text = f"{found.get('nodes_up', 0)} up, {found.get('nodes_down', 0)} down, on port {found.get('mqtt_port')}"
    down = [node["id"] for node in found.get("nodes", []) if node["state"] == "down"]
    more = f" and {len(down) - MOST_DOWN_SHOWN} more" if len(down) > MOST_DOWN_SHOWN else ""
    return text + (f" (down: {', '.join(down[:MOST_DOWN_SHOWN])}{more})" if down else "")


def _serial(port: dict[str, Any]) -> str:
    text = f"{port['name']}: {port['state']}, {port['url']}"
    if port["state"] != "up":
        return f"{text} ({port['failure']})"
    text += f", {', '.join(port['nodes'])} behind it" if port["nodes"] else ", nobody behind it"
    return text + f"; {port['spoilt']} spoilt lines, {port['rejected']} refused"


def _uplink(line: dict[str, Any]) -> str:
    text = f"{line['name']}: {line['state']}" + (", in use" if line["used"] else "") + f", to {line['target']}"
    if line.get("through"):
        text += f" through {line['through']}"
    if "daily_bytes" in line:
        text += f"; {line['spent_bytes'] / 1e6:.1f} of {line['daily_bytes'] / 1e6:.0f} MB today"
        text += f", a batch every {line['batch_ms'] // 1000} s"
    return text + (f" ({line['failure']})" if line.get("failure") and line["state"] != "up" else "")


def _cloud(found: dict[str, Any], utc_ms: int) -> str:
    answered = found.get("answered_utc_ms")
    return "has never answered" if answered is None else _ago(answered, utc_ms, "last answered")


def _outbox(found: dict[str, Any]) -> str:
    if "outbox_error" in found:
        return f"cannot be read: {found['outbox_error']}"
    text = f"{found['outbox_readings']:,} readings, {found['outbox_reports']:,} reports"
    if "outbox_max_readings" in found:
        text += f"; room for {found['outbox_max_readings'] - found['outbox_readings']:,} more readings"
    rate = found.get("readings_per_hour")
    if rate:
        hours = (found["outbox_max_readings"] - found["outbox_readings"]) / rate
        text += f", {_hours(hours)} at {rate:,.0f} an hour"
    return text


def _hours(hours: float) -> str:
    return f"{hours / 24:,.0f} days" if hours > 72 else f"{hours:,.1f} hours"


def _ago(then_ms: Any, utc_ms: int, what: str) -> str:
    if not isinstance(then_ms, int):
        return f"{what} nobody knows when"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(then_ms / 1000))
    seconds = max(0, utc_ms - then_ms) // 1000
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{what} {seconds // length} {unit} ago ({when} UTC)"
    return f"{what} {seconds} s ago ({when} UTC)"
