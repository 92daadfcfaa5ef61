"""A node that fled to this gateway goes home by policy, one at a time, and not while nobody can say that home is up."""

from typing import Any

import pytest

from firmware.wire.messages import encode_beacon
from fleet.wire import snapshot
from tests.nanoclaw_core.rig import BOOT, EPOCH_MS, GATEWAY, HOT, KEY, NODE_KEYS, Station

MIN_MS = 60_000
HOME = "gateway-00"
HOMES = {"homes": dict.fromkeys(NODE_KEYS, HOME)}


class Refuge(Station):
    """A gateway that nodes fled to. Their home has been up since `home_since_ms`; None: it is not."""

    home_since_ms: int | None = None

    def from_cloud(self, verb: str, message: dict[str, Any]) -> None:
        if verb == "heartbeat/ack" and self.home_since_ms is not None and "up" not in message:
            message = message | {"up": {HOME: self.now_ms - self.home_since_ms}}
        super().from_cloud(verb, message)

    def with_guests(self, *nodes: str) -> "Refuge":
        self.online()
        built = snapshot.build(2, [HOT], NODE_KEYS, GATEWAY, KEY, bytes(12), places=HOMES)
        self.from_cloud("config", built)
        for node in nodes or ("sensor-01",):
            self.heartbeat(node, attach=2, interval_ms=3_600_000)
        self.later(5_000)
        self.forget()
        return self

    def sent_home(self) -> list[str]:
        return [event["node"] for event in self.events("failback.ordered")]

    def home_comes_up(self) -> None:
        self.home_since_ms = self.now_ms

    def goes(self, node: str = "sensor-01") -> None:
        """The node answers and is gone, as the cloud tells."""
        self.answer(self.to_node("cmd", node)[-1]["id"], node=node)
        self.command("c-1", target=None, action="release", params={"node": node, "attach": 99})


def refuge(policy: str = "after", **config: Any) -> Refuge:
    return Refuge(failback=policy, failback_after_ms=2 * MIN_MS, failback_hold_ms=5 * MIN_MS, **config)


def test_by_default_nobody_is_sent_home() -> None:
    station = Refuge().with_guests()
    station.home_comes_up()
    station.later(60 * MIN_MS)
    assert station.sent_home() == []


@pytest.mark.parametrize("policy", ["idle", "after"])
def test_a_node_is_sent_home_when_that_has_been_up_for_the_hold_time(policy: str) -> None:
    station = refuge(policy).with_guests()
    station.later(30 * MIN_MS)
    assert station.sent_home() == [], "its home is not up"
    station.home_comes_up()
    station.later(5 * MIN_MS)
    assert station.sent_home() == []
    station.later(MIN_MS)
    assert station.sent_home() == ["sensor-01"]
    (command,) = station.to_node("cmd")[:1]
    assert (command["action"], command["gateway"], command["by"]) == ("rejoin", HOME, "gateway")


def test_the_hold_time_counts_from_when_the_node_came_even_if_its_home_seems_to_be_up() -> None:
    station = refuge()
    station.home_since_ms = -90 * MIN_MS  # it died a minute ago, and the cloud has not noticed
    station.with_guests()
    station.later(4 * MIN_MS)
    assert station.sent_home() == []


def test_a_home_that_started_anew_counts_from_its_start() -> None:
    station = refuge().with_guests()
    station.home_comes_up()
    station.later(4 * MIN_MS)
    station.home_comes_up()
    station.later(40_000)
    station.home_since_ms = -90 * MIN_MS
    station.later(4 * MIN_MS)
    assert station.sent_home() == []
    station.later(2 * MIN_MS)
    assert station.sent_home() == ["sensor-01"]


def test_after_waits_longer_than_the_hold_time_if_it_says_so() -> None:
    station = Refuge(failback="after", failback_after_ms=20 * MIN_MS, failback_hold_ms=MIN_MS).with_guests()
    station.home_comes_up()
    station.later(19 * MIN_MS)
    assert station.sent_home() == []
    station.later(2 * MIN_MS)
    assert station.sent_home() == ["sensor-01"]


