"""What rules remember, on disk: since when a `for` holds, when each was last acted upon, what is known of the nodes.

Memory is in core time, the disk in UTC. So without UTC nothing is written, and what was kept waits until it is known.
While the gateway was down it heard nobody: silence counts from its start, unless it had been an alert before.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fleet.wire.terms import Key, Sample
from fleet.wire.watch import NO_NODE
from fleet.wire.watched import Since

if TYPE_CHECKING:
    from nanoclaw.core.decisions import Decisions
    from nanoclaw.core.gateway import GatewayCore

SLOT = "rules"


class RuleState:
    """Writes soon after what cannot be derived anew has changed, at most once in `commit_ms`, and with each window."""

    def __init__(self, core: "GatewayCore", decisions: "Decisions") -> None:
        self._core = core
        self._decisions = decisions
        self._kept: dict[str, Any] | None = None  # of before the restart, until UTC is known
        self.facts_changed = False
        self.due_ms: int | None = None

    def touch(self, now_ms: int) -> None:
        """Something is to be kept."""
        if self.due_ms is None:
            self.due_ms = now_ms + self._core.config.commit_ms

    def restore(self, kept: dict[str, Any] | None, now_ms: int) -> None:
        """What was kept before the gateway restarted."""
        self._kept = kept
        self.on_utc(now_ms)

    def on_utc(self, now_ms: int) -> None:
        """UTC is known: what was kept has a place in core time now; what came meanwhile is newer."""
        offset_ms, kept = self._core.utc_offset_ms, self._kept
        if offset_ms is None or kept is None:
            return
        self._kept = None
        decisions = self._decisions
        watch, rules = decisions.watch, decisions.rules
        for rule, node, utc_ms in kept["acted"]:
            if rule in rules:
                decisions.deeds.acted_ms.setdefault((rule, node), min(now_ms, utc_ms - offset_ms))
        for rule, subject, utc_ms, node, boot, seq in kept["since"]:
            if rule in rules and (rule, subject) not in watch.open:
                watch.since.setdefault((rule, subject), Since(min(now_ms, utc_ms - offset_ms), node, boot, seq))
        for rule, node, until_utc_ms in kept["held"]:
            if rule in rules:
                decisions.deeds.hold((rule, node), until_utc_ms - offset_ms)
        watch.learn(list(self._facts(kept["facts"], offset_ms, now_ms)), now_ms)

    def _facts(self, kept: list[Any], offset_ms: int, now_ms: int) -> Iterator[tuple[Key, Sample]]:
        """What was known; what is too old to raise an alert counts only as when it was last heard."""
        late_ms, open_about = self._core.config.late_ms, {node for _, node in self._decisions.watch.open}
        for node, metric, utc_ms, value, boot, seq in kept:
            if not self._decisions.serves(node) or self._is_newer(node, metric):
                continue
            at_ms = utc_ms - offset_ms
            heard_ms = min(at_ms, now_ms) if open_about & {node, NO_NODE} else now_ms
            yield (node, metric), Sample(heard_ms, value if now_ms - at_ms <= late_ms else None, boot, seq)

    def _is_newer(self, node: str, metric: str) -> bool:
        """Whether something has come since the start."""
        sample = self._decisions.watch.facts.latest.get((node, metric))
        return sample is not None and sample.at_ms >= self._core.start_ms

    def window_closed(self, now_ms: int) -> None:
        """Put the facts of now on the disk."""
        if self.facts_changed:
            self._write(now_ms)

    def on_timer(self, now_ms: int) -> None:
        """What was touched is written."""
        if self.due_ms is not None and now_ms >= self.due_ms:
            self._write(now_ms)

    def _write(self, now_ms: int) -> None:
        self.due_ms = None
        offset_ms = self._core.utc_offset_ms
        if offset_ms is None or self._kept is not None:
            return
        self.facts_changed = False
        watch, deeds = self._decisions.watch, self._decisions.deeds
        since = [[*subject, s.at_ms + offset_ms, s.node, s.boot, s.seq] for subject, s in watch.since.items()]
        facts = [[*key, s.at_ms + offset_ms, s.value, s.boot, s.seq] for key, s in watch.facts.latest.items()]
        acted = [[*subject, at_ms + offset_ms] for subject, at_ms in deeds.acted_ms.items()]
        held = [[*subject, until_ms + offset_ms] for subject, until_ms in deeds.holding.items()]
        self._core.stores.put(SLOT, {"since": since, "facts": facts, "acted": acted, "held": held})
