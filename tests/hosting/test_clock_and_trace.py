"""Clocks that processes share, the protocol that hands them out, and the trace that survives SIGKILL."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firmware.hosting.clock import ScaledClock, WallClock
from firmware.hosting.simclock import INHERITED_CLOCK, SimClockError, inheritable, parse_clock
from firmware.hosting.trace import NoTrace, TraceFile, open_trace


def test_a_scaled_clock_runs_as_many_times_faster_and_stands_still_before_its_t0() -> None:
    t0 = time.monotonic_ns() - 2_000_000_000
    clock = ScaledClock(t0, 30, 1_000_000)
    assert 60_000 <= clock.now_ms() < 66_000
    assert clock.utc_ms() - clock.now_ms() in (1_000_000, 1_000_001)
    assert clock.wall_s(30_000) == 1.0
    assert clock.wall_s(-5) == 0.0
    assert ScaledClock(time.monotonic_ns() + 10**9, 30, 7).now_ms() == 0  # time stands still until t0


def test_a_wall_clock_counts_from_power_on() -> None:
    clock = WallClock()
    assert 0 <= clock.now_ms() < 1000
    assert clock.utc_ms() > 1_700_000_000_000


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"t0_monotonic_ns": 1, "timescale": 0, "epoch_utc_ms": 1}',
        b'{"t0_monotonic_ns": 1, "timescale": true, "epoch_utc_ms": 1}',
        b"\xff",
    ],
)
def test_a_line_that_is_no_clock_says_what_is_wrong(line: bytes) -> None:
    with pytest.raises(SimClockError, match="--sim-clock: "):
        parse_clock(line)


def test_a_clock_survives_being_handed_on() -> None:
    clock = ScaledClock(123, 30, 456)
    assert parse_clock(inheritable(clock)[INHERITED_CLOCK]) == clock
    assert inheritable(WallClock()) == {}


def test_a_trace_is_one_json_line_an_event_appended_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    for _ in range(2):
        trace = TraceFile(path, "sensor-01")
        trace.write("node.up", {"node": "é"}, 5)
        trace.close()
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"t_ms": 5, "kind": "node.up", "who": "sensor-01", "node": "é"}] * 2


def test_without_a_file_nothing_is_traced() -> None:
    trace = open_trace(None, "x")
    assert isinstance(trace, NoTrace)
    trace.write("node.up", {}, 1)


def test_a_full_disk_costs_lines_and_one_log_record_never_a_torn_line_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "trace"
    trace = TraceFile(path, "x")
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[:7]))
    trace.write("torn", {}, 1)

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    trace.write("lost", {}, 2)
    trace.write("lost", {}, 3)
    monkeypatch.undo()
    trace.write("whole", {}, 4)
    assert json.loads(path.read_text().splitlines()[1])["kind"] == "whole"
    assert len(caplog.records) == 1


STAND_BY = """
from firmware.hosting.lifecycle import run_process, stop_on_signals
from firmware.hosting.simclock import start_clock
async def main():
    stop = stop_on_signals()
    clock = await start_clock(True, {"some_port": 4711}, stop)
    print(clock.now_ms(), flush=True)
    await stop.wait()
run_process(main())
"""


def _stand_by() -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", STAND_BY], stdin=pipe, stdout=pipe, stderr=pipe)


@pytest.mark.live
def test_a_process_says_it_is_ready_waits_for_t0_and_ends_with_its_stdin() -> None:
    with _stand_by() as child:
        assert child.stdin is not None and child.stdout is not None
        assert json.loads(child.stdout.readline()) == {"ready": True, "pid": child.pid, "some_port": 4711}
        clock = ScaledClock(time.monotonic_ns() + 200_000_000, 30, 0)
        child.stdin.write(json.dumps(clock.as_dict()).encode() + b"\n")
        child.stdin.flush()
        assert 0 <= int(child.stdout.readline()) < 30_000
        child.stdin.close()
        assert child.wait(10) == 0


@pytest.mark.live
@pytest.mark.parametrize(("line", "code"), [(b"", 0), (b"garbage\n", 2)])
def test_no_clock_is_a_quiet_end_and_a_bad_one_an_error(line: bytes, code: int) -> None:
    with _stand_by() as child:
        _, err = child.communicate(line, 10)
        assert child.returncode == code
        assert b"Traceback" not in err
        assert (b"--sim-clock" in err) == bool(code)
