"""A database as a fleet of ten thousand nodes leaves it: registry, readings of two metrics each, open alerts."""

from collections.abc import Iterator

from fleet.core.rows import ReadingRow
from fleet.host.storage import Storage

KEY = "22" * 32
METRICS = ("temp", "humidity")
NODES_A_GATEWAY = 100
BOOTS = (7, 8)
A_WRITE = 10_000


def node_ids(nodes: int) -> list[str]:
    """Their ids."""
    return [f"sensor-{number:05}" for number in range(nodes)]


def fill(storage: Storage, nodes: int, readings_each: int, utc_ms: int) -> None:
    """Writes it; the last readings are of `utc_ms`, every tenth node has an open alert, every twentieth lost one."""
    names = node_ids(nodes)
    members = [("upsert", "gateways", _gateway(number)) for number in range(-(-nodes // NODES_A_GATEWAY))]
    members += [("upsert", "nodes", _node(number, name, utc_ms)) for number, name in enumerate(names)]
    members += [("upsert", "alerts", _alert(name, utc_ms)) for name in names[::10]]
    rule = {"name": "hot", "when": {"metric": "temp", "op": ">", "value": 30}, "clear": None, "action": "notify"}
    members += [("upsert", "rules", {"name": "hot", "doc": rule | {"severity": "warning"}})]
    storage.perform(members)
    rows = [row for number, name in enumerate(names) for row in _readings(number, name, readings_each, utc_ms)]
    for at in range(0, len(rows), A_WRITE):
        storage.perform([("readings", rows[at : at + A_WRITE])])


def _gateway(number: int) -> dict[str, object]:
    doc = {"state": "up", "site": f"site-{number:03}", "role": "primary", "key": KEY}
    return {"id": f"gateway-{number:03}", "doc": doc}


def _node(number: int, name: str, utc_ms: int) -> dict[str, object]:
    at = number // NODES_A_GATEWAY
    doc = {"state": "up", "attach": 1, "boot": BOOTS[-1], "type": "microclaw", "site": f"site-{at:03}", "key": KEY}
    doc |= {"gateway": f"gateway-{at:03}", "home": f"gateway-{at:03}", "heard_utc_ms": utc_ms - number}
    return {"id": name, "doc": doc | {"registered_utc_ms": utc_ms - 86_400_000}}


def _alert(name: str, utc_ms: int) -> dict[str, object]:
    doc = {"value": 31.5, "by": "cloud", "severity": "warning", "acknowledged_by": None}
    times = {"raised_utc_ms": utc_ms - 60_000, "cleared_utc_ms": None}
    return {"id": f"hot:{name}:7:1", "node": name, "rule": "hot", "state": "raised", "doc": doc, **times}


def _readings(number: int, name: str, each: int, utc_ms: int) -> Iterator[ReadingRow]:
    gateway = f"gateway-{number // NODES_A_GATEWAY:03}"
    for count in range(each):
        boot, seq = BOOTS[count * len(BOOTS) // each], count
        if number % 20 or count != 1:
            at_ms = utc_ms - (each - count) * 30_000
            metric = METRICS[count % 2]
            yield ReadingRow(name, boot, seq, metric, 20 + count / 4, "C", at_ms, "exact", gateway, at_ms + 50)
