"""What Prometheus hears of the LoRa port: per concentrator, and frames that were rejected by reason."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

_P = "clawland_gateway_lora_"
_COUNTED = (
    ("packets", "packets", "frames that a concentrator has heard"),
    ("crc_failed", "crc_failed", "frames that it heard with a wrong checksum"),
    ("copies", "copies", "frames that another concentrator had heard before"),
    ("downlinks", "downlinks", "frames that it was given to send, and took"),
)


def lora_metrics(found: dict[str, Any]) -> Iterator[Metric]:
    """`found`: the view of the LoRa port."""
    each = found["concentrators"]
    for name, key, told in _COUNTED:
        family = CounterMetricFamily(_P + name, told, labels=["concentrator"])
        for one in each:
            family.add_metric([one["eui"]], one[key])
        yield family
    for name, key, told in (
        ("silent_seconds", "silent_ms", "since a concentrator said anything"),
        ("airtime_seconds", "airtime_ms", "how long it has transmitted in the last hour"),
    ):
        gauge = GaugeMetricFamily(_P + name, told, labels=["concentrator"])
        for one in each:
            gauge.add_metric([one["eui"]], one[key] / 1000)
        yield gauge
    errors = CounterMetricFamily(_P + "tx_errors", "frames that it did not send", labels=["concentrator", "error"])
    for one in each:
        for error, count in sorted(one["tx_errors"].items()):
            errors.add_metric([one["eui"], error], count)
    yield errors
    yield CounterMetricFamily(_P + "frames_foreign", "frames of nobody here, LoRaWAN's for instance", found["foreign"])
    yield _by_reason("rejected", "datagrams and frames that could not be taken", found["rejected"])
    yield _by_reason("windows_missed", "receive windows in which a node got no answer", found["missed"])


def _by_reason(name: str, told: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(_P + name, told, labels=["reason"])
    for reason, count in sorted(counts.items()):
        family.add_metric([reason], count)
    return family