def test_nodes_go_one_by_one() -> None:
    station = refuge().with_guests("sensor-01", "sensor-02")
    station.home_comes_up()
    for _ in range(400):
        station.later(0 if station.sent_home() else 1_000)
    assert station.sent_home() == ["sensor-01"]
    station.later(9_000)
    assert station.sent_home() == ["sensor-01"]
    station.later(2_000)
    assert station.sent_home() == ["sensor-01", "sensor-02"]


def test_idle_waits_for_what_is_under_way() -> None:
    station = refuge("idle").with_guests()
    station.home_comes_up()
    station.reading(35.0, 0)  # an alert about it is open
    station.later(10 * MIN_MS)
    assert station.sent_home() == []
    station.reading(20.0, 1)
    station.command("c-5", expires_utc_ms=EPOCH_MS + 90 * MIN_MS)
    station.later(10 * MIN_MS)
    assert station.sent_home() == [], "a command waits for it"
    station.answer("c-5")
    station.later(MIN_MS)
    assert station.sent_home() == ["sensor-01"]


def test_a_node_that_comes_back_stays_twice_as_long_the_next_time() -> None:
    station = refuge().with_guests()
    station.home_comes_up()
    station.later(6 * MIN_MS)
    station.goes()
    station.heartbeat(attach=100, n=1, interval_ms=3_600_000)
    station.forget()
    station.later(9 * MIN_MS)
    assert station.sent_home() == []
    station.later(2 * MIN_MS)
    assert station.sent_home() == ["sensor-01"]


def test_while_the_cloud_is_away_nobody_is_sent_anywhere() -> None:
    station = refuge().with_guests()
    station.home_comes_up()
    station.later(MIN_MS)
    station.lose_uplink()
    station.later(60 * MIN_MS)
    assert station.sent_home() == []


def test_a_node_at_home_stays_there() -> None:
    station = refuge()
    station.home_comes_up()
    station.online()
    homes = {"homes": dict.fromkeys(NODE_KEYS, GATEWAY)}
    station.from_cloud("config", snapshot.build(2, [HOT], NODE_KEYS, GATEWAY, KEY, bytes(12), places=homes))
    station.heartbeat(interval_ms=3_600_000)
    station.later(30 * MIN_MS)
    assert station.sent_home() == []


@pytest.mark.parametrize("up", [[], {"A": 1}, {HOME: -1}, {HOME: "long"}, 3], ids=str)
def test_peers_that_make_no_sense_are_refused_and_counted(up: object) -> None:
    station = refuge().with_guests()
    station.from_cloud("heartbeat/ack", {"v": 1, "n": 1, "up": up})
    assert station.kinds() == ["message.rejected"]


def test_an_answer_that_came_by_another_gateway_ends_the_command() -> None:
    station = refuge().with_guests()
    station.home_comes_up()
    station.later(6 * MIN_MS)
    command = station.to_node("cmd")[-1]
    station.forget()
    params = {"id": command["id"], "node": "sensor-01", "status": "done"}
    station.command("c-2", target=None, action="answered", params=params)
    (event,) = station.events("command.acknowledged")
    assert event == {"id": command["id"], "action": "rejoin", "target": "sensor-01", "status": "done"}
    station.later(MIN_MS)
    assert station.to_node("cmd") == [] and station.events("command.expired") == []


def test_answers_of_nobody_are_none() -> None:
    station = refuge().with_guests()
    params = {"id": "gateway-01:1:1", "node": "sensor-01", "status": "done"}
    station.command("c-2", target=None, action="answered", params=params)
    station.command("c-3", target=None, action="answered", params={})
    assert station.kinds() == ["message.rejected"]


def test_a_board_of_another_fleet_is_left_alone() -> None:
    station = refuge().with_guests()
    station.heartbeat("sensor-02", fleet="neighbours", attach=9)
    station.raw("nodes", "clawland/sensor-02/beacon", encode_beacon("neighbours", BOOT, 2, 9))
    assert station.kinds() == ["message.rejected", "message.rejected"]
    assert station.to_node("received", "sensor-02") == [] and station.core.status()["nodes_up"] == 1
