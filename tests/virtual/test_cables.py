"""Virtual nodes at serial cables: the real frames, on a wire whose faults are those of a wire."""

import random

import pytest

from clawsim.virtual.clock import Clock
from clawsim.virtual.link import DOWN, UP
from clawsim.virtual.wire import Wire
from tests.virtual.scenes import fault, node, run, scene

CABLE = "sensor-01 <-> gateway-01"
WIRED = [node(link="serial")]


@pytest.mark.parametrize(
    "disturbance",
    [
        fault("cut", CABLE),
        fault("loss", CABLE, rate="60 %"),
        fault("delay", CABLE, add="3 s"),
        fault("stop", "gateway-01"),
        fault("stop", "sensor-01"),
        fault("kill", "gateway-01"),
        fault("power", "sensor-01"),
    ],
    ids=lambda entry: f"{entry['fault']} {entry['on'].partition(' ')[0]}",
)
def test_whatever_happens_to_cable_node_or_gateway_every_reading_is_delivered_once(
    disturbance: dict[str, object],
) -> None:
    seen = run(scene(nodes=WIRED, timeline=[disturbance]))
    account = seen.outcome.account
    assert seen.outcome.verdict == "PASS", seen.outcome.reasons
    assert account.produced == account.delivered > 20
    assert (account.unaccounted, account.phantom, account.duplicated) == (0, 0, 0)
    assert seen.of("message.rejected") == []


def test_a_node_at_a_cable_stays_with_its_gateway_when_that_dies_beside_another() -> None:
    gateways = [{"id": "gateway-01"}, {"id": "gateway-02", "role": "secondary"}]
    dead = fault("kill", "gateway-01", for_=None)
    seen = run(scene(gateways=gateways, nodes=WIRED, timeline=[dead], duration="8 min"))
    assert seen.of("failover.scan", "failover.joined") == []
    assert seen.outcome.account.produced == seen.outcome.account.delivered + seen.outcome.account.buffered.total()


def test_a_command_reaches_a_node_at_a_cable_and_its_answer_comes_back() -> None:
    call = {"at": "2 min", "name": "restart", "call": "POST /api/nodes/sensor-01/restart", "as": "operator"}
    seen = run(scene(nodes=WIRED, timeline=[call]))
    [answer] = seen.of("command.acknowledged")
    assert answer.fields["status"] == "restarted"


def wire(loss: float = 0.0) -> tuple[Wire, Clock, list[tuple[int, bytes]]]:
    env, heard = Clock(), list[tuple[int, bytes]]()
    made = Wire(env, ("a", "b"), 1000, 0, loss, random.Random(3))
    for direction in (UP, DOWN):
        made.hear[direction] = lambda data: heard.append((env.now_us, data))
    return made, env, heard


def test_bytes_take_the_time_that_the_line_needs_for_them() -> None:
    cable, env, heard = wire()
    assert cable.carry(UP, b"x" * 1152) == 100_000
    env.run_until(1_000_000)
    assert heard == [(101_000, b"x" * 1152)]


def test_what_a_cut_swallows_never_arrives_and_is_evidence() -> None:
    cable, env, heard = wire()
    cable.cut()
    cable.carry(UP, b"gone\n")
    cable.heal()
    cable.carry(UP, b"here\n")
    env.run_until(1_000_000)
    assert [data for _, data in heard] == [b"here\n"]
    assert (cable.blocked, cable.crossed_while_cut) == (1, 0)


def test_a_loss_turns_one_bit_of_a_line_and_leaves_its_end() -> None:
    cable, env, heard = wire()
    cable.loss = 1.0
    cable.carry(DOWN, b"one\ntwo\n")
    env.run_until(1_000_000)
    [(_, data)] = heard
    lines = data.split(b"\n")
    assert len(data) == 8 and cable.disturbed == 2
    assert all(bin(int.from_bytes(got) ^ int.from_bytes(sent)).count("1") == 1
               for got, sent in zip(lines, (b"one", b"two"), strict=False))  # fmt: skip
