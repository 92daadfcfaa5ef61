"""The core's views in the words of the public API: ids spelt out, times as ISO 8601, states as users know them."""

import copy
from collections.abc import Mapping
from typing import Any

import orjson

from fleet.host.readings import utc_text

View = Mapping[str, Any]
Json = dict[str, Any]

# A node that was registered and never heard of is offline; one whose gateway is silent may be well: unknown.
NODE_STATUS = {"new": "offline", "up": "online", "down": "down", "unknown": "unknown"}
ALERT_STATE = {"raised": "open", "cleared": "cleared"}


def node_type_of(name: str) -> str:
    """One spelling for `picclaw` and `picoclaw`, which public clients both use."""
    return "picoclaw" if name == "picclaw" else name


def node_json(view: View) -> Json:
    """A node in a list."""
    return {
        "node_id": view["id"],
        "node_type": node_type_of(str(view.get("type"))),
        "status": NODE_STATUS.get(str(view.get("state")), "unknown"),
        "last_heartbeat": utc_text(view.get("heard_utc_ms")),
        "metadata": (view.get("metadata") or {})
        | {"site": view.get("site"), "gateway": view.get("gateway"), "home": view.get("home")},
    }


_SHOWN = ("state", "heard_utc_ms", "metadata", "gateway", "home", "site", "type")


class NodeTexts:
    """Nodes in a list as JSON text, each made anew only when something that it shows has changed."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[tuple[Any, ...], orjson.Fragment]] = {}

    def __call__(self, rows: Mapping[str, View], node: str) -> orjson.Fragment:
        """`node_json` of a row of the registry."""
        doc = rows[node]["doc"]
        get = doc.get
        shown = (
            get("state"),
            get("heard_utc_ms"),
            get("metadata"),
            get("gateway"),
            get("home"),
            get("site"),
            get("type"),
        )
        made = self._made.get(node)
        if made is not None and made[0] == shown:
            return made[1]
        text = orjson.Fragment(orjson.dumps(node_json({"id": node, **doc})))
        if len(self._made) > len(rows):
            self._made.clear()  # of nodes that are gone
        self._made[node] = (copy.deepcopy(shown), text)
        return text


def node_detail_json(view: View) -> Json:
    """A node by itself, with what it or its gateway last said of it; what nobody has said is null."""
    health = view.get("health") or {}
    return node_json(view) | {
        "hardware": view.get("hardware"),
        "capabilities": view.get("capabilities") or [],
        "registered_at": utc_text(view.get("registered_utc_ms")),
        "uptime_seconds": health.get("uptime_seconds"),
        "free_memory_kb": health.get("free_memory_kb"),
        "sensors_active": health.get("sensors_active"),
        "wifi_rssi": health.get("wifi_rssi"),
        "reports_by": view.get("link") or "gateway",
        "stolen": bool(view.get("stolen")),
        "boot": view.get("boot"),
        "attach": view.get("attach"),
    }


def gateway_json(view: View) -> Json:
    """A gateway with its last report of its own health."""
    return {
        "gateway_id": view["id"],
        "status": NODE_STATUS.get(str(view.get("state")), "unknown"),
        "site": view.get("site"),
        "role": view.get("role"),
        "health": view.get("health"),
        "config_hash": view.get("config_hash"),
    }


def alert_json(view: View) -> Json:
    """An alert episode."""
    doc = view.get("doc") or {}
    by_gateway = {name: doc[name] for name in ("judged", "members", "commands") if doc.get(name)}
    return by_gateway | {
        "alert_id": view["id"],
        "node_id": view["node"],
        "rule": view["rule"],
        "state": ALERT_STATE.get(str(view["state"]), str(view["state"])),
        "severity": doc.get("severity"),
        "value": doc.get("value"),
        "sealed": bool(doc.get("sealed")),
        "decided_by": doc.get("by"),
        "acknowledged_by": doc.get("acknowledged_by"),
        "acknowledged_utc": utc_text(doc.get("acknowledged_utc_ms")),
        "raised_utc": utc_text(view.get("raised_utc_ms")),
        "cleared_utc": utc_text(view.get("cleared_utc_ms")),
    }


def command_json(view: View) -> Json:
    """A command; `status` is the node's own word once it has answered, `reason` why it failed."""
    doc = view.get("doc") or {}
    return {
        "id": view["id"],
        "action": doc.get("action"),
        "target": view["target"],
        "params": doc.get("params"),
        "state": view["state"],
        "status": doc.get("status"),
        "reason": doc.get("reason"),
        "result": doc.get("result"),
        "by": doc.get("by"),
        "created_utc": utc_text(view.get("created_utc_ms")),
        "expires_utc": utc_text(doc.get("expires_utc_ms")),
        "ended_utc": utc_text(doc.get("ended")),
    }
