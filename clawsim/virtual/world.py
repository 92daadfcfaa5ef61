"""The virtual world of a plan: machines, links, the timeline, and the end of the run."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from clawsim.randomness import secret, stream
from clawsim.scenario.plan import DATACENTER, SERIAL, UPLINK, NodePlan, Plan
from clawsim.trace import EventLog, Fields
from clawsim.virtual.clock import Clock
from clawsim.virtual.faults import FaultBoard
from clawsim.virtual.host import VirtualHost
from clawsim.virtual.link import Link
from clawsim.virtual.machines import Cores, FleetMachine, GatewayMachine, HubMachine, Machine, NodeMachine
from clawsim.virtual.operator import Operator
from clawsim.virtual.session import Session
from clawsim.virtual.wire import Wire
from nanoclaw.core.outbox import READINGS, reading_identity

Identity = tuple[str, int, int]
_Link = TypeVar("_Link", bound=Link)
SETTLE_STEP_US = 1_000_000
LAST_WORDS_US = 10_000_000
"""A notice waits 5 s for more of its kind, and goes out then."""
LOCAL_US = 50


class VirtualWorld:
    """Everything virtual, as fast as the processor goes. `run` yields the instant reached, for progress."""

    def __init__(
        self, plan: Plan, log: EventLog, cores: type[Cores] = Cores, keys: Mapping[str, bytes] | None = None
    ) -> None:
        """`keys`: of nodes and gateways by id (32 bytes), where real entities have to know them too."""
        self._keys = keys or {}
        self.plan = plan
        self.log = log
        self.cores = cores
        self.host_class: type[VirtualHost] = VirtualHost
        self.env = Clock()
        self.sampling = True
        self.links: dict[tuple[str, str], Link] = {}
        self.hub = HubMachine(self)
        self.fleet = FleetMachine(self)
        self.gateways = {gateway.id: GatewayMachine(self, gateway) for gateway in plan.gateways}
        self.nodes = {node.id: NodeMachine(self, node) for node in plan.nodes}
        self.machines: dict[str, Machine] = {"hub": self.hub, "fleet": self.fleet, **self.gateways, **self.nodes}
        self.faults = FaultBoard(self)
        self.operator = Operator(self)
        self._make_links()

    # --- what machines ask of their world -------------------------------------------------------------------------

    def after(self, delay_us: int, call: Callable[..., Any], *args: Any) -> None:
        """Call `call(*args)` in `delay_us`."""
        self.env.call_at(self.env.now_us + max(0, delay_us), lambda _: call(*args))

    def emit(self, kind: str, who: str, fields: Fields) -> None:
        """Something happened that no core says."""
        self.log.emit(self.env.now_us, kind, who, fields)

    def key(self, entity_id: str) -> bytes:
        """The key of a node or gateway."""
        return self._keys.get(entity_id) or secret(self.plan.seed, entity_id)

    def utc_ms(self) -> int:
        """UTC now."""
        return self.plan.epoch_utc_ms + self.env.now_us // 1000

    def session(self, identity: str, password: bytes, filters: tuple[str, ...], machine: Machine, port: str) -> Session:
        """A client port of `machine`."""
        return Session(
            identity,
            password,
            filters,
            lambda: machine.call("link_up", port),
            lambda: machine.call("link_down", port),
            receiver(machine, port),
        )

    def connect(self, client: Machine, session: Session, low: str, high: str, server: Any) -> None:
        """Try to connect `client` to `server`'s broker over the link between `low` and `high`."""
        link = self.links.get((low, high))
        if server is None or link is None:
            self.after(LOCAL_US, client.call, "link_down", "hub")
        else:
            session.connect(link, server.broker)

    def visible_gateways(self, node: NodePlan) -> list[dict[str, Any]]:
        """What an mDNS query of `node` finds: gateways of its site that answer, over a link that is not cut."""
        return [
            {
                "id": gateway.id,
                "target": gateway.id,
                "fleet": self.plan.fleet_id,
                "role": gateway.role,
                "load": self.gateways[gateway.id].nodes_here(),
            }
            for gateway in self.plan.gateways_of(node.site)
            if self.gateways[gateway.id].responsive and not self.links[node.id, gateway.id].is_cut
        ]

    # --- the run --------------------------------------------------------------------------------------------------

    def run(self, step_us: int = 10_000_000) -> Iterator[int]:
        """Run to the end, yielding the instant reached every `step_us` at most."""
        self.begin()
        plan = self.plan
        at_us = 0
        while at_us < plan.duration_us:
            at_us = min(at_us + step_us, plan.duration_us)
            self.env.run_until(at_us)
            yield at_us
        self.finish()
        end_us = plan.duration_us + plan.settle_us
        while at_us < end_us:
            at_us = min(at_us + SETTLE_STEP_US, end_us)
            self.env.run_until(at_us)
            yield at_us
            if self.settled():
                break

    def begin(self) -> None:
        """Power everything on and lay out the timeline."""
        self.operator.prepare()
        self.hub.power_on(0)
        self.fleet.power_on(0)
        for gateway in self.gateways.values():
            gateway.power_on(0)
        for node in self.nodes.values():
            node.power_on(node.plan.power_on_us)
        self.faults.schedule()
        self.operator.schedule()

    def finish(self) -> None:
        """The duration is over: sampling stops, faults clear."""
        self.sampling = False
        for node in self.nodes.values():
            node.call("stop_sampling")
        self.faults.clear_all()

    def settled(self) -> bool:
        """Whether nothing is on its way any more: no reading, no answer, no word to people, who are told a few seconds
        after what they are told of."""
        if self.env.now_us < self.plan.duration_us + LAST_WORDS_US or self.operator.waiting:
            return False
        return not any(True for _ in self._buffered_identities())

    def _make_links(self) -> None:
        plan = self.plan
        self._link("fleet", "hub", DATACENTER)
        for gateway in plan.gateways:
            self._link(gateway.id, "hub", UPLINK)
        for node in plan.nodes:
            for gateway in plan.reach_of(node):
                if node.wired:
                    self._cable(node.id, gateway.id)
                else:
                    self._link(node.id, gateway.id, node.link)

    def _cable(self, node: str, gateway: str) -> None:
        wire = self._link(node, gateway, SERIAL, Wire)
        self.nodes[node].session.plug_in(wire)
        self.gateways[gateway].plug_in(node, wire)

    def _link(self, low: str, high: str, profile: str, kind: type[_Link] = Link) -> _Link:  # type: ignore[assignment]
        wanted = self.plan.links[profile]
        rng = stream(self.plan.seed, low, high, "link")
        link = kind(self.env, (low, high), wanted.latency_us, wanted.jitter_us, wanted.loss, rng)
        self.links[low, high] = link
        return link

    # --- evidence for the ledger ----------------------------------------------------------------------------------

    def delivered(self) -> Iterator[Identity]:
        """The identity of every row in the fleet's database, as often as it is there."""
        return self.fleet.database.identities()  # type: ignore[no-any-return]

    def buffered(self) -> Iterator[tuple[Identity, str]]:
        """Every reading that waits on a node's flash or a gateway's disk, and where."""
        return self._buffered_identities()

    def messages(self) -> int:
        """Messages that crossed a broker."""
        return self.hub.broker.messages + sum(gateway.broker.messages for gateway in self.gateways.values())

    def _buffered_identities(self) -> Iterator[tuple[Identity, str]]:
        for gateway in self.gateways.values():
            for kind, body in gateway.disk.items.values():
                if kind in READINGS:
                    yield reading_identity(body), gateway.id
        for node in self.nodes.values():
            for boot, seq in node.flash.readings:
                yield (node.id, boot, seq), node.id


def receiver(machine: Machine, port: str) -> Callable[[str, bytes], None]:
    """What takes messages for `machine`; lost while no process runs."""

    def receive(name: str, payload: bytes) -> None:
        if machine.host is not None:
            machine.host.receive(port, name, payload)

    return receive
