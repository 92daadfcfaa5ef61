"""One body of claims, two worlds: every test that takes `world` runs against both, and where nodes fail also against
nodes on MicroPython."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conformance.runs import Rehearsal, Runs, Spec
from tests.conftest import FULL

SCENARIOS = ("upload", "command", "cloud-outage", "gateway-failover", "node-failure")
LONGEST = pytest.mark.timeout(3600 if FULL else 300)
"""A test may have to wait for every run that was begun before its own."""
LIVE = pytest.param("live", marks=[pytest.mark.live, LONGEST])
MICROPYTHON = pytest.param("micropython", marks=[pytest.mark.live, LONGEST])
ON_MICROPYTHON = SCENARIOS if FULL else ("node-failure",)
"""The scenarios that also run with nodes on MicroPython: the one in which power fails, and all under CLAWSIM_FULL=1."""
MOSQUITTO = ("cloud-outage", "gateway-failover")
"""The scenarios that also run on the real broker; all of them under CLAWSIM_FULL=1."""
MIXTURES = (("fleet",), ("hub",), ("gateways",), ("nodes",), ("gateway-01", "sensor-01"))

Rehearse = Callable[..., Rehearsal]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Runs]:
    """The runs of this session; those that the chosen tests name in `needs` are begun at once."""
    made = Runs(tmp_path_factory.mktemp("runs"))
    for item in request.session.items:
        for spec in _needed(item):
            made.prepare(spec)
    yield made
    made.close()


def _needed(item: pytest.Item) -> list[Spec]:
    """The runs that a chosen test will ask for, told from its parameters."""
    call = getattr(item, "callspec", None)
    if call is None or item.path.parent.name != "conformance":
        return []
    if isinstance(call.params.get("spec"), Spec):
        return [call.params["spec"]]
    scenario = call.params.get("scenario") or getattr(item.module, "SCENARIO", None)
    return [Spec(scenario, call.params["world"])] if scenario and "world" in call.params else []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the runs on MicroPython that are for the long counts."""
    unwanted = {item for item in items if any(_is_long(spec) for spec in _needed(item))}
    config.hook.pytest_deselected(items=list(unwanted))
    items[:] = [item for item in items if item not in unwanted]


def _is_long(spec: Spec) -> bool:
    return spec.world == "micropython" and spec.scenario not in ON_MICROPYTHON


@pytest.fixture(params=["virtual", LIVE, MICROPYTHON])
def world(request: pytest.FixtureRequest) -> str:
    """Both worlds, one after the other."""
    return str(request.param)


@pytest.fixture
def run(runs: Runs, world: str, request: pytest.FixtureRequest) -> Rehearsal:
    """The run of the module's SCENARIO in this world."""
    return runs.get(Spec(request.module.SCENARIO, world))


def brokers() -> list[Spec]:
    """Live runs on Mosquitto."""
    return [Spec(name, "live", broker="mosquitto") for name in (SCENARIOS if FULL else MOSQUITTO)]


def mixtures() -> list[Spec]:
    """Runs of which only some parts are real."""
    found = [Spec("short", "mixed", real=parts) for parts in MIXTURES] + [Spec("calls", "mixed", real=("gateways",))]
    if FULL:
        found += [Spec(name, "mixed", real=("gateways",)) for name in SCENARIOS]
        found += [Spec(name, "mixed", real=("nodes",)) for name in SCENARIOS]
    return found
