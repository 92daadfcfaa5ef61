"""Which bug is planted where, and which check has to catch it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from clawsim.scenario import Plan
from clawsim.virtual.machines import Cores
from clawsim.virtual.world import VirtualWorld
from tests.planted import cores as planted
from tests.planted.cores import with_
from tests.virtual.scenes import HOT_RULE, Seen, fault, node, run, scene

NOTHING_MISSING: list[dict[str, Any]] = [
    {"name": "nothing is lost", "readings": "lost", "equals": 0},
    {"name": "nothing stays behind", "readings": "buffered", "equals": 0},
]
HOT_AT_3_MIN = {
    "metric": "temp",
    "every": "20 s",
    "signal": {"steps": [{"at": "0 s", "value": 21}, {"at": "3 min", "value": 35}]},
}
HOT_WHILE_AWAY = {
    "metric": "temp",
    "every": "20 s",
    "signal": {"steps": [{"at": "0 s", "value": 21}, {"at": "130 s", "value": 35}, {"at": "200 s", "value": 21}]},
}
NOISY = {"metric": "temp", "every": "20 s", "signal": {"constant": 21, "noise": 1}}
RESTART = {"at": "2 min", "name": "restart", "call": "POST /api/nodes/sensor-01/restart"}


@dataclass(frozen=True)
class Bug:
    """`caught_by` begins the reason that the run gives for its `verdict`; `plan` passes without the bug."""

    name: str
    caught_by: str
    plan: Callable[[], Plan]
    verdict: str = "FAIL"
    cores: type[Cores] = Cores
    world: type[VirtualWorld] = VirtualWorld


def outage() -> Plan:
    """Three minutes without the cloud."""
    return scene(
        duration="8 min",
        expect=NOTHING_MISSING,
        timeline=[fault("cut", "gateway-01 <-> cloud", for_="3 min", name="outage")],
    )


def metered() -> Plan:
    """An uplink that costs money: only summaries go up."""
    expect = [*NOTHING_MISSING, {"name": "all is summarised", "readings": "summarised", "at_least": 10}]
    return scene(gateways=[{"id": "gateway-01", "modes": {"temp": "summary"}}], expect=expect)


def quiet() -> Plan:
    """Nothing happens, so nobody needs to say anything twice."""
    expect = [*NOTHING_MISSING, {"name": "nothing is sent twice", "readings": "redelivered", "equals": 0}]
    return scene(expect=expect)


def stopped_manager() -> Plan:
    """The manager stands still for so long that gateways send again."""
    twice = {"name": "batches came twice", "readings": "redelivered", "at_least": 1}
    return scene(duration="8 min", expect=[*NOTHING_MISSING, twice], timeline=[fault("stop", "fleet", for_="80 s")])


@cache
def dying_manager() -> Plan:
    """The manager dies half a millisecond before a commit ends: its acknowledgement would be out by then."""
    undisturbed = run(scene(duration="5 min"))
    stored_us = undisturbed.first_us("reading.stored")
    at = f"{stored_us - 500} us"
    return scene(duration="5 min", expect=NOTHING_MISSING, timeline=[fault("power", "fleet", at=at, for_="20 s")])


def dying_gateway() -> Plan:
    """The gateway dies a second after readings came, four before they are on disk."""
    return scene(
        duration="6 min", expect=NOTHING_MISSING, timeline=[fault("kill", "gateway-01", at="121 s", for_="10 s")]
    )


def hot_before_the_outage() -> Plan:
    """It gets hot, the cloud says so, and then the cloud is gone."""
    expect = [
        {
            "name": "the alarm is given again",
            "event": "alarm.local",
            "where": {"by": "gateway"},
            "during": "outage",
            "at_least": 1,
        }
    ]
    return scene(
        duration="9 min",
        nodes=[node(count=1, sensors=[HOT_AT_3_MIN])],
        rules=[HOT_RULE],
        expect=expect,
        timeline=[fault("cut", "gateway-01 <-> cloud", at="5 min", for_="3 min", name="outage")],
    )


def hot_while_nobody_listened() -> Plan:
    """It was hot while the gateway was dead, and has long been cool again when anybody hears of it."""
    expect = [*NOTHING_MISSING, {"name": "the past raises no alert", "event": "alert.raised", "equals": 0}]
    return scene(
        duration="12 min",
        nodes=[node(count=1, sensors=[HOT_WHILE_AWAY])],
        rules=[HOT_RULE],
        expect=expect,
        timeline=[fault("kill", "gateway-01", for_="6 min")],
    )


def blinking_node() -> Plan:
    """A node without power for a moment; its sensor never reads the same twice."""
    return scene(
        nodes=[node(count=1, sensors=[NOISY])],
        expect=NOTHING_MISSING,
        timeline=[fault("power", "sensor-01", for_="10 s")],
    )


def dark_node() -> Plan:
    """A node without power for five minutes, of which people have to hear."""
    expect = [
        {"name": "the node is declared down", "event": "node.down", "who": "sensor-01", "within": "310 s", "equals": 1},
        {"name": "people are told", "event": "notification.sent", "within": "320 s", "at_least": 1},
    ]
    return scene(duration="9 min", expect=expect, timeline=[fault("power", "sensor-01", for_="5 min")])


def restart() -> Plan:
    """Somebody restarts a node."""
    expect = [
        {
            "name": "the node restarts once",
            "event": "node.started",
            "who": "sensor-01",
            "after": "restart",
            "equals": 1,
        },
        {"name": "the caller gets the answer", "call": "restart", "status": 200, "within": "30 s"},
    ]
    return scene(expect=expect, timeline=[RESTART])


def restart_over_a_slow_line() -> Plan:
    """Somebody restarts a node whose answers take so long that everybody asks again."""
    expect = [{"name": "it runs once", "event": "command.executed", "who": "sensor-01", "equals": 1}]
    slow = fault("delay", "gateway-01 <-> cloud", at="100 s", for_="80 s", add="9 s")
    return scene(duration="8 min", expect=expect, timeline=[slow, RESTART])


BUGS = (
    Bug(
        "a gateway that drops its outbox on reconnect",
        r"\d+ readings unaccounted",
        outage,
        cores=with_(gateway=planted.DropsItsOutbox),
    ),
    Bug("a gateway that never catches up", "nothing stays behind", outage, cores=with_(gateway=planted.NeverCatchesUp)),
    Bug(
        "a fleet manager that stores twice, and a table that lets it",
        r"\d+ readings duplicated",
        stopped_manager,
        cores=with_(fleet=planted.StoresTwice, database=planted.TakesCopies),
    ),
    Bug(
        "a node that never clears its backlog",
        r"\d+ readings lie at sensor-01 though they were delivered",
        quiet,
        cores=with_(node=planted.NeverClears),
    ),
    Bug(
        "a fault that is announced but not applied",
        "fault outage had no effect",
        outage,
        "INVALID",
        world=planted.AnnouncingWorld,
    ),
    Bug(
        "a fault that is not applied and said to be effective",
        "fault outage had no effect",
        outage,
        "INVALID",
        world=planted.LyingWorld,
    ),
    Bug(
        "a link that says it is cut and lets everything through",
        "fault outage had no effect",
        outage,
        "INVALID",
        world=planted.LeakingWorld,
    ),
    Bug(
        "a link that holds one message of a cut and lets the others through",
        "fault outage had no effect",
        outage,
        "INVALID",
        world=planted.SieveWorld,
    ),
    Bug(
        "a fleet manager that stores what nobody took",
        r"\d+ readings phantom",
        quiet,
        cores=with_(fleet=planted.InventsReadings),
    ),
    Bug(
        "a fleet manager that acknowledges before the commit, and dies",
        r"\d+ readings unaccounted",
        dying_manager,
        cores=with_(fleet=planted.AcknowledgesBeforeTheCommit),
    ),
    Bug(
        "a gateway that acknowledges before the disk has it, and dies",
        r"\d+ readings unaccounted",
        dying_gateway,
        cores=with_(gateway=planted.AcknowledgesTooEarly),
    ),
    Bug(
        "a node that forgets its commands with the power",
        "the node restarts once",
        restart,
        cores=with_(node=planted.ForgetsItsCommands),
    ),
    Bug(
        "a fleet manager that asks again under another id",
        "it runs once",
        restart_over_a_slow_line,
        cores=with_(fleet=planted.SendsCommandsAnew),
    ),
    Bug(
        "a gateway that never gives alarms again when the cloud goes",
        "the alarm is given again",
        hot_before_the_outage,
        cores=with_(gateway=planted.NeverReissuesAlarms),
    ),
    Bug(
        "a fleet manager that takes late readings for the present",
        "the past raises no alert",
        hot_while_nobody_listened,
        cores=with_(fleet=planted.BelievesLateReadings),
    ),
    Bug(
        "a gateway that summarises and does not say what",
        r"\d+ readings unaccounted",
        metered,
        cores=with_(gateway=planted.HidesWhatItSummarised),
    ),
    Bug(
        "a node that reuses its boot number",
        r"\d+ readings reused",
        blinking_node,
        cores=with_(node=planted.ReusesItsBootNumber),
    ),
    Bug(
        "a gateway that never misses a node",
        "the node is declared down",
        dark_node,
        cores=with_(gateway=planted.NeverMissesANode),
    ),
    Bug("a fleet manager that tells nobody", "people are told", dark_node, cores=with_(fleet=planted.NeverTellsPeople)),
)


def plant(bug: Bug) -> Seen:
    """The run with the bug in it."""
    return run(bug.plan(), bug.cores, bug.world)
