"""Prometheus metrics of a gateway: names `clawland_gateway_…`, base units, labels with few values."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from firmware.hosting.trace import Tracer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MODES = ("starting", "online", "offline")
_P = "clawland_gateway_"


class CountingTracer:
    """Counts the events that pass to another tracer, by kind; kinds are words of the code, so they are few."""

    def __init__(self, inner: Tracer) -> None:
        self.counts: dict[str, int] = {}
        self._inner = inner

    def write(self, kind: str, fields: Mapping[str, Any], now_ms: int) -> None:
        """Record that `kind` happened at `now_ms` (core time)."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._inner.write(kind, fields, now_ms)


class Metrics:
    """Reads a report at the moment of asking."""

    def __init__(self, report: Callable[[], dict[str, Any]], events: Mapping[str, int]) -> None:
        self._report = report
        self._events = events
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing in advance: the registry need not collect to learn names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client for each scrape."""
        found = self._report()
        yield _labelled("info", "1, with the version", "version", {found["version"]: 1})
        yield _labelled("mode", "1 for the mode it is in", "mode", {mode: int(found["mode"] == mode) for mode in MODES})
        yield _gauge("healthy", "1 while nothing is wrong on this machine", int(not found["failures"]))
        yield _labelled("nodes", "nodes by state", "state", _by_state(found["nodes"]))
        yield from self._outbox(found)
        yield from self._uplinks(found["uplinks"])
        yield from self._serial(found["serial"])
        yield CounterMetricFamily(f"{_P}messages_rejected", "messages that could not be taken", found["rejected"])
        events = CounterMetricFamily(f"{_P}events", "events of the gateway by kind", labels=["kind"])
        for kind, count in sorted(self._events.items()):
            events.add_metric([kind], count)
        yield events

    def _outbox(self, found: dict[str, Any]) -> Iterator[Metric]:
        yield _gauge("outbox_readings", "readings kept for the cloud", found["outbox_readings"])
        yield _gauge("outbox_capacity_readings", "readings that can be kept", found["outbox_max_readings"])
        yield _gauge("outbox_reports", "reports kept for the cloud", found["outbox_reports"])
        if found["outbox_hours"] is not None:
            yield _gauge(
                "outbox_room_seconds", "how long the outbox has room at the present rate", found["outbox_hours"] * 3600
            )
        if found["answered_utc_ms"] is not None:
            yield _gauge(
                "cloud_answer_timestamp_seconds", "when the cloud last answered", found["answered_utc_ms"] / 1000
            )

    def _uplinks(self, lines: list[dict[str, Any]]) -> Iterator[Metric]:
        def each(read: Callable[[dict[str, Any]], float]) -> dict[str, float]:
            return {line["name"]: read(line) for line in lines}

        yield _labelled("uplink_up", "1 while connected", "uplink", each(lambda line: int(line["state"] == "up")))
        yield _labelled("uplink_used", "1 for the one in use", "uplink", each(lambda line: int(line["used"])))
        yield _counted("uplink_messages_sent", "messages to the hub", "uplink", each(lambda line: line["sent"]))
        dropped = each(lambda line: line["dropped"])
        yield _counted("uplink_messages_dropped", "messages that could not be sent", "uplink", dropped)
        metered = [line for line in lines if "daily_bytes" in line]
        for name, key, told in (
            ("uplink_day_spent_bytes", "spent_bytes", "what a metered uplink has carried today"),
            ("uplink_day_budget_bytes", "daily_bytes", "what a metered uplink may carry in a day"),
        ):
            yield _labelled(name, told, "uplink", {line["name"]: line[key] for line in metered})
        intervals = {line["name"]: line["batch_ms"] / 1000 for line in metered}
        yield _labelled(
            "uplink_batch_interval_seconds", "time between batches on a metered uplink", "uplink", intervals
        )

    def _serial(self, ports: list[dict[str, Any]]) -> Iterator[Metric]:
        if not ports:
            return
        up = {port["name"]: int(port["state"] == "up") for port in ports}
        yield _labelled("serial_up", "1 while the port is open", "port", up)
        nodes = {port["name"]: len(port["nodes"]) for port in ports}
        yield _labelled("serial_nodes", "nodes that are here on the port", "port", nodes)
        for key, told in _SERIAL:
            yield _counted(f"serial_{key}", told, "port", {port["name"]: port[key] for port in ports})


_SERIAL = (
    ("opened", "how often the port was opened"),
    ("lost", "how often the open port was lost"),
    ("messages", "messages that nodes sent over the port"),
    ("spoilt", "lines that were none: noise"),
    ("rejected", "hellos and messages that were not authentic, or from strangers"),
    ("dropped", "messages to nodes that the port could not take"),
)


def _by_state(nodes: list[dict[str, Any]]) -> dict[str, float]:
    counts: dict[str, float] = {"up": 0, "down": 0}
    for node in nodes:
        counts[node["state"]] = counts.get(node["state"], 0) + 1
    return counts


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(_P + name, told, value)


def _labelled(name: str, told: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(_P + name, told, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family


def _counted(name: str, told: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(_P + name, told, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family
