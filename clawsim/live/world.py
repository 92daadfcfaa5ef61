"""The live world: a virtual world in which any part may be a real process, paced by the wall clock.

The timeline, the faults and the virtual parts run on SimPy; what is real has a :class:`RealMachine` in its place, and
whatever connects to or from it goes through a fault proxy.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import structlog

from clawsim.live.actions import FleetApi
from clawsim.live.bridge import BridgedSession, BrokerBridge
from clawsim.live.cable import RealCable
from clawsim.live.commands import fleet_command, gateway_command, hub_command, node_command
from clawsim.live.deploy import LOOPBACK, Deployment
from clawsim.live.faults import LiveFaultBoard
from clawsim.live.links import ProxyLink
from clawsim.live.machines import Command, RealFleet, RealGateway, RealMachine, RealNode
from clawsim.live.micropython import remarks
from clawsim.live.operator import LiveOperator
from clawsim.live.options import LiveOptions
from clawsim.live.pace import Pace
from clawsim.live.paced import Pacer
from clawsim.live.processes import Child, ProcessFailed, Supervisor
from clawsim.live.proxy import FaultProxy
from clawsim.live.tail import Tail
from clawsim.randomness import stream
from clawsim.scenario.plan import FLEET, HUB, NodePlan, Plan, owner_of
from clawsim.virtual.machines import MAX_NODE_BYTES
from clawsim.virtual.session import Session
from clawsim.virtual.wire import Wire
from clawsim.virtual.world import VirtualWorld, receiver
from firmware.hosting.clock import ScaledClock
from fleet.hub.access import HubAccess
from fleet.wire.uplink import MAX_HUB_BYTES
from nanoclaw.host.discovery import Announcer

STARTS_AT_ONCE = max(2, os.cpu_count() or 2)
LEAST_LATENCY_S = 0.001
"""A latency below this on the wall is there anyway: timers of the kernel and the event loop are no finer."""


class LiveWorld(VirtualWorld):
    """One run of ``plan``, whose fleet id is the deployment's. ``real`` are the ids of what is real.

    Made inside a running event loop; :mod:`clawsim.live.run` takes it from start to end.
    """

    hub: Any
    fleet: Any
    gateways: Any
    nodes: Any

    def __init__(
        self, plan: Plan, options: LiveOptions, real: frozenset[str], deployment: Deployment, supervisor: Supervisor
    ) -> None:
        self.real = real
        self.options = options
        self.deployment = deployment
        self.tail = Tail(options.sink)
        self.api = FleetApi(deployment)
        self.pace = Pace(ScaledClock(time.monotonic_ns(), options.timescale, plan.epoch_utc_ms))
        self.proxies = {broker: self._proxy(broker) for broker in (HUB, *(each.id for each in plan.gateways))}
        self._supervisor = supervisor
        self._turns = asyncio.Semaphore(STARTS_AT_ONCE)
        self._tasks: set[asyncio.Task[Any]] = set()
        super().__init__(plan, cast(Any, self.tail))
        self.pacer = Pacer(self.env, self.pace)
        self.faults = LiveFaultBoard(self)
        self.operator = LiveOperator(self)
        self.bridges: list[BrokerBridge] = []
        self.cables: list[RealCable] = []
        self.failures: list[str] = []
        self.complaint = ""
        self.remarks = remarks(plan, real) if options.nodes_as == "micropython" else []
        _log_to_stderr()

    # --- making it real ---------------------------------------------------------------------------------------------

    async def set_up(self) -> None:
        """Puts proxies and processes in the place of what is real; the processes get ready and wait."""
        for proxy in self.proxies.values():
            await proxy.start()
        self._replace_machines()
        self._replace_links()
        self._build_bridges()
        self.operator.prepare()
        await asyncio.gather(*(machine.stand_by() for machine in self.real_machines()))

    def real_machines(self) -> list[RealMachine]:
        """All machines that are processes, from the hub down."""
        return [machine for machine in self.machines.values() if isinstance(machine, RealMachine)]

    def _proxy(self, broker: str) -> FaultProxy:
        owners = self.deployment.addresses.owners()
        if broker == HUB:
            owners[LOOPBACK] = FLEET  # the fleet manager has no setting for its source address
        return FaultProxy(broker, owners, self.options.timescale)

    def _replace_machines(self) -> None:
        deployment, broker = self.deployment, self.options.broker
        hub_port = self.proxies[HUB].port
        if HUB in self.real:
            self.hub = self._real(RealMachine, HUB, hub_command(deployment, broker), self._hub_started)
        if FLEET in self.real:
            self.fleet = self._real(RealFleet, FLEET, fleet_command(deployment, hub_port), self._fleet_started)
        for gateway in self.plan.gateways:
            if gateway.id in self.real:
                own = self.proxies[gateway.id]
                command = gateway_command(deployment, gateway, hub_port, own.port, broker)
                self.gateways[gateway.id] = self._real(RealGateway, gateway.id, command, _point(own), gateway)
        for node in self.plan.nodes:
            if node.id in self.real:
                command = node_command(deployment, node, self.proxies[node.gateway].port, self.options.nodes_as)
                self.nodes[node.id] = self._real(RealNode, node.id, command, lambda _: None, node)
        self.machines = {HUB: self.hub, FLEET: self.fleet, **self.gateways, **self.nodes}

    def _real(
        self, sort: type[RealMachine], who: str, command: Command, on_started: Callable[[Child], None], plan: Any = None
    ) -> Any:
        def started(child: Child) -> None:
            on_started(child)
            self.silence(who, False)

        return sort(self, who, command, started, plan)

    def _hub_started(self, child: Child) -> None:
        _point(self.proxies[HUB])(child)
        self.pacer.feed(self.emit, "hub.started", HUB, {})

    def _fleet_started(self, child: Child) -> None:
        self.api.port = int(child.ready["http_port"])

    def _replace_links(self) -> None:
        for node in self.plan.nodes:
            if node.wired and node.id in self.real:
                self._lay_cable(node)
        for client, broker in self.links:
            if isinstance(self.links[client, broker], Wire | RealCable):
                continue
            if not self.real.isdisjoint((owner_of(client), broker)):
                self.links[client, broker] = cast(Any, self._proxied(client, broker))

    def _lay_cable(self, node: NodePlan) -> None:
        ends = node.id, node.gateway
        virtual, paths = self.links[ends], [self.deployment.cable_end(node.id, end) for end in ends]
        rng = stream(self.plan.seed, *ends, "link")
        cable = RealCable((paths[0], paths[1]), virtual.base_loss, rng, self.options.timescale)
        self.cables.append(cable)
        self.links[ends] = cast(Any, cable)

    def _proxied(self, client: str, broker: str) -> ProxyLink:
        virtual, proxy = self.links[client, broker], self.proxies[broker]
        latency_ms = virtual.latency_us / 1000
        if latency_ms / 1000 / self.options.timescale >= LEAST_LATENCY_S:
            proxy.link(client).latency_ms = latency_ms
        return ProxyLink(proxy, client, virtual.base_loss, stream(self.plan.seed, client, broker, "link"))

    def _build_bridges(self) -> None:
        """Every virtual broker that has a real client gets a face of sockets."""
        has_real_client = {broker for client, broker in self.links if client in self.real} - self.real
        for broker in sorted(has_real_client):
            self.bridges.append(self._hub_bridge() if broker == HUB else self._gateway_bridge(broker))

    def _hub_bridge(self) -> BrokerBridge:
        passwords = {gateway.id: self.deployment.password(gateway.id) for gateway in self.plan.gateways}
        access = HubAccess(passwords, FLEET, self.deployment.manager_password)
        return BrokerBridge(self, self.hub.broker, access, self.proxies[HUB], MAX_HUB_BYTES)

    def _gateway_bridge(self, broker: str) -> BrokerBridge:
        router, proxy = self.gateways[broker].broker, self.proxies[broker]
        return BrokerBridge(self, router, router.access, proxy, MAX_NODE_BYTES, lambda: self._announcer(broker))

    def _announcer(self, gateway: str) -> Announcer:
        plan = self.plan.gateway(gateway)
        fields = {"id": plan.id, "fleet": self.plan.fleet_id, "role": plan.role, "load": "0"}
        return Announcer(fields, LOOPBACK, self.proxies[gateway].port, LOOPBACK)

    # --- what its parts ask of it -----------------------------------------------------------------------------------

    def spawn(self, who: str, command: Command) -> asyncio.Task[Child]:
        """Starts the next process of ``who``, a few at a time; it is ready when the task is done."""
        trace = self.deployment.next_trace(who)
        self.tail.add(trace)
        return self._task(self._spawn(who, command, trace))

    async def _spawn(self, who: str, command: Command, trace: Path) -> Child:
        async with self._turns:
            return await self._supervisor.spawn(who, command(trace))

    def background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Runs ``work`` beside the run; its failure is the run's."""
        self._task(work)

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.pacer.fail(error)

    def silence(self, who: str, silent: bool) -> None:
        """What the loss of power at ``who`` looks like on its real links, and its return."""
        for ends, link in self.links.items():
            if who in (owner_of(ends[0]), ends[1]) and isinstance(link, ProxyLink):
                link.silence() if silent else link.unsilence()

    async def follow_bridges(self) -> None:
        """Brings the bridges in step with their virtual brokers."""
        for bridge in self.bridges:
            await bridge.follow()

    # --- what differs from a wholly virtual world -------------------------------------------------------------------

    def session(self, identity: str, password: bytes, filters: tuple[str, ...], machine: Any, port: str) -> Session:
        """A client port that can go either way."""
        return BridgedSession(
            self,
            identity,
            password,
            filters,
            lambda: machine.call("link_up", port),
            lambda: machine.call("link_down", port),
            receiver(machine, port),
        )

    def connect(self, client: Any, session: Session, low: str, high: str, server: Any) -> None:
        """Try to connect: over the proxy to a real broker, over a virtual link to a virtual one."""
        if high in self.real and (low, high) in self.links and isinstance(session, BridgedSession):
            session.dial(self.proxies[high], low)
        else:
            super().connect(client, session, low, high, server)

    def begin(self) -> None:
        """Power on what is not on yet, and lay out the timeline."""
        for machine in (self.hub, self.fleet, *self.gateways.values()):
            if not machine.powered:
                machine.power_on(0)
        for node in self.nodes.values():
            node.power_on(node.plan.power_on_us)
        self.faults.schedule()
        self.operator.schedule()

    def break_off(self, failure: ProcessFailed) -> None:
        """A process has died that nobody had told to: the story ends here, and with it the run fails."""
        self.end(max(int(self.env.now), self.pace.now_us()))
        self.tail.emit(self.reached_us(), "process.died", failure.who, {"reason": failure.reason})
        self.failures.append(f"{failure.who} {failure.what}: the run was broken off")
        self.complaint = str(failure)

    def end(self, at_us: int) -> None:
        """The story is over, if it was not before: what its processes say later is no part of it."""
        self.pacer.close()
        if self.tail.end_us is None:
            self.tail.end_us = at_us

    def reached_us(self) -> int:
        """How far the story has come, in microseconds: nowhere while processes start."""
        return int(self.env.now) if self.tail.end_us is None else self.tail.end_us

    async def close(self) -> None:
        """Lets go of everything that is not a process."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(bridge.stop() for bridge in self.bridges))
        for machine in (self.fleet, *self.gateways.values(), *self.nodes.values()):
            if not isinstance(machine, RealMachine):
                machine.hang_up()
        await self.api.close()
        for proxy in self.proxies.values():
            await proxy.close()
        for cable in self.cables:
            cable.close()

    # --- evidence ---------------------------------------------------------------------------------------------------

    def messages(self) -> int:
        """Messages that crossed a virtual broker; real ones do not say."""
        brokers = [self.hub, *self.gateways.values()]
        return sum(machine.broker.messages for machine in brokers if not isinstance(machine, RealMachine))


def _log_to_stderr() -> None:
    """What we borrow from the gateway's daemon logs with structlog, whose default is stdout: that is the report's."""
    if not structlog.is_configured():
        level = structlog.make_filtering_bound_logger(logging.WARNING)
        structlog.configure(wrapper_class=level, logger_factory=structlog.PrintLoggerFactory(sys.stderr))


def _point(proxy: FaultProxy) -> Callable[[Child], None]:
    return lambda child: proxy.point_at(LOOPBACK, int(child.ready["mqtt_port"]))
