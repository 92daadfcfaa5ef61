"""The faults of a live world."""

from __future__ import annotations

from clawsim.scenario.plan import FaultAction
from clawsim.virtual.faults import FaultBoard


class LiveFaultBoard(FaultBoard):
    """The faults of the virtual world, where a loss of power also silences real links."""

    def apply(self, fault: FaultAction) -> None:
        """Do to the world what the fault says; the links first, so that no connection is seen to close."""
        if fault.kind == "power" and fault.entity is not None:
            self._world.silence(fault.entity, True)
        super().apply(fault)

    def undo(self, fault: FaultAction) -> None:
        """Put it right; a real machine is heard again as soon as its new process runs."""
        super().undo(fault)
        if fault.kind == "power" and fault.entity not in self._world.real:
            self._world.silence(fault.entity, False)
