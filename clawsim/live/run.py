"""A live run from start to end: power-on with one t0, the story, settling, the evidence."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx

from clawsim.garbage import rare_collections
from clawsim.live.collect import CollectError, delivered_rows, stored_rows
from clawsim.live.deploy import Deployment
from clawsim.live.disk import check_room
from clawsim.live.machines import RealFleet, RealMachine
from clawsim.live.micropython import NoInterpreter, interpreter
from clawsim.live.options import LiveOptions, LiveResult
from clawsim.live.pace import lag_p99_ms
from clawsim.live.processes import ProcessFailed, Supervisor
from clawsim.live.selection import everything
from clawsim.live.trips import trip_lag_ms
from clawsim.live.world import LiveWorld
from clawsim.randomness import secret
from clawsim.scenario.plan import FLEET, HUB, Plan
from clawsim.sealing import sealing_name, sealing_nodes
from clawsim.trace import EventLog, TraceEvent
from firmware.hosting.clock import ScaledClock

POLL_S = 0.05
ROOM_EVERY_S = 1.0
SETTLE_POLL_S = 0.25
HEAD_START_S, HEAD_START_PER_GATEWAY_S = 0.7, 0.1
"""How long time stands still at 0 while cloud and gateways find each other: nodes start into a working fleet."""


class MissingProgram(Exception):
    """A program that the run needs is not installed; the message says which."""


async def run_live(plan: Plan, log: EventLog, options: LiveOptions) -> LiveResult:
    """Runs ``plan`` with real processes; at its end, whatever ends it, ``log`` is given all events in order of time.

    A process that dies unasked breaks the run off in good order: that is a result, with `failures`. Raises
    :class:`~clawsim.live.processes.ProcessFailed` when a process cannot start,
    :class:`~clawsim.live.deploy.DeployError` for a run directory that cannot be used, :class:`MissingProgram`,
    :class:`~clawsim.live.collect.CollectError`, and OSError for a disk that is full. However it ends, no process and no
    port is left.
    """
    started_s = time.monotonic()
    real = everything(plan) if options.real is None else options.real
    if options.broker == "mosquitto" and not _which("mosquitto"):
        raise MissingProgram("the broker Mosquitto is not installed: apt-get install mosquitto")
    if options.nodes_as == "micropython":
        _need_interpreter()
    deployment = Deployment(plan, options.run_dir, _virtual_keys(plan, real))
    deployment.prepare()
    plan = replace(plan, fleet_id=deployment.fleet_id)
    supervisor = Supervisor(deployment.log_directory())
    world = LiveWorld(plan, options, real, deployment, supervisor)
    try:
        with rare_collections():
            async with supervisor:
                await _play(world, supervisor)
    finally:
        events = world.tail.merged()
        for event in events:
            log.emit(*event)
    return _result(world, events, time.monotonic() - started_s)


def _virtual_keys(plan: Plan, real: frozenset[str]) -> dict[str, bytes]:
    """The keys that virtual parts know: those of every device, unless nothing is virtual."""
    if real >= everything(plan):
        return {}
    sealing = {sealing_name(node) for node in sealing_nodes(plan)}
    return {device: secret(plan.seed, device) for device in (everything(plan) - {HUB, FLEET}) | sealing}


def _need_interpreter() -> None:
    try:
        interpreter()
    except NoInterpreter as error:
        raise MissingProgram(str(error)) from None


def _which(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))


async def _play(world: LiveWorld, supervisor: Supervisor) -> None:
    try:
        await supervisor.guard(world.set_up())
        async with _watched(world):
            await supervisor.guard(_head_start(world))
            await _tell(world, supervisor)
            await _end(world, supervisor)
    except ProcessFailed:
        check_room(world.options.run_dir)  # then it is the disk that is to be named
        raise
    finally:
        await world.close()


async def _tell(world: LiveWorld, supervisor: Supervisor) -> None:
    """The story to its end, or until a process dies that nobody has told to."""
    try:
        await supervisor.guard(_story(world))
    except ProcessFailed as failure:
        check_room(world.options.run_dir)
        world.break_off(failure)
    else:
        world.end(int(world.env.now))


async def _story(world: LiveWorld) -> None:
    world.begin()
    await world.pacer.run(world.plan.duration_us)
    world.finish()
    await _settle(world)


@asynccontextmanager
async def _watched(world: LiveWorld) -> AsyncIterator[None]:
    """Reads the traces, keeps the bridges in step, and tells of the progress, meanwhile."""
    watching = asyncio.create_task(_watch(world))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch(world: LiveWorld) -> None:
    try:
        while True:
            for _ in range(int(ROOM_EVERY_S / POLL_S)):
                world.tail.poll()
                await world.follow_bridges()
                world.options.progress(world.reached_us())
                await asyncio.sleep(POLL_S)
            check_room(world.options.run_dir)
    except Exception as error:
        world.pacer.fail(error)


# --- power-on ---------------------------------------------------------------------------------------------------------


async def _head_start(world: LiveWorld) -> None:
    """Sets t0 a little ahead, and starts hub, fleet and gateways before it while time stands still at 0.

    Only the hub may be virtual: what else is virtual needs time to do anything, and so does what depends on it.
    """
    gateways = [gateway.id for gateway in world.plan.gateways]
    head_s = HEAD_START_S + HEAD_START_PER_GATEWAY_S * len(gateways)
    t0_ns = time.monotonic_ns() + int(head_s * 1e9)
    world.pace.clock = ScaledClock(t0_ns, world.options.timescale, world.plan.epoch_utc_ms)
    with suppress(TimeoutError):
        async with asyncio.timeout(head_s):
            await _start_cloud_and_gateways(world, gateways)
    await asyncio.sleep(max(0.0, (t0_ns - time.monotonic_ns()) / 1e9))


async def _start_cloud_and_gateways(world: LiveWorld, gateways: list[str]) -> None:
    if await _start(world, [HUB]):
        world.hub.power_on(0)
        world.pacer.at_once()
        await world.follow_bridges()
    if not await _start(world, [FLEET]):
        await _until_ready(world)
        await _start(world, gateways)
        await _until_configured(world, {who for who in gateways if who in world.real})


async def _start(world: LiveWorld, tier: Iterable[str]) -> list[str]:
    """Starts what is real of a tier, now; what is not."""
    machines = [world.machines[who] for who in tier]
    for machine in machines:
        if isinstance(machine, RealMachine):
            await machine.start()
    return [machine.id for machine in machines if not isinstance(machine, RealMachine)]


async def _until_ready(world: LiveWorld) -> None:
    """The fleet manager has its database, and its subscriptions on the hub."""
    while True:
        with suppress(httpx.HTTPError):
            if (await world.api.request("GET", "/readyz", role="anonymous")).is_success:
                # The first request with a token makes both sides load what they need for it: not at the story's cost.
                await world.api.request("GET", "/api/v1/fleet/gateways")
                return
        await asyncio.sleep(0.01)


async def _until_configured(world: LiveWorld, gateways: set[str]) -> None:
    """Every gateway knows its nodes."""
    while not {event.who for event in world.tail.events if event.kind == "config.applied"} >= gateways:
        await asyncio.sleep(0.01)
        world.tail.poll()


# --- the end ----------------------------------------------------------------------------------------------------------


async def _settle(world: LiveWorld) -> None:
    """Until buffers are empty, and a moment longer: whoever emptied the last of them has yet to say so."""
    end_us = world.plan.duration_us + world.plan.settle_us
    step_us = int(SETTLE_POLL_S * 1e6 * world.options.timescale)
    settled = False
    while world.env.now < end_us and not settled:
        settled = world.settled()
        await world.pacer.run(min(int(world.env.now) + step_us, end_us))


async def _end(world: LiveWorld, supervisor: Supervisor) -> None:
    """Ends the tiers from below, so that what the API shows at the end is not overtaken by late arrivals."""
    await _end_all(world.nodes.values())
    await _end_all(world.gateways.values())
    if isinstance(world.fleet, RealFleet):
        world.fleet.rows = await _stored(world, supervisor)
    await _end_all([world.fleet])
    await _end_all([world.hub])


async def _stored(world: LiveWorld, supervisor: Supervisor) -> list[dict[str, Any]]:
    """What the fleet manager stored, by its API; where the run has broken off and it is dead or mute, by its file."""
    if not world.failures:
        try:
            return await supervisor.guard(delivered_rows(world.api))
        except ProcessFailed as failure:
            world.break_off(failure)
    with suppress(CollectError):
        if world.fleet.responsive:
            return await delivered_rows(world.api)
    await _end_all([world.fleet])
    try:
        world.remarks.append("the fleet manager could not be asked: what it stored is read from its database")
        return stored_rows(world.deployment)
    except CollectError as error:
        world.failures.append(f"what the fleet manager stored is unknown: {error}")
        return []


async def _end_all(machines: Iterable[object]) -> None:
    await asyncio.gather(*(machine.end() for machine in machines if isinstance(machine, RealMachine)))


def _result(world: LiveWorld, events: list[TraceEvent], wall_s: float) -> LiveResult:
    standstills = [each for machine in world.real_machines() for each in machine.standstills]
    late = world.tail.read_too_late()
    return LiveResult(
        delivered=[identity for identity in world.delivered() if identity not in late],
        buffered=[(identity, where) for identity, where in world.buffered() if identity not in late],
        rows=list(world.fleet.rows) if isinstance(world.fleet, RealFleet) else [],
        answers=world.operator.answers,
        without_effect=world.faults.without_effect,
        impossible=world.operator.impossible,
        messages=world.messages(),
        end_us=world.reached_us(),
        wall_s=wall_s,
        lag_p99_ms=lag_p99_ms(events, world.pace.reports_ms(), standstills),
        trip_lag_ms=trip_lag_ms(world.plan, events),
        failures=world.failures,
        complaint=world.complaint,
        remarks=world.remarks,
        broken_lines=world.tail.broken_lines,
        strangers={broker: proxy.strangers for broker, proxy in world.proxies.items() if proxy.strangers},
    )
