"""What resolving one part of a file needs to know of the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from clawsim.scenario.base import Strict
from clawsim.scenario.errors import Mark, Problems
from clawsim.scenario.names import Names
from clawsim.scenario.plan import GatewayPlan, NodePlan


@dataclass
class Context:
    """``gateways`` and ``nodes`` fill up as the fleet is resolved; an id that is in ``names`` alone had a mistake."""

    seed: int
    duration_us: int
    folder: Path
    names: Names
    problems: Problems
    gateways: dict[str, GatewayPlan] = field(default_factory=dict)
    nodes: dict[str, NodePlan] = field(default_factory=dict)

    def complain(self, mark: Mark, message: str) -> None:
        """Note a problem."""
        self.problems.add(mark, message)

    def whole_ms(self, model: Strict, key: str, us: int) -> int:
        """``us`` in milliseconds; a problem at ``key`` when that is not a whole number."""
        if us % 1000:
            self.complain(model.mark(key), f"{key}: must be whole milliseconds")
        return us // 1000

    def draw(self, bound: int, *purpose: str) -> int:
        """An integer in ``0..bound-1`` that depends on the seed and ``purpose`` alone, not on what else there is."""
        digest = blake2b("\0".join((str(self.seed), *purpose)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % bound
