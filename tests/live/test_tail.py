"""The traces of many processes become one stream, whatever state a killed one left its file in."""

import json
from pathlib import Path

from clawsim.live.tail import Tail
from clawsim.trace import TraceEvent


def line(t_ms: int, kind: str, who: str, **fields: object) -> str:
    return json.dumps({"t_ms": t_ms, "kind": kind, "who": who, **fields}) + "\n"


def tail_of(*paths: Path) -> tuple[Tail, list[TraceEvent]]:
    seen: list[TraceEvent] = []
    tail = Tail(seen.append)
    for path in paths:
        tail.add(path)
    return tail, seen


def test_events_are_told_as_their_lines_are_completed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    tail, seen = tail_of(path)
    assert tail.poll() == 0  # the file is not there yet
    whole = line(5, "node.down", "gateway-01", node="sensor-01")
    path.write_text(whole[:10])
    assert tail.poll() == 0
    with path.open("a") as file:
        file.write(whole[10:])
    assert tail.poll() == 1
    assert seen == [TraceEvent(5000, "node.down", "gateway-01", {"node": "sensor-01"})]
    assert tail.poll() == 0


def test_the_whole_run_is_in_order_of_time_and_each_file_in_its_own_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    a.write_text(line(1, "a1", "a") + line(7, "a2", "a") + line(7, "a3", "a"))
    b.write_text(line(3, "b1", "b") + line(7, "b2", "b"))
    tail, _ = tail_of(a, b)
    tail.say(TraceEvent(4_500, "fault.requested", "world", {}))
    assert [event.kind for event in tail.merged()] == ["a1", "b1", "fault.requested", "a2", "a3", "b2"]


def test_a_torn_last_line_is_counted_and_costs_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line(1, "a1", "a") + line(2, "a2", "a")[:15])
    tail, _ = tail_of(path)
    assert [event.kind for event in tail.merged()] == ["a1"]
    assert tail.broken_lines == 1


def test_garbage_between_events_is_counted_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    garbage = ["\x00\xff{", "[1, 2]", '{"t_ms": "x", "kind": "k", "who": "w"}', '{"kind": "k"}', "null", "7"]
    path.write_bytes(("\n".join([*garbage, line(2, "a2", "a")])).encode("latin-1"))
    tail, seen = tail_of(path)
    tail.poll()
    assert [event.kind for event in seen] == ["a2"]
    assert tail.broken_lines == len(garbage)


def test_what_processes_say_after_the_end_is_neither_told_nor_part_of_the_story(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line(4, "a1", "a") + line(5, "a2", "a"))
    tail, seen = tail_of(path)
    tail.end_us = 5000
    with path.open("a") as file:
        file.write(line(6, "node.down", "a", node="sensor-01"))
    assert tail.poll() == 3
    assert [event.kind for event in seen] == [event.kind for event in tail.merged()] == ["a1", "a2"]


def test_an_event_that_was_heard_before_anybody_knew_of_the_end_is_no_part_of_the_story_either(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line(4, "a1", "a") + line(7, "a2", "a"))
    tail, _ = tail_of(path)
    tail.poll()
    tail.end_us = 5000
    assert [event.kind for event in tail.merged()] == ["a1"]


def test_of_what_happens_after_the_end_the_ledger_hears_what_its_later_evidence_needs(tmp_path: Path) -> None:
    """The loss of a reading of the run is told at the last instant, a reading of after the run is named as such."""
    path = tmp_path / "a.jsonl"
    produced = [line(t, "reading.produced", "sensor-01", boot=1, seq=t) for t in (4, 6)]
    lost = [line(7, "reading.lost", "gateway-01", node="sensor-01", boot=1, seq=t, cause="full") for t in (4, 6)]
    path.write_text("".join([*produced, *lost]))
    tail, _ = tail_of(path)
    tail.end_us = 5000
    told = [(event.t_us, event.kind, event.fields["seq"]) for event in tail.merged()]
    assert told == [(4000, "reading.produced", 4), (5000, "reading.lost", 4)]
    assert tail.read_too_late() == {("sensor-01", 1, 6)}
