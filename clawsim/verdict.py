"""The outcome of a run: one word, the reasons for it, and everything that the summary says."""

from dataclasses import dataclass, field
from typing import Any

from clawsim.airbook import ALLOWED_US, AirUse
from clawsim.expect import FAIL, INVALID, PASS, Judgement
from clawsim.ledger import Account

LAGGED = "LAGGED"
EXIT_CODES = {PASS: 0, FAIL: 1, INVALID: 4, LAGGED: 5}
"""0 pass, 1 an expectation failed, 4 the run proves nothing, 5 it could not keep up with its clock."""
MOST_LAG_MS = 5_000


@dataclass
class Outcome:
    """A finished run."""

    scenario: str
    world: str
    seed: int
    simulated_s: float
    wall_s: float
    account: Account
    judgements: list[Judgement]
    events_sha256: str | None
    without_effect: list[str] = field(default_factory=list)
    """Faults that had no effect."""
    impossible: list[str] = field(default_factory=list)
    """What this world could not do."""
    failures: list[str] = field(default_factory=list)
    """What broke the run off, such as a process that died unasked: it fails, whatever else it could not show."""
    remarks: list[str] = field(default_factory=list)
    """What is worth knowing and speaks neither for nor against."""
    lag_p99_ms: int | None = None
    """How late timers were, in simulated milliseconds; None where the world has no clock to lag behind."""
    trip_lag_ms: int | None = None
    """By how much messages took longer than their links, the median; None where none was timed."""
    messages: int = 0
    air: dict[str, AirUse] = field(default_factory=dict)
    """Of nodes on the radio, what they used of the air."""

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """(verdict, why) for all that speaks against a pass."""
        found = [(FAIL, what) for what in self.failures]
        found += [(INVALID, f"fault {name} had no effect") for name in self.without_effect]
        found += [(INVALID, what) for what in self.impossible]
        found += [(INVALID, f"{j.name}: {j.seen}") for j in self.judgements if j.verdict == INVALID]
        found += [(LAGGED, what) for what in self._lags()]
        found += [(FAIL, f"{j.name}: {j.seen}") for j in self.judgements if j.verdict == FAIL]
        found += [(FAIL, reason) for reason in _unlawful(self.air)]
        found += [(FAIL, reason) for reason in _imbalance(self.account, settled=not self.failures)]
        return found

    def _lags(self) -> list[str]:
        """In what the machine could not follow the run's clock."""
        found = (("p99 lag of timers", self.lag_p99_ms), ("median lag of messages", self.trip_lag_ms))
        limit_s = MOST_LAG_MS // 1000
        return [
            f"{what} {lag_ms / 1000:.1f} simulated seconds, over {limit_s}: take a smaller --timescale"
            for what, lag_ms in found
            if lag_ms is not None and lag_ms > MOST_LAG_MS
        ]

    @property
    def verdict(self) -> str:
        """PASS, or the worst that speaks against it: FAIL when it broke off, else INVALID, then LAGGED, then FAIL."""
        if self.failures:
            return FAIL
        verdicts = {verdict for verdict, _ in self.reasons}
        return next((verdict for verdict in (INVALID, LAGGED, FAIL) if verdict in verdicts), PASS)

    @property
    def exit_code(self) -> int:
        """See `EXIT_CODES`."""
        return EXIT_CODES[self.verdict]

    def as_json(self) -> dict[str, Any]:
        """`summary.json`."""
        return {
            "scenario": self.scenario,
            "world": self.world,
            "seed": self.seed,
            "verdict": self.verdict,
            "reasons": [why for _, why in self.reasons],
            "simulated_s": self.simulated_s,
            "wall_s": round(self.wall_s, 3),
            "messages": self.messages,
            "lag_p99_ms": self.lag_p99_ms,
            "trip_lag_ms": self.trip_lag_ms,
            "remarks": self.remarks,
            "readings": self.account.as_json(),
            "expectations": [{"name": j.name, "verdict": j.verdict, "seen": j.seen} for j in self.judgements],
            "events_sha256": self.events_sha256,
            **({"air": {node: use.as_json() for node, use in sorted(self.air.items())}} if self.air else {}),
        }


def _unlawful(air: dict[str, AirUse]) -> list[str]:
    return [
        f"{node} was on the air for {use.duty_percent} % of an hour, more than its duty cycle of 1 %"
        for node, use in sorted(air.items())
        if use.worst_hour_us > ALLOWED_US
    ]


def _imbalance(account: Account, settled: bool) -> list[str]:
    """`settled`: whether there was time for everybody to clear what is delivered."""
    texts = {
        "unaccounted": "nobody can say what became of",
        "phantom": "stored, never produced:",
        "duplicated": "stored twice:",
        "reused": "one identity for two readings:",
    }
    reasons = [
        f"{count} readings lie at {where} though they were delivered: not cleared in the settling time"
        for where, count in sorted(account.uncleared.items())
        if settled
    ]
    for fate, text in texts.items():
        count = account.of(fate)
        if count:
            examples = ", ".join(account.examples.get(fate, [])[:3])
            reasons.append(f"{count} readings {fate}: {text} {examples}")
    return reasons
