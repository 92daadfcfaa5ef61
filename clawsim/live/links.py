"""A link through a fault proxy, with the face of a virtual link: one board of faults serves both."""

from __future__ import annotations

import random

from clawsim.live.proxy import FaultProxy

FAULT, SILENCE, PROFILE = "fault", "silence", "profile"


class ProxyLink:
    """The link of ``client`` to the broker behind ``proxy``.

    ``base_loss`` is the loss of its profile, which stays. Losses are drawn from ``rng``. A link may be silenced besides
    being cut: that is what the loss of power at one of its ends looks like from the other.
    """

    def __init__(self, proxy: FaultProxy, client: str, base_loss: float, rng: random.Random) -> None:
        self.base_loss = base_loss
        self._proxy = proxy
        self._client = client
        self._link = proxy.link(client)
        self._rng = rng
        self._extra_us = 0
        self._loss = base_loss
        self._cut_at_bytes: int | None = None
        self._crossed = 0
        if base_loss:
            self._link.loss(base_loss, rng, by=PROFILE)

    @property
    def is_cut(self) -> bool:
        """Whether no byte may cross."""
        return self._link.is_cut

    def cut(self) -> None:
        """From now on nothing crosses."""
        self._link.cut(by=FAULT)
        self._cut_at_bytes = self._link.counters.passed_bytes

    def heal(self) -> None:
        """What waits follows, where a connection still lives."""
        self._crossed = self.crossed_while_cut
        self._cut_at_bytes = None
        self._link.clear(by=FAULT)
        self.extra_us, self.loss = self._extra_us, self._loss

    def silence(self) -> None:
        """One end has lost its power."""
        self._link.cut(by=SILENCE)

    def unsilence(self) -> None:
        """It is back; connections of before are reset."""
        self._link.clear(by=SILENCE)

    @property
    def extra_us(self) -> int:
        """Delay by faults, in core time."""
        return self._extra_us

    @extra_us.setter
    def extra_us(self, delay_us: int) -> None:
        self._extra_us = delay_us
        self._link.delay(delay_us // 1000, by=FAULT)

    @property
    def loss(self) -> float:
        """The share of segments that have to be repeated, by the profile or by faults."""
        return self._loss

    @loss.setter
    def loss(self, rate: float) -> None:
        self._loss = rate
        self._link.loss(0.0 if rate <= self.base_loss else rate, self._rng, by=FAULT)

    @property
    def blocked(self) -> int:
        """Bytes that cuts have kept from crossing."""
        return self._link.counters.held_bytes + self._proxy.held(self._client)[0]

    @property
    def disturbed(self) -> int:
        """Bytes that were late, by a delay or a loss."""
        return self._link.counters.delayed_bytes

    @property
    def crossed_while_cut(self) -> int:
        """Bytes that crossed during cuts, by a count that knows nothing of cuts."""
        if self._cut_at_bytes is None:
            return self._crossed
        return self._crossed + self._link.counters.passed_bytes - self._cut_at_bytes
