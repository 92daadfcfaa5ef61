"""What a gateway is told before it runs; everything else comes from the fleet manager's snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nanoclaw.core.lines import LineConfig
from nanoclaw.core.lora.config import LoraConfig


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Identity, key and timings of one gateway; the timings are those of the design unless said otherwise."""

    id: str
    key: bytes
    """32 bytes, shared with the fleet manager."""
    fleet_id: str = "clawland"
    site: str = "site-01"
    role: Literal["primary", "secondary"] = "primary"
    lines: tuple[LineConfig, ...] = (LineConfig("uplink"),)
    """The ways to the cloud, the best first, by different names."""
    lora: LoraConfig | None = None
    """Of a gateway with concentrators."""
    window_ms: int = 60_000
    """Readings of this time go to the cloud as one batch."""
    commit_ms: int = 5_000
    """Readings wait at most this long for the disk, and their node that much longer for `received`."""
    commit_readings: int = 1_000
    """So many go at once: a node that empties its backlog brings more in five seconds than may wait here."""
    uplink_heartbeat_ms: int = 30_000
    offline_after_ms: int = 90_000
    down_after_intervals: int = 3
    """A node is down after so many of its announced intervals without a heartbeat."""
    flap_downs: int = 3
    """A node that was down so often within `flap_window_ms` is unsteady..."""
    flap_window_ms: int = 3_600_000
    flap_hold_ms: int = 600_000
    """... and up again only when it was heard for so long without a break."""
    outbox_max_readings: int = 200_000
    """Over two days of 50 nodes at one reading a minute; the oldest goes when full."""
    outbox_max_bytes: int = 67_108_864
    """Of readings, as they are written: 200,000 of 150 bytes are half of it."""
    outbox_max_age_ms: int = 1_209_600_000
    """Two weeks; what was read before then goes, too."""
    resend_ms: int = 30_000
    """A batch or report that the cloud has not acknowledged is sent again."""
    catchup_every_ms: int = 1_000
    catchup_readings: int = 500
    """The backlog goes up in batches of at most so many readings, one a second and one in flight."""
    late_ms: int = 90_000
    """Older readings are stored but decide nothing."""
    for_lag_ms: int = 5_000
    """Where no reading confirms that a condition held for as long as its rule wants, it is believed so much later."""
    failback: Literal["never", "idle", "after"] = "never"
    """When nodes that fled here go back to their home (`nanoclaw.core.failback`)."""
    failback_after_ms: int = 600_000
    failback_hold_ms: int = 300_000
    """A home that is up again counts only after so long without a break."""
    modes: Mapping[str, str] = field(default_factory=dict)
    """By metric what goes up, for metered uplinks (`nanoclaw.core.reduction`); raw where nothing is said."""
    unchanged_ms: int = 900_000
    """A metric of mode on_change goes up so often though it does not change."""
