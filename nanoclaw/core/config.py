"""What a gateway is told before it runs; everything else comes from the fleet manager's snapshot."""

from dataclasses import dataclass
from typing import Literal

from nanoclaw.core.lines import LineConfig


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
    window_ms: int = 60_000
    """Readings of this time go to the cloud as one batch."""
    commit_ms: int = 5_000
    """Readings wait at most this long for the disk, and their node that much longer for `received`."""
    uplink_heartbeat_ms: int = 30_000
    offline_after_ms: int = 90_000
    down_after_intervals: int = 3
    """A node is down after so many of its announced intervals without a heartbeat."""
    outbox_max_readings: int = 200_000
    """Over two days of 50 nodes at one reading a minute; the oldest goes when full."""
    resend_ms: int = 30_000
    """A batch or report that the cloud has not acknowledged is sent again."""
    catchup_every_ms: int = 1_000
    catchup_readings: int = 500
    """The backlog goes up in batches of at most so many readings, one a second and one in flight."""
    late_ms: int = 90_000
    """Older readings are stored but decide nothing."""
