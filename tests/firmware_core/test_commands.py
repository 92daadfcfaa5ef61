"""Commands to a node: at most once, answered, and across power loss at any point."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.wire import messages
from firmware.wire.outputs import Alarm, Restart
from tests.firmware_core.rig import NODE, Board, PowerCut


def executions(board: Board) -> list[str]:
    return [event["id"] for event in board.events("command.executed")]


def test_an_alert_sounds_the_alarm_once_and_is_answered_as_often_as_it_is_asked() -> None:
    board = Board().started()
    for _ in range(3):
        board.command("alert", "c-1", state="on", rule="hot")
    assert [(alarm.on, alarm.by) for alarm in board.of(Alarm)] == [(True, "cloud")]
    assert board.sent("ack") == [{"id": "c-1", "status": "done"}] * 3
    assert board.events("alarm.local") == [{"by": "cloud", "id": "c-1", "rule": "hot"}]


def test_the_id_is_on_flash_before_the_command_acts() -> None:
    board = Board().started()
    board.forget()
    board.command("alert", "c-1")
    kinds = [type(o).__name__ for o in board.outputs]
    assert kinds.index("Store") < kinds.index("Alarm")
    assert board.flash.slots["journal"][0][0] == "c-1"


def test_a_restart_reports_restarted_after_the_boot_and_never_restarts_again() -> None:
    board = Board().started()
    board.command("restart", "c-1")
    assert len(board.of(Restart)) == 1 and board.sent("ack") == []
    board.forget()
    board.started()
    assert board.sent("ack") == [{"id": "c-1", "status": "restarted"}]
    board.command("restart", "c-1")
    assert not board.of(Restart)
    assert board.sent("ack")[-1] == {"id": "c-1", "status": "restarted"}


def test_an_unknown_action_fails_with_a_reason_and_does_nothing() -> None:
    board = Board().started()
    board.command("self-destruct", "c-1")
    (answer,) = board.sent("ack")
    assert answer["status"] == "failed" and answer["reason"]
    assert executions(board) == []


@pytest.mark.parametrize("key", [b"x" * 32, b""])
def test_a_command_that_is_not_authentic_is_counted_and_not_obeyed(key: bytes) -> None:
    board = Board().started()
    board.forget()
    board.receive("cmd", messages.encode_command("restart", "c-1", 1000, "cloud", {}), key=key)
    board.raw(f"clawland/{NODE}/cmd", messages.encode_command("restart", "c-2", 1000, "cloud", {}))
    assert board.kinds() == ["message.rejected"] * 2
    assert not board.of(Restart) and not board.sent("ack")


def test_a_command_that_flash_refused_is_not_obeyed_and_may_be_asked_again() -> None:
    board = Board().started()
    board.refuse_stores = True
    board.command("alert", "c-1")
    assert executions(board) == []
    board.refuse_stores = False
    board.command("alert", "c-1")
    assert executions(board) == ["c-1"]
    assert board.sent("ack")[-1]["status"] == "done"


@pytest.mark.parametrize("count", [5, 16, 17, 40])
def test_many_commands_at_once_run_at_most_once_each_though_all_are_sent_again(count: int) -> None:
    board = Board().started()
    for _ in range(3):
        for number in range(count):
            board.command("alert", f"c-{number}")
    assert len(executions(board)) == len(set(executions(board)))


def lives_through(cut_after: int, action: str) -> Board:
    """The command arrives, the power goes after `cut_after` outputs, comes back, and the gateway asks again."""
    board = Board().started()
    board.cut_after = cut_after
    with contextlib.suppress(PowerCut):
        board.command(action, "c-1")
    board.cut_after = None
    for _ in range(2):
        if not board.powered:
            board.power_on(board.now_ms + 5_000)
        board.link_up()
        board.command(action, "c-1")
    return board


@pytest.mark.parametrize("action", ["alert", "restart"])
@pytest.mark.parametrize("cut_after", range(8))
def test_a_command_runs_at_most_once_wherever_the_power_goes(cut_after: int, action: str) -> None:
    board = lives_through(cut_after, action)
    assert len(board.of(Restart if action == "restart" else Alarm)) <= 1
    assert len(executions(board)) <= 1
    answers = {answer["status"] for answer in board.sent("ack")}
    assert len(answers) >= 1
    assert answers <= {"done", "failed", "restarted"}


@pytest.mark.parametrize("cut_after", range(8))
def test_an_alert_that_reports_done_has_sounded(cut_after: int) -> None:
    board = lives_through(cut_after, "alert")
    if any(answer["status"] == "done" for answer in board.sent("ack")):
        assert len(board.of(Alarm)) == 1


@pytest.mark.parametrize("cut_after", range(40))
def test_no_identity_is_ever_used_for_two_readings_wherever_the_power_goes(cut_after: int) -> None:
    """Ten outputs into its life or in the middle of a sample: the next boot has a number of its own."""
    board = Board()
    board.cut_after = cut_after
    said: dict[tuple[int, int], float] = {}
    value = 2000
    for life in range(6):
        try:
            board.power_on(life * 100_000)
            board.link_up()
            for _ in range(4):
                value += 1
                board.sampled(value)
        except PowerCut:
            board.cut_after = cut_after // 2 if life < 3 else None
    for found in board.sent("temp"):
        assert said.setdefault((found["boot"], found["seq"]), found["value"]) == found["value"]
    boots = [event["boot"] for event in board.events("node.started")]
    assert len(boots) == len(set(boots))


@given(
    st.lists(
        st.tuples(st.sampled_from(["sample", "up", "down", "ack", "cmd", "time"]), st.integers(0, 30)), max_size=25
    )
)
def test_what_no_gateway_acknowledged_and_nobody_named_lost_is_on_flash_after_any_power_cuts(
    steps: list[tuple[str, int]],
) -> None:
    board = Board(backlog_readings=5).power_on()
    acknowledged: set[tuple[int, int]] = set()
    for step, number in steps:
        board.cut_after = number if number < 8 else None
        try:
            _do(board, step, acknowledged)
        except PowerCut:
            board.cut_after = None
        if not board.powered:
            board.cut_after = None
            board.power_on(board.now_ms + 1_000)
    sent = {(found["boot"], found["seq"]) for found in board.sent("temp")}
    lost = {(event["boot"], event["seq"]) for event in board.events("reading.lost")}
    produced = {(event["boot"], event["seq"]) for event in board.events("reading.produced")}
    kept = set(board.flash.readings)
    assert (produced | sent) - acknowledged - lost <= kept
    assert len(kept) <= 6


def _do(board: Board, step: str, acknowledged: set[tuple[int, int]]) -> None:
    if step == "sample":
        board.sampled(2100)
    elif step == "up":
        board.link_up()
    elif step == "down":
        board.link_down()
    elif step == "cmd":
        board.command("alert", f"c-{len(board.outputs)}")
    elif step == "time":
        board.at(board.now_ms + 31_000)
    else:
        mine = {seq for boot, seq in board.flash.readings if boot == board.boot}
        if mine:
            acknowledged |= {(board.boot, seq) for seq in mine}
            board.received(min(mine), max(mine))
