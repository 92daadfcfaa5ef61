"""Faults of the timeline: requested, effective, cleared, each an event, each from outside the cores.

A fault is effective when the thing that it touches says so (the link is cut, the process is gone), and at its end it
must show evidence that it touched anything: messages held by a cut, made late by a delay. Without evidence the run is
invalid.
"""

from typing import Any

from clawsim.scenario.plan import FaultAction
from clawsim.virtual.link import Link

WORLD = "world"


class FaultBoard:
    """Applies the faults of a plan, and remembers which had no effect."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._faults = [action for action in world.plan.timeline if isinstance(action, FaultAction)]
        self._active: dict[str, tuple[FaultAction, dict[int, int]]] = {}
        self.without_effect: list[str] = []

    def schedule(self) -> None:
        """Lay out the faults on the world's clock."""
        for fault in self._faults:
            self._world.after(fault.at_us - self._world.env.now_us, self.request, fault)

    def request(self, fault: FaultAction) -> None:
        """Apply `fault`, and clear it when its time is over."""
        self._say("fault.requested", fault)
        self._active[fault.name] = (fault, {id(link): self._marks(link) for link in self._links(fault)})
        self.apply(fault)
        if self._applied(fault):
            self._say("fault.effective", fault)
        if fault.for_us is not None:
            self._world.after(fault.for_us, self.clear, fault.name)

    def clear(self, name: str) -> None:
        """End the fault, and judge whether it had any effect."""
        if name not in self._active:
            return
        fault, marks = self._active[name]
        evidence = sum(self._marks(link) - marks[id(link)] for link in self._links(fault))
        crossed = sum(link.crossed_while_cut for link in self._links(fault))
        applied = self._applied(fault)
        del self._active[name]
        self.undo(fault)
        if not applied or crossed or (fault.links and not evidence):
            self.without_effect.append(name)
        fields = {"touched": evidence} if fault.links else {}
        self._say("fault.cleared", fault, **fields)

    def clear_all(self) -> None:
        """The end of the run's duration."""
        for name in list(self._active):
            self.clear(name)

    def apply(self, fault: FaultAction) -> None:
        """Do to the world what the fault says."""
        for link in self._links(fault):
            if fault.kind == "cut":
                link.cut()
            elif fault.kind == "delay":
                link.extra_us += fault.add_us
            else:
                link.loss = max(link.loss, fault.rate)
        if fault.entity is not None:
            machine = self._world.machines[fault.entity]
            if fault.kind == "stop":
                machine.freeze()
            else:
                machine.kill(silent=fault.kind == "power")

    def undo(self, fault: FaultAction) -> None:
        """Put right what the fault did, as far as no other fault holds it."""
        for link in self._links(fault):
            if fault.kind == "cut" and not self._held(link, "cut"):
                link.heal()
            elif fault.kind == "delay":
                link.extra_us -= fault.add_us
            elif fault.kind == "loss":
                rates = [other.rate for other in self._others(link) if other.kind == "loss"]
                link.loss = max([link.base_loss, *rates])
        if fault.entity is not None:
            machine = self._world.machines[fault.entity]
            if fault.kind == "stop":
                machine.thaw()
            else:
                machine.power_on()

    def _links(self, fault: FaultAction) -> list[Link]:
        links = self._world.links
        return [links[ends] if ends in links else links[ends[::-1]] for ends in fault.links]

    def _others(self, link: Link) -> list[FaultAction]:
        return [fault for fault, _ in self._active.values() if link in self._links(fault)]

    def _held(self, link: Link, kind: str) -> bool:
        return any(other.kind == kind for other in self._others(link))

    def _applied(self, fault: FaultAction) -> bool:
        """Whether the thing itself says that it is disturbed."""
        if fault.kind == "cut":
            return all(link.is_cut for link in self._links(fault))
        if fault.kind == "delay":
            return all(link.extra_us >= fault.add_us for link in self._links(fault))
        if fault.kind == "loss":
            return all(link.loss >= fault.rate for link in self._links(fault))
        machine = self._world.machines[fault.entity]
        return not machine.responsive if fault.kind == "stop" else not machine.running

    @staticmethod
    def _marks(link: Link) -> int:
        return link.blocked + link.disturbed

    def _say(self, kind: str, fault: FaultAction, **more: Any) -> None:
        self._world.emit(kind, WORLD, {"of": fault.name, "fault": fault.kind, "on": fault.on, **more})
