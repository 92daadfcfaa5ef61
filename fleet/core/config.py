"""What a fleet manager is told before it runs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """Identity and timings; the timings are those of the design unless said otherwise."""

    fleet_id: str = "clawland"
    gateway_down_ms: int = 180_000
    """A gateway that is silent longer is down; at that very millisecond it is still in time."""
    late_ms: int = 180_000
    """Older readings are stored but raise nothing and are never the latest value."""
    command_ttl_ms: int = 300_000
    command_again_ms: int = 10_000
    poll_again_ms: int = 60_000
    """A command that an agent fetched and did not answer is handed out again."""
    alarm_ttl_ms: int = 300_000
    notify_again_ms: int = 60_000
    notify_attempts: int = 5
    kept_commands: int = 10_000
    """Finished commands and alerts that stay in memory; the database keeps them all."""
