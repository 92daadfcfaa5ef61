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
    command_again_ms: int = 10_000
    poll_again_ms: int = 60_000
    """A command that an agent fetched and did not answer is handed out again."""
    alarm_ttl_ms: int = 300_000
    for_lag_ms: int = 65_000
    """How long readings may be on their way (a gateway's window and the transfer): `for` waits so long for one more."""
    notify_quiet_ms: int = 5_000
    """A message waits so long for others of its kind and severity, which then are one message together."""
    notify_gather_ms: int = 90_000
    """They go out at last when the first has waited so long: 500 nodes fall silent within a heartbeat interval."""
    notify_again_ms: int = 30_000
    """Before the second attempt; twice as long before each further one, up to `notify_most_ms`."""
    notify_most_ms: int = 3_600_000
    notify_attempts: int = 5
    kept_commands: int = 10_000
    """Finished commands and alerts that stay in memory; the database keeps them all."""
    tells_each_reading: bool = True
    """Each stored reading is an event of its own; otherwise those of a commit are one output, `Stored`."""
