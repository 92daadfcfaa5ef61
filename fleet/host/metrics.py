"""Prometheus metrics: names `clawland_…`, base units, labels with few values."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from fleet.host.stage import Stage
from fleet.host.views import NODE_STATUS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0)


class Metrics:
    """What /metrics shows: counted here (requests) or read from the runtime at the moment of asking."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._registry = CollectorRegistry()
        self._registry.register(self)
        labels = ("method", "route")
        self._requests = Counter(
            "clawland_http_requests", "HTTP requests answered", (*labels, "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "clawland_http_request_duration_seconds",
            "Time to answer",
            labels,
            buckets=_SECONDS,
            registry=self._registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered."""
        method = method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing in advance: the registry need not collect to learn names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client for each scrape."""
        runtime = self._stage.runtime
        for name, total in runtime.counts.items():
            yield CounterMetricFamily(f"clawland_{name}", f"{name.replace('_', ' ')} since the start", total)
        events = CounterMetricFamily("clawland_events", "events of the fleet manager by kind", labels=["kind"])
        for kind, count in sorted(runtime.events.counts.items()):
            events.add_metric([kind], count)
        yield events
        hub, writer = runtime.hub, runtime.writer
        yield CounterMetricFamily("clawland_hub_messages_sent", "messages to gateways", hub.sent)
        yield CounterMetricFamily("clawland_hub_messages_dropped", "messages that could not be sent", hub.dropped)
        yield GaugeMetricFamily("clawland_hub_up", "1 while connected to the Event Hub", int(hub.up))
        yield GaugeMetricFamily("clawland_manager_leading", "1 while this manager leads", int(runtime.leads))
        epoch = 0 if runtime.term is None else runtime.term.epoch
        yield GaugeMetricFamily("clawland_manager_epoch", "of the leader; 0 where it leads alone or follows", epoch)
        yield GaugeMetricFamily("clawland_database_up", "1 while writes succeed", int(writer.failing is None))
        yield GaugeMetricFamily("clawland_cache_up", "1 while the cache of latest values works", int(runtime.latest.up))
        yield GaugeMetricFamily("clawland_transactions_waiting", "transactions queued", writer.waiting)
        yield self._members("nodes", runtime.core.node_views())
        yield self._members("gateways", runtime.core.gateway_views())

    def _members(self, name: str, views: list[dict[str, object]]) -> Metric:
        family = GaugeMetricFamily(f"clawland_{name}", f"{name} by status", labels=["status"])
        counts: dict[str, int] = {}
        for view in views:
            status = NODE_STATUS.get(str(view.get("state")), "unknown")
            counts[status] = counts.get(status, 0) + 1
        for status, count in sorted(counts.items()):
            family.add_metric([status], count)
        return family
