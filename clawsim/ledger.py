"""The ledger: what became of every reading, each term from its own evidence.

produced: the nodes' events. delivered: rows of the fleet manager's database. buffered: what lies on flash and disks at
the end. summarised, suppressed: the word of the gateway that was configured to. lost: the event of the core that
dropped it. A reading that has several fates counts as the best of them, in this order. What has none is unaccounted; a
row that nobody produced is a phantom.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from clawsim.trace import EventLog, TraceEvent
from fleet.wire.ranges import SeqRanges

Identity = tuple[str, int, int]
Boot = tuple[str, int]
"""A node and the number of one of its boots."""
MOST_NAMED = 20
CONFIGURED = ("summarised", "suppressed")
"""Fates that a gateway was configured to give, best first."""


@dataclass
class Account:
    """The readings of a run by what became of them."""

    produced: int = 0
    delivered: int = 0
    duplicated: int = 0
    redelivered: int = 0
    conflict: int = 0
    unaccounted: int = 0
    phantom: int = 0
    summarised: int = 0
    """Readings that went up as a part of a summary only, by configuration."""
    suppressed: int = 0
    """Readings that did not go up because they said nothing new, by configuration."""
    reused: int = 0
    """Identities that were given to a second reading."""
    lost: Counter[str] = field(default_factory=Counter)
    buffered: Counter[str] = field(default_factory=Counter)
    uncleared: Counter[str] = field(default_factory=Counter)
    """Readings that were delivered and lie somewhere all the same after the settling time."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """A few identities of readings that are unaccounted, phantoms or stored twice, as `node/boot/seq`."""

    @property
    def balanced(self) -> bool:
        """Whether every reading is accounted for, and none came from nowhere or twice."""
        return not (self.unaccounted or self.phantom or self.duplicated or self.reused or self.uncleared)

    def of(self, fate: str, cause: str | None = None) -> int:
        """How many readings met `fate`, all or those of one cause (or place)."""
        found = getattr(self, fate)
        if isinstance(found, Counter):
            return sum(count for what, count in found.items() if cause in (None, what, what.partition(" at ")[0]))
        return int(found)

    def as_json(self) -> dict[str, Any]:
        """For `summary.json`."""
        known = ("produced", "delivered", "duplicated", "redelivered", "conflict", "unaccounted", "phantom")
        counts: dict[str, Any] = {name: getattr(self, name) for name in (*known, *CONFIGURED)}
        return counts | {"lost": dict(sorted(self.lost.items())), "buffered": dict(sorted(self.buffered.items()))}


class Ledger:
    """Listens to a run's events, and closes the account at its end."""

    def __init__(self, log: EventLog) -> None:
        self._produced: dict[Boot, SeqRanges] = {}
        self._lost: dict[Identity, str] = {}
        self._reused: list[Identity] = []
        self._configured: dict[str, list[Identity]] = {fate: [] for fate in CONFIGURED}
        self.produced = 0
        self._counts = log.counts
        log.listen(self._on_produced, "reading.produced")
        log.listen(self._on_lost, "reading.lost")
        for fate in CONFIGURED:
            log.listen(self._on_configured, f"reading.{fate}")

    @property
    def stored(self) -> int:
        """How many readings the fleet manager said that it stored, so far."""
        return self._counts["reading.stored"]

    def close(self, delivered: Iterable[Identity], buffered: Iterable[tuple[Identity, str]]) -> Account:
        """The account, given the rows that were read back and what still lies where."""
        counts = self._counts
        account = Account(produced=self.produced, redelivered=counts["reading.redelivered"])
        account.conflict = counts["reading.conflict"]
        account.reused = len(self._reused)
        for identity in self._reused[:MOST_NAMED]:
            _name(account, "reused", "/".join(map(str, identity)))
        taken = _by_boot(account, delivered)
        remaining = {key: ranges.without(taken.get(key, ())) for key, ranges in self._produced.items()}
        for key, stored in taken.items():
            self._deliver(account, key, stored)
        for identity, where in buffered:
            node, boot, seq = identity
            if _take(remaining, identity):
                account.buffered[where] += 1
            elif seq in taken.get((node, boot), ()):
                account.uncleared[where] += 1
        for fate, identities in self._configured.items():
            setattr(account, fate, sum(_take(remaining, identity) for identity in identities))
        for identity, cause in self._lost.items():
            if _take(remaining, identity):
                account.lost[cause] += 1
        account.unaccounted = sum(len(ranges) for ranges in remaining.values())
        for key, ranges in remaining.items():
            _name_ranges(account, "unaccounted", key, ranges)
        return account

    def _deliver(self, account: Account, key: Boot, stored: SeqRanges) -> None:
        phantoms = stored.without(self._produced.get(key, ()))
        account.delivered += len(stored) - len(phantoms)
        account.phantom += len(phantoms)
        _name_ranges(account, "phantom", key, phantoms)

    def _on_produced(self, event: TraceEvent) -> None:
        fields = event.fields
        key = (event.who, fields["boot"])
        of_boot = self._produced.get(key)
        if of_boot is None:
            of_boot = self._produced[key] = SeqRanges()
        if of_boot.add(fields["seq"]):
            self.produced += 1
        else:
            self._reused.append((event.who, fields["boot"], fields["seq"]))

    def _on_lost(self, event: TraceEvent) -> None:
        fields = event.fields
        identity = (fields.get("node", event.who), fields["boot"], fields["seq"])
        self._lost[identity] = f"{fields['cause']} at {event.who}"

    def _on_configured(self, event: TraceEvent) -> None:
        fields = event.fields
        self._configured[event.kind.partition(".")[2]].append((fields["node"], fields["boot"], fields["seq"]))


def _by_boot(account: Account, delivered: Iterable[Identity]) -> dict[Boot, SeqRanges]:
    """What was read back, by boot; what was there twice is named."""
    seqs: dict[Boot, list[int]] = {}
    for node, boot, seq in delivered:
        seqs.setdefault((node, boot), []).append(seq)
    found: dict[Boot, SeqRanges] = {}
    for key, of_boot in seqs.items():
        of_boot.sort()
        ranges = found[key] = SeqRanges()
        for seq in of_boot:
            if not ranges.add(seq):
                account.duplicated += 1
                _name(account, "duplicated", f"{key[0]}/{key[1]}/{seq}")
    return found


def _take(remaining: dict[tuple[str, int], SeqRanges], identity: Identity) -> bool:
    node, boot, seq = identity
    ranges = remaining.get((node, boot))
    if ranges is None or seq not in ranges:
        return False
    ranges.discard(seq)
    return True


def _name_ranges(account: Account, fate: str, key: Boot, ranges: SeqRanges) -> None:
    for first, last in ranges:
        _name(account, fate, f"{key[0]}/{key[1]}/{first}" + (f"-{last}" if last > first else ""))


def _name(account: Account, fate: str, identity: str) -> None:
    examples = account.examples.setdefault(fate, [])
    if len(examples) < MOST_NAMED:
        examples.append(identity)
