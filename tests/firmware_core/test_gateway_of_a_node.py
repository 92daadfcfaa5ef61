"""A node and its gateway: joining, signs of life, silence, and the search for another."""

import itertools

import pytest

from firmware.wire import messages
from firmware.wire.outputs import Connect, Disconnect, Scan
from tests.firmware_core.rig import HOME, NODE, TEMP, Board

FALLBACK = {"id": "gateway-02", "target": "10.0.0.2:1883", "fleet": "clawland", "role": "secondary", "load": 0}


def silent_board() -> Board:
    """Connected, answered at instant 0, and then nothing more."""
    board = Board().started()
    board.alive()
    return board


def test_a_node_says_nothing_before_its_boot_number_is_on_flash() -> None:
    board = Board()
    board.refuse_stores = True
    board.power_on()
    board.core.sampled(0, 2100, 0)
    board.core.receive("up", f"clawland/{NODE}/cmd", b"x", 0)
    board.core.on_timer(0)
    board.pump()
    assert not board.of(Connect) and not board.sends() and "reading.produced" not in board.kinds()


def test_a_node_whose_flash_refused_its_boot_number_tries_again() -> None:
    board = Board()
    board.refuse_stores = True
    board.power_on()
    board.refuse_stores = False
    board.at(120_000)
    assert "node.started" in board.kinds()
    assert board.of(Connect)


def test_each_boot_has_a_number_one_higher_and_a_blank_board_draws_one() -> None:
    board = Board(seed=1).power_on()
    first = board.boot
    for _ in range(3):
        board.power_on()
    assert board.boot == first + 3
    assert Board(seed=2).power_on().boot != first


def test_the_boot_number_wraps_within_thirty_bits() -> None:
    board = Board()
    board.flash.slots["boot"] = messages.MAX_BOOT
    assert board.power_on().boot == 0


def test_a_node_joins_with_a_heartbeat_that_carries_its_fleet_and_join_count() -> None:
    board = Board().started()
    (heartbeat,) = board.sent("heartbeat")
    assert (heartbeat["fleet"], heartbeat["attach"], heartbeat["n"]) == ("clawland", 1, 1)
    assert heartbeat["boot"] == board.boot and heartbeat["interval_ms"] == 60_000


def test_heartbeats_come_every_minute() -> None:
    board = silent_board()
    board.forget()
    beats = []
    for now_ms in range(0, 600_000, 500):
        before = len(board.sent("heartbeat"))
        board.at(now_ms)
        board.alive()
        if len(board.sent("heartbeat")) > before:
            beats.append(now_ms)
    gaps = {later - earlier for earlier, later in itertools.pairwise(beats)}
    assert gaps == {60_000}
    assert len(beats) == 10


def test_a_beacon_follows_thirty_seconds_without_a_word_and_a_reading_stands_for_one() -> None:
    board = silent_board()
    board.forget()
    board.at(29_999)
    assert board.sent("beacon") == []
    board.at(60_500)
    assert len(board.sent("beacon")) + len(board.sent("heartbeat")) >= 1
    talker = Board(sensors=[TEMP | {"every_ms": 20_000}]).started()
    for now_ms in range(0, 300_000, 1_000):
        talker.at(now_ms)
        talker.alive()
    assert talker.sent("beacon") == []


def test_no_thirty_seconds_pass_in_which_a_connected_node_says_nothing() -> None:
    board = silent_board()
    said_ms = [0]
    for now_ms in range(0, 300_000, 250):
        board.forget()
        board.at(now_ms)
        said_ms += [now_ms] * bool(board.sends())
        board.alive()
    assert max(later - earlier for earlier, later in itertools.pairwise(said_ms)) <= 30_500


def test_at_ninety_seconds_of_silence_a_node_waits_and_after_them_it_scans() -> None:
    board = silent_board()
    board.at(90_000)
    assert not board.of(Scan)
    board.at(90_001)
    assert len(board.of(Scan)) == 1
    assert board.events("failover.scan") == [{"gateway": "gateway-01", "silent_ms": 90_001}]


def test_an_unauthentic_word_does_not_end_the_silence() -> None:
    board = silent_board()
    board.at(60_000)
    board.receive("received", messages.encode_received(board.boot, None, [], 2), key=b"x" * 32)
    board.at(90_001)
    assert len(board.of(Scan)) == 1


