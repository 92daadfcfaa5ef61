"""The one virtual host that pumps every core: performs its outputs in order and keeps one timer.

A host that is frozen (SIGSTOP) keeps what arrives and does nothing; one that is dead does nothing, ever.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from clawsim.trace import EventLog
from clawsim.virtual.clock import Clock
from firmware.wire.outputs import Event, Store

MOST_HELD = 10_000
MOST_SPINS = 1_000


class Core(Protocol):
    """The four verbs of every core that the host needs."""

    def receive(self, port: str, name: str, payload: bytes, now_ms: int) -> None: ...

    def on_timer(self, now_ms: int) -> None: ...

    def next_deadline(self) -> int | None: ...

    def take_outputs(self) -> list[Any]: ...


Perform = Callable[[Any], None]


class SpinningCore(RuntimeError):
    """A core asks for a timer that is due, again and again, and does nothing with it."""


class VirtualHost:
    """Pumps one core from its start to its end; a restart is a new host."""

    def __init__(
        self,
        env: Clock,
        who: str,
        log: EventLog,
        store: Callable[[list[Any]], Any],
        store_us: int,
        perform: dict[type, Perform],
    ) -> None:
        """`store` applies a transaction (its answer is passed to `stored`, if not None) after `store_us`; writes
        without a token are applied at once when `store_us` is 0. `perform` does all other outputs, by their type."""
        self.env = env
        self.who = who
        self.alive = True
        self.frozen = False
        self._log = log
        self._store = store
        self._store_us = store_us
        self._do: dict[type, Perform] = {Event: self._event, Store: self._persist, **perform}
        self._armed_us: int | None = None
        self._due_us: int | None = None  # what the core said last
        self._held: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque(maxlen=MOST_HELD)
        self._fired_us = -1
        self._spins = 0
        self.core: Any = None

    def start(self, core: Core) -> None:
        """Pump `core` from now on."""
        self.core = core
        self._take_outputs, self._next_deadline = core.take_outputs, core.next_deadline
        self.pump()

    def stop(self) -> None:
        """The process dies: no output that was not performed ever is."""
        self.alive = False
        self._held.clear()

    @property
    def now_ms(self) -> int:
        """The core's clock."""
        return self.env._now // 1000

    def receive(self, port: str, topic: str, payload: bytes) -> None:
        """A message arrived."""
        if self.alive and not self.frozen:
            self.core.receive(port, topic, payload, self.env._now // 1000)
            self.pump()
        elif self.alive:
            self._held.append((self.receive, (port, topic, payload)))

    def call(self, method: str, *args: Any) -> Any:
        """Any further input of the core; `now_ms` is added. The answer is None while frozen."""
        if not self.alive:
            return None
        if self.frozen:
            self._held.append((self.call, (method, *args)))
            return None
        answer = getattr(self.core, method)(*args, self.env._now // 1000)
        self.pump()
        return answer

    def freeze(self) -> None:
        """Stop doing anything, keeping what arrives."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on, first with what arrived meanwhile."""
        self.frozen = False
        self._armed_us = None
        held, self._held = self._held, deque(maxlen=MOST_HELD)
        for call, args in held:
            call(*args)
        if self.alive:
            self.core.on_timer(self.now_ms)
            self.pump()

    def pump(self) -> None:
        """Perform all that the core wants done, then arm its timer."""
        do = self._do
        while outputs := self._take_outputs():
            for output in outputs:
                do[type(output)](output)
                if not self.alive:
                    return
        deadline_ms = self._next_deadline()
        if deadline_ms is None:
            self._due_us = None
            return
        self._due_us = at_us = deadline_ms * 1000
        armed_us = self._armed_us
        if armed_us is None or at_us < armed_us:
            env = self.env
            if at_us < env._now:
                at_us = env._now
            self._armed_us = at_us
            env.call_at(at_us, self._fire, at_us)

    def _fire(self, at_us: int) -> None:
        if at_us != self._armed_us or not self.alive or self.frozen:
            return
        self._armed_us = None
        due_us = self._due_us
        if due_us is None:
            return
        if due_us > at_us:  # what the core waited for has moved away meanwhile
            self._armed_us = due_us
            self.env.call_at(due_us, self._fire, due_us)
            return
        if self._fired_us == at_us:
            self._check_spin(at_us)
        else:
            self._fired_us = at_us
            self._spins = 0
        self.core.on_timer(at_us // 1000)
        self.pump()

    def _check_spin(self, at_us: int) -> None:
        self._spins += 1
        if self._spins > MOST_SPINS:
            raise SpinningCore(f"the core of {self.who} wants its timer again and again at {at_us} µs")

    def _event(self, event: Any) -> None:
        kind, fields = event
        self._log.emit(self.env._now, kind, self.who, fields)

    def _persist(self, store: Any) -> None:
        if self._store_us == 0 and store.token is None:
            self._store(store.writes)
            return
        self.env.call_at(self.env._now + self._store_us, self._stored, store)

    def _stored(self, store: Any) -> None:
        """The transaction commits now, unless the power went before."""
        if not self.alive:
            return
        token, writes = store
        answer = self._store(writes)
        if token is not None:
            if answer is None:
                self.call("stored", token)
            elif not self.frozen:
                self.core.stored(token, self.now_ms, answer)
                self.pump()
            else:
                self._held.append((self._answer, (token, answer)))

    def _answer(self, token: int, answer: Any) -> None:
        self.core.stored(token, self.now_ms, answer)
        self.pump()
