"""The outcome of a run: one word, the reasons for it, and everything that the summary says."""

from dataclasses import dataclass, field
from typing import Any

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
    """What went wrong in the world itself, such as a process that died unasked."""
    lag_p99_ms: int | None = None
    """How late timers were, in simulated milliseconds; None where the world has no clock to lag behind."""
    messages: int = 0

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """(verdict, why) for all that speaks against a pass."""
        found = [(INVALID, f"fault {name} had no effect") for name in self.without_effect]
        found += [(INVALID, what) for what in self.impossible]
        found += [(INVALID, f"{j.name}: {j.seen}") for j in self.judgements if j.verdict == INVALID]
        if self.lag_p99_ms is not None and self.lag_p99_ms > MOST_LAG_MS:
            found.append(
                (LAGGED, f"p99 lag {self.lag_p99_ms / 1000:.1f} simulated seconds, over {MOST_LAG_MS // 1000}")
            )
        found += [(FAIL, f"{j.name}: {j.seen}") for j in self.judgements if j.verdict == FAIL]
        found += [(FAIL, what) for what in self.failures]
        if not self.account.balanced:
            found += [(FAIL, reason) for reason in _imbalance(self.account)]
        return found

    @property
    def verdict(self) -> str:
        """PASS, or the worst that speaks against it: INVALID, then LAGGED, then FAIL."""
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
            "readings": self.account.as_json(),
            "expectations": [{"name": j.name, "verdict": j.verdict, "seen": j.seen} for j in self.judgements],
            "events_sha256": self.events_sha256,
        }


def _imbalance(account: Account) -> list[str]:
    texts = {
        "unaccounted": "nobody can say what became of",
        "phantom": "stored, never produced:",
        "duplicated": "stored twice:",
        "reused": "one identity for two readings:",
    }
    reasons = [
        f"{count} readings lie at {where} though they were delivered: not cleared in the settling time"
        for where, count in sorted(account.uncleared.items())
    ]
    for fate, text in texts.items():
        count = account.of(fate)
        if count:
            examples = ", ".join(account.examples.get(fate, [])[:3])
            reasons.append(f"{count} readings {fate}: {text} {examples}")
    return reasons
