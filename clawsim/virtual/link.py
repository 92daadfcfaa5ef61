"""A network link between two entities, as TCP over it looks to the messages: in order, late, or stalled.

A loss costs a retransmission (200 ms, doubled each time: Linux's least retransmission time-out, and RFC 6298 section
5.5) instead of the message. While the link is cut nothing crosses; what was sent waits in the sender's bounded buffer
and follows when the link heals, as long as the connection lives.
"""

import random
from collections.abc import Callable
from typing import Any

from clawsim.virtual.clock import Clock

RETRANSMIT_US = 200_000
MOST_RETRIES = 8
BUFFER_BYTES = 256 * 1024  # what a stalled connection holds; beyond, messages are refused

UP, DOWN = 0, 1

Arrive = Callable[[Any], None]


class Link:
    """Both directions of one link; `UP` is towards the cloud."""

    def __init__(
        self, env: Clock, ends: tuple[str, str], latency_us: int, jitter_us: int, loss: float, rng: random.Random
    ):
        self.env = env
        self.ends = ends
        self.latency_us = max(latency_us, jitter_us)  # nothing arrives before it was sent
        self.jitter_us = jitter_us
        self.base_loss = loss
        self.loss = loss
        self.extra_us = 0
        self.is_cut = False
        self.cuts = 0
        self.bytes = 0
        self.blocked = 0  # messages and attempts that a cut kept from crossing: evidence that it works
        self.disturbed = 0  # messages that a delay or loss fault made late
        self.crossed_while_cut = 0  # messages that were sent and arrived in one and the same cut, say the receivers
        self._random = rng.random
        self._last_us = [0, 0]
        self._held: list[tuple[int, int, Arrive, Any]] = []
        self._held_bytes = 0

    def transmit(self, direction: int, size: int, arrive: Arrive, value: Any) -> bool:
        """Carry `value`; `arrive(value)` is called then. False when the buffer is full."""
        if self.is_cut:
            return self._hold(direction, size, arrive, value)
        self.bytes += size
        env = self.env
        if self.loss or self.extra_us:
            at_us = env._now + self._disturbed_us()
        else:
            at_us = env._now + self.latency_us + int((2 * self._random() - 1) * self.jitter_us)
        last_us = self._last_us
        if at_us < last_us[direction]:
            at_us = last_us[direction]
        else:
            last_us[direction] = at_us
        env.call_at(at_us, arrive, value)
        return True

    def carries_frame(self) -> bool:
        """Whether the link lets one radio frame pass: nobody sends it again, and none waits for a cut to end."""
        if self.is_cut:
            self.blocked += 1
            return False
        if self.loss and self._random() < self.loss:
            self.disturbed += self.loss > self.base_loss
            return False
        return True

    def cut(self) -> None:
        """From now on nothing crosses."""
        self.is_cut = True
        self.cuts += 1

    def check_mark(self, mark: int) -> None:
        """A message has arrived that was sent in the cut of this number (`cuts` then; 0: in none): it should not have
        in that very cut."""
        if self.is_cut and mark == self.cuts:
            self.crossed_while_cut += 1

    def heal(self) -> None:
        """What waits follows, in order."""
        self.is_cut = False
        held, self._held, self._held_bytes = self._held, [], 0
        for direction, size, arrive, value in held:
            self.transmit(direction, size, arrive, value)

    def _hold(self, direction: int, size: int, arrive: Arrive, value: Any) -> bool:
        self.blocked += 1
        if self._held_bytes + size > BUFFER_BYTES:
            return False
        self._held.append((direction, size, arrive, value))
        self._held_bytes += size
        return True

    def _disturbed_us(self) -> int:
        delay_us = self.latency_us + int((2 * self._random() - 1) * self.jitter_us)
        if self.extra_us:
            self.disturbed += 1
            delay_us += self.extra_us
        retry_us = RETRANSMIT_US
        if self.loss:
            for _ in range(MOST_RETRIES):
                if self._random() >= self.loss:
                    break
                self.disturbed += self.loss > self.base_loss
                delay_us += retry_us
                retry_us *= 2
        return delay_us
