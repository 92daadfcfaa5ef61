"""The live world tells the story that was asked for, accounts for every reading, and leaves nothing behind."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from clawsim.live.options import LiveOptions
from clawsim.live.processes import ProcessFailed
from clawsim.live.run import run_live
from clawsim.scenario.plan import Action, CallAction, FaultAction, InjectAction, Plan
from clawsim.trace import EventLog
from tests.live.plans import plan
from tests.live.stage import WITH_WALL_TIME_IN_IT, Played, children_of, eventually, nobody_listens, play, ports_of

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]
S = 1_000_000
OUTAGE = FaultAction("outage", 40 * S, "cut", "gateway-01 <-> cloud", (("gateway-01", "hub"),), for_us=150 * S)
ROOT = Path(__file__).resolve().parents[2]


def story(*timeline: Action, nodes: int = 2, gateways: int = 1, minutes: float = 4) -> Plan:
    return plan(nodes=nodes, gateways=gateways, minutes=minutes, timeline=timeline)


def everything_is_delivered(played: Played) -> None:
    account = played.account
    assert account.balanced and account.delivered == account.produced > 0, account
    assert not played.result.buffered
    assert not played.result.broken_lines and not played.result.strangers
    assert not played.result.lagged, (played.result.lag_p99_ms, played.result.trip_lag_ms)
    assert not played.result.failures and not played.result.remarks
    assert max(event.t_us for event in played.events) <= played.result.end_us


def the_outage_is_rehearsed(played: Played) -> None:
    """60–90 s after the cut the gateway is offline, less the delay of one heartbeat; then it catches up."""
    assert played.result.without_effect == [] and played.result.impossible == []
    offline_s = next(event.t_us / 1e6 for event in played.of("gateway.offline") if event.t_us > OUTAGE.at_us)
    assert 40 + 55 <= offline_s <= 40 + 95
    back_s = max(event.t_us / 1e6 for event in played.of("gateway.online") if event.t_us <= 235 * S)
    assert 190 <= back_s <= 235
    assert played.of("gateway.caught-up", "gateway-01")
    assert played.of("fault.cleared")[0].fields["touched"] > 0
    everything_is_delivered(played)


@pytest.mark.parametrize("broker", ["embedded", "mosquitto"])
async def test_an_outage_of_the_cloud_with_everything_real(tmp_path: Path, broker: str) -> None:
    if broker == "mosquitto" and not shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip("Mosquitto is not installed")
    the_outage_is_rehearsed(await play(story(OUTAGE), tmp_path, broker=broker))


@pytest.mark.parametrize(
    "real",
    [
        ["fleet"],
        ["hub"],
        ["gateways"],
        ["nodes"],
        pytest.param(["hub", "nodes"], marks=pytest.mark.full),
        pytest.param(["fleet", "gateway-01"], marks=pytest.mark.full),
        pytest.param(["fleet", "hub", "gateways"], marks=pytest.mark.full),
        pytest.param(["sensor-02", "gateway-01"], marks=pytest.mark.full),
    ],
    ids=lambda real: "+".join(real),
)
async def test_an_outage_of_the_cloud_with_a_part_real_and_the_rest_virtual(tmp_path: Path, real: list[str]) -> None:
    the_outage_is_rehearsed(await play(story(OUTAGE), tmp_path, real))


@pytest.mark.parametrize(
    "real", [[], ["gateway-01"], pytest.param(["nodes"], marks=pytest.mark.full)], ids=["all", "gateway-01", "nodes"]
)
async def test_nodes_of_a_gateway_without_power_find_the_other(tmp_path: Path, real: list[str]) -> None:
    crash = FaultAction("crash", 30 * S, "power", "gateway-01", entity="gateway-01", for_us=240 * S)
    played = await play(story(crash, gateways=2, minutes=6), tmp_path, real, WITH_WALL_TIME_IN_IT)
    scans = played.of("failover.scan")
    assert {event.who for event in scans} == {"sensor-01", "sensor-02"}
    assert all(event.fields["silent_ms"] > 90_000 for event in scans)
    joined = {(event.who, event.fields["gateway"]) for event in played.of("failover.joined")}
    assert joined >= {("sensor-01", "gateway-02"), ("sensor-02", "gateway-02")}
    everything_is_delivered(played)


@pytest.mark.parametrize("real", [[], ["sensor-02"]], ids=["all", "sensor-02"])
async def test_a_node_without_power_is_down_and_comes_back_with_its_flash(tmp_path: Path, real: list[str]) -> None:
    crash = FaultAction("crash", 70 * S, "power", "sensor-02", entity="sensor-02", for_us=200 * S)
    played = await play(story(crash, minutes=6), tmp_path, real)
    down = played.of("node.down")
    assert [event.fields["node"] for event in down] == ["sensor-02"]
    assert 70 + 115 <= down[0].t_us / 1e6 <= 70 + 185
    boots = [event.fields["boot"] for event in played.of("node.started", "sensor-02")]
    assert boots[1] == boots[0] + 1
    everything_is_delivered(played)


@pytest.mark.parametrize("who", ["fleet", pytest.param("hub", marks=pytest.mark.full), "gateway-01"])
async def test_a_killed_server_is_replaced_and_nothing_acknowledged_is_lost(tmp_path: Path, who: str) -> None:
    crash = FaultAction("crash", 70 * S, "kill", who, entity=who, for_us=60 * S)
    played = await play(story(crash), tmp_path)
    assert played.result.without_effect == []
    started = played.of(f"{who.rstrip('-01')}.started", who)
    assert len(started) == 2 and started[1].t_us >= 130 * S
    everything_is_delivered(played)


async def test_a_stopped_gateway_goes_on_where_it_stopped_and_is_not_called_late(tmp_path: Path) -> None:
    stop = FaultAction("stop", 70 * S, "stop", "gateway-01", entity="gateway-01", for_us=40 * S)
    played = await play(story(stop), tmp_path)
    assert played.result.without_effect == []
    assert len(played.of("gateway.started")) == 1
    everything_is_delivered(played)


async def test_calls_are_answered_and_garbage_is_refused_under_the_senders_name(tmp_path: Path) -> None:
    played = await play(
        story(
            CallAction("reboot", 60 * S, "POST", "/api/nodes/sensor-01/restart", None, "operator"),
            CallAction("stranger", 60 * S, "POST", "/api/nodes/sensor-01/restart", None, "anonymous"),
            CallAction("onlooker", 60 * S, "POST", "/api/nodes/sensor-01/restart", None, "viewer"),
            InjectAction("garbage", 90 * S, "sensor-02", "gateway-01", "clawland/sensor-02/temp", b"\xff\x00{"),
            InjectAction("spoofed", 90 * S, "sensor-02", "gateway-01", "clawland/sensor-01/temp", b'{"value": 99}'),
            InjectAction("nonsense", 90 * S, "gateway-01", "hub", "clawland/gateway-01/batch", b"{]"),
        ),
        tmp_path,
        timescale=WITH_WALL_TIME_IN_IT,
    )
    answers = played.result.answers
    assert {name: answer["status"] for name, answer in answers.items()} == {
        "reboot": 200,
        "stranger": 401,
        "onlooker": 403,
    }
    assert answers["reboot"]["body"]["result"] == "success"
    assert len(played.of("node.started", "sensor-01")) == 2
    assert len(played.of("node.started", "sensor-02")) == 1
    rejected = {(event.who, event.fields["topic"]) for event in played.of("message.rejected")}
    assert rejected == {
        ("gateway-01", "clawland/sensor-02/temp"),
        ("gateway-01", "clawland/sensor-01/temp"),
        ("fleet", "clawland/gateway-01/batch"),
    }
    everything_is_delivered(played)


async def test_a_node_that_is_powered_later_starts_later(tmp_path: Path) -> None:
    base = story(minutes=3)
    late = replace(base, nodes=(base.nodes[0], replace(base.nodes[1], power_on_us=90 * S)))
    played = await play(late, tmp_path)
    assert played.first_s("node.started", "sensor-01") < 30 <= 90 <= played.first_s("node.started", "sensor-02") < 120
    everything_is_delivered(played)


async def test_a_run_leaves_no_process_and_no_port(tmp_path: Path) -> None:
    seen: set[int] = set()
    before = ports_of([os.getpid()])

    def look(_: int) -> None:
        if not seen:
            seen.update(ports_of([os.getpid(), *(child.pid for child in children_of(os.getpid()))]) - before)

    await play(story(minutes=1), tmp_path, progress=look)
    assert len(seen) >= 5  # two proxies, two brokers, one API
    assert not children_of(os.getpid())
    assert all(nobody_listens(port) for port in seen)


@pytest.mark.parametrize(
    ("command_line", "who", "remarks"),
    [
        ("nanoclaw.cli", "gateway-01", []),
        ("main() serve", "fleet", ["the fleet manager could not be asked: what it stored is read from its database"]),
    ],
)
async def test_a_process_that_someone_else_kills_ends_the_run_with_its_name_and_every_reading_accounted_for(
    tmp_path: Path, command_line: str, who: str, remarks: list[str]
) -> None:
    def murder(t_us: int) -> None:
        for child in children_of(os.getpid()):
            if t_us > 130 * S and command_line in " ".join(child.cmdline()):
                child.kill()

    played = await play(story(), tmp_path, progress=murder)
    assert not children_of(os.getpid())
    assert played.result.failures == [f"{who} ended unexpectedly (killed by SIGKILL): the run was broken off"]
    assert played.result.complaint.startswith(f"{who} ended unexpectedly (killed by SIGKILL)")
    assert played.result.remarks == remarks
    died = played.of("process.died")
    assert [(event.who, event.fields["reason"]) for event in died] == [(who, "killed by SIGKILL")]
    account = played.account
    assert died[0].t_us == played.result.end_us and account.produced > 0
    assert account.delivered > 0 and not (account.unaccounted or account.phantom or account.duplicated), account
    assert account.delivered + account.buffered.total() == account.produced


RUN = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from tests.live.test_run import story
    from clawsim.live.options import LiveOptions
    from clawsim.live.run import run_live
    from clawsim.trace import EventLog

    def tell(t_us):
        if t_us > 1_000_000:
            print("running", flush=True)

    options = LiveOptions(Path({directory!r}), 60, progress=tell)
    try:
        asyncio.run(run_live(story(), EventLog(), options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
    """
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: str(number.name))
def test_a_run_that_is_broken_off_leaves_no_process_and_no_port(tmp_path: Path, number: signal.Signals) -> None:
    script = RUN.format(root=str(ROOT), directory=str(tmp_path / "run"))
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "running\n"
    children = children_of(parent.pid)
    ports = ports_of([parent.pid, *(child.pid for child in children)])
    assert len(children) >= 5 and len(ports) >= 5
    os.kill(parent.pid, number)
    assert parent.wait(timeout=30) == (-9 if number == signal.SIGKILL else 130)
    parent.stdout.close()
    assert eventually(lambda: not any(child.is_running() for child in children))
    assert all(nobody_listens(port) for port in ports)


async def test_a_process_that_cannot_start_ends_the_run_with_its_own_words(tmp_path: Path) -> None:
    key = tmp_path / "run" / "config" / "sensor-01.key"
    task = asyncio.create_task(run_live(story(minutes=1), EventLog(), LiveOptions(tmp_path / "run")))
    while not key.exists():  # noqa: ASYNC110 - files send no event
        await asyncio.sleep(0.001)
    key.write_text("not a key\n")
    with pytest.raises(ProcessFailed, match=r"sensor-01 ended before it was ready \(exit code 2\)[^$]*sensor-01"):
        await task
    assert not children_of(os.getpid())