def test_an_old_answer_played_again_does_not_end_the_silence() -> None:
    board = silent_board()
    for now_ms in (20_000, 40_000, 60_000, 80_000):
        board.at(now_ms)
        board.receive("received", messages.encode_received(board.boot, None, [], 1))
    board.at(90_001)
    assert len(board.of(Scan)) == 1


def test_an_answer_from_an_earlier_boot_does_not_end_the_silence() -> None:
    board = silent_board()
    board.at(60_000)
    board.receive("received", messages.encode_received(board.boot - 1, None, [], 50))
    board.at(90_001)
    assert len(board.of(Scan)) == 1


def test_a_node_that_finds_nobody_goes_on_scanning_and_trying_its_own_gateway() -> None:
    board = silent_board()
    board.link_down()
    board.at(90_001)
    board.found()
    board.forget()
    board.at(300_000)
    assert len(board.of(Scan)) >= 6
    assert {connect.target for connect in board.of(Connect)} == {HOME["target"]}


def test_a_connection_on_which_nobody_answers_is_dialled_anew_when_there_is_nobody_else() -> None:
    """A gateway that lost its power says no goodbye: the connection is dead and looks alive."""
    board = silent_board()
    board.at(90_001)
    board.forget()
    board.found()
    board.at(95_000)
    assert [type(o) for o in board.outputs if isinstance(o, Connect | Disconnect)][:2] == [Disconnect, Connect]
    assert board.of(Connect)[0].target == HOME["target"]
    board.link_up()
    assert board.sent("heartbeat")[-1]["attach"] == 1, "the same gateway: no new join"


@pytest.mark.parametrize(
    "stranger",
    [
        FALLBACK | {"fleet": "other"},
        {k: v for k, v in FALLBACK.items() if k != "fleet"},
        FALLBACK | {"id": "gateway-01"},
    ],
)
def test_a_gateway_of_another_fleet_or_the_silent_one_itself_is_not_joined(stranger: dict[str, object]) -> None:
    board = silent_board()
    board.at(90_001)
    board.forget()
    board.found(stranger)
    board.at(150_000)  # it drops a connection that may be dead, and dials its own gateway again
    assert {connect.target for connect in board.of(Connect)} == {HOME["target"]}
    assert board.flash.slots.get("attach", {"n": 1})["n"] == 1


def test_the_join_count_is_on_flash_before_the_node_connects_to_the_other() -> None:
    board = silent_board()
    board.at(90_001)
    board.forget()
    board.found(FALLBACK)
    kinds = [type(o).__name__ for o in board.outputs]
    assert kinds.index("Disconnect") < kinds.index("Store") < kinds.index("Connect")
    assert board.of(Connect)[-1].target == FALLBACK["target"]
    assert board.flash.slots["attach"]["n"] == 2
    board.link_up()
    assert board.sent("heartbeat")[-1]["attach"] == 2
    assert "failover.joined" not in board.kinds()
    board.alive()
    assert board.events("failover.joined") == [{"gateway": "gateway-02", "attach": 2}]


def test_primaries_are_preferred_then_the_least_loaded() -> None:
    board = silent_board()
    board.at(90_001)
    board.found(
        FALLBACK | {"id": "gateway-05", "target": "e", "role": "primary", "load": 30},
        FALLBACK | {"id": "gateway-03", "target": "c", "role": "primary", "load": 3},
        FALLBACK,
    )
    assert board.of(Connect)[-1].target == "c"


def test_the_join_survives_a_power_loss() -> None:
    board = silent_board()
    board.at(90_001)
    board.found(FALLBACK)
    board.forget()
    board.power_on(200_000)
    board.at(200_000)
    assert board.of(Connect)[0].target == FALLBACK["target"]


def at_the_fallback() -> Board:
    board = silent_board()
    board.at(90_001)
    board.found(FALLBACK)
    board.link_up()
    board.alive()
    board.forget()
    return board


def test_told_to_rejoin_a_node_answers_and_goes_home_with_a_higher_join_count_on_flash() -> None:
    board = at_the_fallback()
    board.command("rejoin", "gateway-02:1:1", gateway=HOME["id"])
    assert board.sent("ack")[-1]["status"] == "done"
    kinds = [type(o).__name__ for o in board.outputs]
    assert kinds.index("Disconnect") < kinds.index("Connect")
    assert board.of(Connect)[-1].target == HOME["target"]
    assert board.flash.slots["attach"] == {"n": 3, "gateway": HOME}
    board.forget()
    board.link_up()
    assert board.sent("heartbeat")[-1]["attach"] == 3
    assert board.sent("ack") == [{"id": "gateway-02:1:1", "status": "done"}], "and there once more"
    board.alive()
    assert board.events("failover.joined") == [{"gateway": "gateway-01", "attach": 3}]


