"""What rules remember, on disk: since when a `for` holds, when each was last acted upon, what is known of the nodes.

Memory is in core time, the disk in UTC or, without it, in uptime (see `moments`). What was kept in UTC has an assumed
place until UTC is known, and is corrected then. While the gateway was down it heard nobody: silence counts from its
start, unless it had been an alert before.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fleet.wire.terms import Key, Sample
from fleet.wire.watch import NO_NODE
from fleet.wire.watched import Since
from nanoclaw.core.moments import LIFE, offsets, stamped

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
        self._assumed_ms: int | None = None  # what was taken from its times meanwhile
        self._by_life = False  # what is on disk is not in UTC
        self.facts_changed = False
        self.due_ms: int | None = None

    def touch(self, now_ms: int) -> None:
        """Something is to be kept."""
        if self.due_ms is None:
            self.due_ms = now_ms + self._core.config.commit_ms

    def restore(self, kept: dict[str, Any] | None, now_ms: int) -> None:
        """What was kept before the gateway restarted."""
        if kept is None:
            return
        offset_ms, self._assumed_ms = offsets(self._core, kept, now_ms)
        if LIFE not in kept and self._core.utc_offset_ms is None:
            self._kept = kept
        if offset_ms is not None:
            self._place(kept, offset_ms, now_ms)

    def on_utc(self, now_ms: int) -> None:
        """UTC is known: what was kept has a place in core time now; what came meanwhile is newer."""
        if self._by_life:
            self.touch(now_ms)
        kept, self._kept = self._kept, None
        offset_ms, assumed_ms = self._core.utc_offset_ms, self._assumed_ms
        if kept is None or offset_ms is None:
            return
        if assumed_ms is None:
            self._place(kept, offset_ms, now_ms)
        else:
            self._correct(kept, assumed_ms, offset_ms, now_ms)

    def _place(self, kept: dict[str, Any], offset_ms: int, now_ms: int) -> None:
        """Take over what was kept, wherever nothing newer is known."""
        decisions = self._decisions
        watch, rules = decisions.watch, decisions.rules
        for rule, node, at_ms in kept["acted"]:
            if rule in rules:
                decisions.deeds.acted_ms.setdefault((rule, node), min(now_ms, at_ms - offset_ms))
        for rule, subject, at_ms, node, boot, seq in kept["since"]:
            if rule in rules and (rule, subject) not in watch.open:
                watch.since.setdefault((rule, subject), Since(min(now_ms, at_ms - offset_ms), node, boot, seq))
        for rule, node, until_ms in kept["held"]:
            if rule in rules:
                decisions.deeds.hold((rule, node), until_ms - offset_ms)
        watch.learn(list(self._facts(kept["facts"], offset_ms, now_ms)), now_ms)

    def _correct(self, kept: dict[str, Any], assumed_ms: int, offset_ms: int, now_ms: int) -> None:
        """Move to their true places those that nothing has changed since they were assumed."""
        deeds, since = self._decisions.deeds, self._decisions.watch.since
        for rule, node, at_ms in kept["acted"]:
            subject = (rule, node)
            if deeds.acted_ms.get(subject) == at_ms - assumed_ms:
                deeds.acted_ms[subject] = min(now_ms, at_ms - offset_ms)
                if subject in deeds.holding:  # until the end of that very cooldown
                    deeds.hold(subject, deeds.holding[subject] + assumed_ms - offset_ms)
        for rule, subject, at_ms, *reading in kept["since"]:
            if since.get((rule, subject)) == Since(at_ms - assumed_ms, *reading):
                since[rule, subject] = Since(min(now_ms, at_ms - offset_ms), *reading)
                self._decisions.watch.wakes.set((rule, subject), now_ms)
        self.touch(now_ms)

    def _facts(self, kept: list[Any], offset_ms: int, now_ms: int) -> Iterator[tuple[Key, Sample]]:
        """What was known; what is, or may be, too old to raise an alert counts only as when it was last heard."""
        late_ms, sure = self._core.config.late_ms, self._assumed_ms is None
        open_about = {node for _, node in self._decisions.watch.open}
        for node, metric, kept_ms, value, boot, seq in kept:
            if not self._decisions.serves(node) or self._is_newer(node, metric):
                continue
            at_ms = kept_ms - offset_ms
            heard_ms = min(at_ms, now_ms) if open_about & {node, NO_NODE} else now_ms
            fresh = sure and now_ms - at_ms <= late_ms
            yield (node, metric), Sample(heard_ms, value if fresh else None, boot, seq)

    def _is_newer(self, node: str, metric: str) -> bool:
        """Whether something has come since the start."""
        sample = self._decisions.watch.facts.latest.get((node, metric))
        return sample is not None and sample.at_ms >= self._core.start_ms

    def window_closed(self, now_ms: int) -> None:
        """Put the facts of now on the disk, and how old by now is what lasts for a time."""
        if self.facts_changed or self._decisions.watch.since or self._decisions.deeds.is_cooling(now_ms):
            self._write(now_ms)

    def on_timer(self, now_ms: int) -> None:
        """What was touched is written."""
        if self.due_ms is not None and now_ms >= self.due_ms:
            self._write(now_ms)

    def _write(self, now_ms: int) -> None:
        self.due_ms = None
        if self._kept is not None and self._assumed_ms is None:
            return  # it still waits for its place
        self.facts_changed = False
        stamp, add_ms = stamped(self._core, now_ms)
        self._by_life = LIFE in stamp
        watch, deeds = self._decisions.watch, self._decisions.deeds
        since = [[*subject, s.at_ms + add_ms, s.node, s.boot, s.seq] for subject, s in watch.since.items()]
        facts = [[*key, s.at_ms + add_ms, s.value, s.boot, s.seq] for key, s in watch.facts.latest.items()]
        acted = [[*subject, at_ms + add_ms] for subject, at_ms in deeds.acted_ms.items()]
        held = [[*subject, until_ms + add_ms] for subject, until_ms in deeds.holding.items()]
        self._core.stores.put(SLOT, {**stamp, "since": since, "facts": facts, "acted": acted, "held": held})
