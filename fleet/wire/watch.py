"""Rules that need more than a comparison: evaluated with every reading that they are about, and when time is up.

`for` holds by the times of the readings: a condition that was true from one reading to another, `for` later. Where no
reading follows, the silence is taken for a yes after `for_lag_ms` more: in the cloud a window and the way up.

A fleet manager evaluates them for its whole fleet, a gateway for the nodes that it serves.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

from firmware.wire.rules import episode_id
from fleet.wire.condition import FLEET
from fleet.wire.terms import Facts, InScope, Key, Sample, Scoped, Undo
from fleet.wire.uplink import Message
from fleet.wire.wakes import Wakes
from fleet.wire.watched import Change, Moment, Since, Watched

AGAIN_MS = 5_000
NO_NODE = ""  # the subject of a rule that is about no single node
Subject = tuple[str, str]
"""Rule and node."""


class Changes(Protocol):
    """What a look at the rules changes: rows to be written, and how to undo it if they cannot be."""

    undo: list[Undo]
    writes: list[Any]

    def upsert(self, table: str, row: Message) -> None:
        """Write a row as it is now."""


class Watch:
    """The state of all such rules: what they know, what is open, what is on its way to be."""

    def __init__(self, scope_of: InScope, for_lag_ms: int, knows: Callable[[str], bool]) -> None:
        self._in_scope, self._for_lag_ms, self._knows = scope_of, for_lag_ms, knows
        self.facts = Facts(scope_of)
        self.metrics: frozenset[str] = frozenset()
        self.open: dict[Subject, str] = {}
        self.since: dict[Subject, Since] = {}
        self.settles_ms: dict[Subject, int] = {}
        """Until when an episode that somebody else began does not end: what was seen there is on its way."""
        self.wakes: Wakes[Subject] = Wakes()
        self.utc_offset_ms = 0  # rows are in UTC, everything here in core time
        self._rules: dict[str, Watched] = {}
        self._by_metric: dict[str, list[Watched]] = {}

    def set_rules(self, rules: Iterable[Message]) -> list[Subject]:
        """Evaluate these from now on, once `learn` has said what is known; whose `for` begins anew."""
        self.facts = Facts(self._in_scope)
        before, self._rules = self._rules, {rule["name"]: Watched(rule, self.facts) for rule in rules}
        self._by_metric = {}
        for watched in self._rules.values():
            for metric in watched.metrics:
                self._by_metric.setdefault(metric, []).append(watched)
        self.metrics = frozenset(self._by_metric)
        kept = {name for name, old in before.items() if name in self._rules and self._rules[name].rule == old.rule}
        stale = [subject for subject in self.since if subject[0] not in kept]
        for subject in stale:
            del self.since[subject]
        return stale

    def restore(self, rows: Iterable[Message]) -> None:
        """What was on its way when the manager ended: rows of `pending`."""
        for row in rows:
            doc = row["doc"]
            since = Since(doc["since_utc_ms"] - self.utc_offset_ms, doc["node"], doc["boot"], doc["seq"])
            if doc["rule"] in self._rules:
                self.since[doc["rule"], doc["subject"]] = since

    def settle(self, subject: Subject, now_ms: int, undo: list[Undo]) -> None:
        """The episode was begun by somebody else, who saw more than has arrived here."""
        undo.append(partial(_put_back, self.settles_ms, subject, self.settles_ms.get(subject)))
        self.settles_ms[subject] = now_ms + self._for_lag_ms
        self.wakes.set(subject, self.settles_ms[subject])

    def learn(self, samples: Iterable[tuple[Key, Sample]], now_ms: int) -> None:
        """What was known before the rules were: nothing begins or ends now, but it is looked at on the next timer."""
        nodes = set()
        for key, sample in samples:
            if key[1] in self.metrics:
                self.facts.take(key, sample, [])
                nodes.add(key[0])
        for watched in self._rules.values():
            for node in nodes:
                self._refresh(watched.scopes, node, now_ms)
                self.wakes.set((watched.name, node), now_ms)
            if not watched.per_node:
                self.wakes.set((watched.name, NO_NODE), now_ms)

    def regroup(self, nodes: Iterable[str], now_ms: int) -> None:
        """These nodes are in other scopes than before, or in none: whoever looks at a scope does so anew."""
        moved = list(nodes)
        for watched in self._rules.values():
            for node in moved if watched.scopes else ():
                self._refresh(watched.scopes, node, now_ms)
                self.wakes.set((watched.name, node), now_ms)
            for subject in self._lookers(watched) if watched.scopes else ():
                self.wakes.set((watched.name, subject), now_ms)

    def end_waits(self, node: str, tx: Changes) -> None:
        """The node is no more: nothing about it is on its way to be."""
        for subject in [subject for subject in self.since if subject[1] == node]:
            self._set_since(subject, None, tx)

    def forget(self, node: str, now_ms: int) -> None:
        """The node is somebody else's now: nothing is known of it, and what is open about it ends without a word."""
        for key in [key for key in self.facts.latest if key[0] == node]:
            del self.facts.latest[key]
            self.facts.history.pop(key, None)
        for name, watched in self._rules.items():
            self.open.pop((name, node), None)
            self.since.pop((name, node), None)
            self._refresh(watched.scopes, node, now_ms)
            if not watched.per_node:
                self.wakes.set((name, NO_NODE), now_ms)

    def on_sample(self, key: Key, sample: Sample, now_ms: int, tx: Changes) -> list[Change]:
        """A newer reading of a metric that is watched."""
        moment = Moment(key[0], sample, sample.at_ms, now_ms, True)
        found: list[Change] = []
        concerned = self._by_metric.get(key[1], ())
        for watched in concerned:  # undone last, when the sample is gone again
            tx.undo.append(partial(self._refresh, watched.scopes, key[0], now_ms))
        self.facts.take(key, sample, tx.undo)
        for watched in concerned:
            found += self._look(watched, moment, tx)
        return found

    def on_timer(self, now_ms: int, tx: Changes) -> list[Change]:
        """Time is up for some."""
        found: list[Change] = []
        for name, node in self.wakes.take(now_ms):
            watched = self._rules.get(name)
            if watched is not None and (node == NO_NODE or self._in_scope(FLEET, node)):
                sample = next(iter(self._samples(watched, node)), Sample(now_ms, None, 0, 0))
                found += self._look(watched, Moment(node, sample, now_ms, now_ms, False), tx)
        return found

    def _look(self, watched: Watched, moment: Moment, tx: Changes) -> Iterator[Change]:
        """Judge the rule for everybody whom the moment concerns."""
        # Undone, all of them are looked at again: what a timer could not commit, not before the database had a rest.
        again_ms = moment.now_ms + (0 if moment.sampled else AGAIN_MS)
        for subject in self._subjects(watched, moment):
            tx.undo.append(partial(self.wakes.set, (watched.name, subject), again_ms))
            change = self._step(watched, subject, moment, tx)
            if change is not None:
                yield change
            self._arm(watched, subject, moment.now_ms)
        if not watched.per_node and moment.node != NO_NODE:
            tx.undo.append(partial(self.wakes.set, (watched.name, moment.node), again_ms))
            self._arm(watched, moment.node, moment.now_ms)

    def _subjects(self, watched: Watched, moment: Moment) -> Iterable[str]:
        """The node itself; no node, for a rule about scopes; all nodes, when a scope that they look at has turned."""
        if not watched.per_node:
            self._refresh(watched.scopes, moment.node, moment.now_ms)
            return (NO_NODE,)
        if not watched.scopes:
            return (moment.node,)
        before = [scope.judge(moment.node, moment.now_ms) for scope in watched.scopes]
        self._refresh(watched.scopes, moment.node, moment.now_ms)
        if before == [scope.judge(moment.node, moment.now_ms) for scope in watched.scopes]:
            return (moment.node,)
        return sorted(self._lookers(watched) | {moment.node})

    def _lookers(self, watched: Watched) -> set[str]:
        """Who is judged by what a scope does: no node, or all that have measured what the rule asks of them."""
        if not watched.per_node:
            return {NO_NODE}
        return {node for node, metric in self.facts.latest if metric in watched.own_metrics}

    def _step(self, watched: Watched, node: str, moment: Moment, tx: Changes) -> Change | None:
        subject = (watched.name, node)
        episode = self.open.get(subject)
        if episode is not None:
            if moment.now_ms < self.settles_ms.get(subject, 0) or not watched.ended(node, moment.now_ms):
                return None
            self.settles_ms.pop(subject, None)
            del self.open[subject]
            tx.undo.append(partial(self.open.__setitem__, subject, episode))
            return self._change(watched, episode, False, node, moment)
        since = self._held_since(watched, subject, moment, tx)
        if since is None:
            return None
        until_ms = since.at_ms + watched.for_ms
        told_so = moment.sampled and moment.at_ms >= until_ms
        if watched.for_ms and not told_so and moment.now_ms < until_ms + self._for_lag_ms:
            return None
        self._set_since(subject, None, tx)
        episode = self._name(watched.name, since)
        self.open[subject] = episode
        tx.undo.append(partial(_put_back, self.open, subject, None))
        return self._change(watched, episode, True, node, moment)

    def _held_since(self, watched: Watched, subject: Subject, moment: Moment, tx: Changes) -> Since | None:
        """Since when the condition holds; None when it does not."""
        judged, since = watched.when.judge(subject[1], moment.now_ms), self.since.get(subject)
        if judged is None:
            return None
        if not judged:
            if since is not None:
                self._set_since(subject, None, tx)
            return None
        if since is None:
            since = Since(moment.at_ms, moment.node, moment.sample.boot, moment.sample.seq)
            if watched.for_ms:
                self._set_since(subject, since, tx)
        return since

    def _set_since(self, subject: Subject, since: Since | None, tx: Changes) -> None:
        before = self.since.pop(subject, None)
        if since is not None:
            self.since[subject] = since
        if before is since:
            return
        tx.undo.append(partial(_put_back, self.since, subject, before))
        name = row_id(subject)
        if since is None:
            tx.writes.append(("delete", "pending", name))
        else:
            doc = {"rule": subject[0], "subject": subject[1], "node": since.node, "boot": since.boot, "seq": since.seq}
            tx.upsert("pending", {"id": name, "doc": doc | {"since_utc_ms": since.at_ms + self.utc_offset_ms}})

    def _name(self, rule: str, since: Since) -> str:
        """The episode's id; time alone may raise one again on the same reading, so that it is told apart."""
        name = first = episode_id(rule, since.node, since.boot, since.seq)
        number = 1
        while self._knows(name):
            number += 1
            name = f"{first}:{number}"
        return name

    def _change(self, watched: Watched, episode: str, raised: bool, node: str, moment: Moment) -> Change:
        value = watched.told.measure(node, moment.now_ms)
        return Change(watched.rule, episode, raised, node, value, moment.at_ms)

    def _refresh(self, scopes: Iterable[Scoped], node: str, now_ms: int) -> None:
        for scope in scopes:
            scope.refresh(node, now_ms)

    def _samples(self, watched: Watched, node: str) -> Iterator[Sample]:
        """The node's samples that the rule is about, the latest first."""
        found = [self.facts.latest.get((node, metric)) for metric in watched.metrics]
        return iter(sorted((one for one in found if one is not None), key=lambda one: one.at_ms, reverse=True))

    def _arm(self, watched: Watched, node: str, now_ms: int) -> None:
        """When silence of this node, or `for`, may change the judgement next."""
        samples = [(self.facts.latest.get((node, absence.metric)), absence) for absence in watched.absences]
        due_ms = [sample.at_ms + absence.span_ms for sample, absence in samples if sample is not None]
        if (watched.name, node) in self.settles_ms:
            due_ms.append(self.settles_ms[watched.name, node])
        since = self.since.get((watched.name, node))
        if since is not None:
            due_ms.append(since.at_ms + watched.for_ms + self._for_lag_ms)
        self.wakes.set((watched.name, node), min((at_ms for at_ms in due_ms if at_ms > now_ms), default=None))


def row_id(subject: Subject) -> str:
    """The key of a `pending` row."""
    return f"{subject[0]}/{subject[1]}"


def _put_back(table: dict[Any, Any], key: object, value: object) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
