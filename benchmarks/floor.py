"""The floor of the virtual day: what bare SimPy costs for the same traffic, with nothing in it."""

import time
from collections.abc import Iterator

from simpy import Environment, Event

NODES = 500
PERIOD_US = 60_000_000
READING_TIMEOUTS = 3
HEARTBEAT_TIMEOUTS = 2


def _node(env: Environment, phase_us: int) -> Iterator[Event]:
    """A minute of a node: three time-outs for its reading, two for its heartbeat."""
    yield env.timeout(phase_us)
    step_us = PERIOD_US // (READING_TIMEOUTS + HEARTBEAT_TIMEOUTS)
    while True:
        for _ in range(READING_TIMEOUTS + HEARTBEAT_TIMEOUTS):
            yield env.timeout(step_us)


def floor_cpu_s(simulated_s: int) -> float:
    """CPU seconds of bare SimPy for `simulated_s` of 500 processes."""
    env = Environment()
    for index in range(NODES):
        env.process(_node(env, index * PERIOD_US // NODES))
    started_s = time.process_time()
    env.run(until=simulated_s * 1_000_000)
    return time.process_time() - started_s