def test_a_node_that_finds_nobody_at_home_comes_back() -> None:
    board = at_the_fallback()
    board.command("rejoin", "gateway-02:1:1", gateway=HOME["id"])
    board.at(board.now_ms + 90_001)
    assert board.of(Scan)
    board.found(FALLBACK)
    assert board.of(Connect)[-1].target == FALLBACK["target"] and board.flash.slots["attach"]["n"] == 4


def test_a_node_goes_to_its_home_and_nowhere_else() -> None:
    board = at_the_fallback()
    board.command("rejoin", "gateway-02:1:1", gateway="gateway-07")
    assert board.sent("ack")[-1] == {"id": "gateway-02:1:1", "status": "failed", "reason": "not its home"}
    assert not board.of(Connect)


def test_a_gateway_that_speaks_up_during_the_scan_is_kept() -> None:
    board = silent_board()
    board.at(90_001)
    board.alive()
    board.forget()
    board.found(FALLBACK)
    assert not board.of(Connect)
    board.at(90_001 + 60_000)
    assert not board.of(Scan)


def test_a_node_whose_flash_refuses_the_join_count_does_not_stay_alone() -> None:
    board = silent_board()
    board.at(90_001)
    board.refuse_stores = True
    board.found(FALLBACK)
    board.refuse_stores = False
    board.forget()
    board.at(400_000)
    board.found(FALLBACK | {"id": "gateway-01", "target": HOME["target"]}, FALLBACK)
    board.at(500_000)
    assert board.of(Connect)


def test_what_the_dead_gateway_never_acknowledged_goes_to_the_fallback() -> None:
    board = silent_board()
    board.sampled(2100)
    board.sampled(2200)
    board.received(0, 0)
    board.at(95_000)
    board.at(200_000)
    board.found(FALLBACK)
    board.forget()
    board.link_up()
    board.at(board.now_ms)
    assert board.seqs() == [1]


def test_connections_are_tried_again_with_growing_delays_and_given_up_when_they_hang() -> None:
    board = Board().power_on()
    tried = []
    for now_ms in range(0, 120_000, 100):
        before = len(board.of(Connect))
        board.at(now_ms)
        if len(board.of(Connect)) > before:
            tried.append(now_ms)
            if len(tried) < 5:
                board.link_down()
    gaps = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert gaps[0] <= 1_100 and gaps[3] >= 4_000
    assert len(board.of(Disconnect)) >= 1  # the fifth hung


def wired_board() -> Board:
    board = Board(wired=True).started()
    board.alive()
    return board


def test_a_node_at_a_cable_sends_no_beacons_while_its_gateway_is_heard() -> None:
    board = wired_board()
    for now_ms in range(0, 600_000, 30_000):
        board.at(now_ms)
        board.alive()
    assert not board.sent("beacon")
    assert len(board.sent("heartbeat")) >= 10


def test_a_node_at_a_cable_never_scans_but_begins_anew_with_a_silent_gateway() -> None:
    board = wired_board()
    board.forget()
    board.at(90_000)
    assert board.sent("beacon"), "it asks for a sign of life"
    assert not board.of(Disconnect)
    board.at(300_000)
    assert not board.of(Scan) and "failover.scan" not in board.kinds()
    assert board.of(Disconnect) and {output.target for output in board.of(Connect)} == {HOME["target"]}


def test_a_node_that_was_elsewhere_and_is_put_to_a_cable_joins_the_gateway_there() -> None:
    board = Board(wired=True)
    board.flash.slots["attach"] = {"n": 4, "gateway": {"id": "gateway-02", "target": "10.0.0.2:1883"}}
    board.started()
    assert board.sent("heartbeat")[0]["attach"] == 5
    assert board.flash.slots["attach"] == {"n": 5, "gateway": HOME}
    board.power_on()
    board.link_up()
    assert board.sent("heartbeat")[-1]["attach"] == 5


def test_a_node_that_is_home_again_finds_home_where_its_configuration_says() -> None:
    board = Board()
    board.flash.slots["attach"] = {"n": 2, "gateway": {"id": HOME["id"], "target": "/dev/ttyUSB0"}}
    board.power_on().at(0)
    assert [output.target for output in board.of(Connect)] == [HOME["target"]]
