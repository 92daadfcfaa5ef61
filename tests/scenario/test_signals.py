"""Signals: integers in the metric's resolution, the same whoever asks and in whatever order."""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.hal.recording import RecordingError, parse_time, read_recording
from firmware.hal.signals import SignalError, signal_from_spec

SINE = {"kind": "sine", "mean": 27, "amplitude": 6, "period_ms": 1_200_000, "phase_ms": 0, "exp": 2, "type": "number"}
NOISY = {"kind": "constant", "value": 20, "exp": 2, "type": "number", "noise": 0.5, "seed": 7}


def test_a_sine_passes_its_mean_and_its_peaks() -> None:
    sine = signal_from_spec(SINE)
    assert [sine.value_at(t_ms) for t_ms in (0, 300_000, 600_000, 900_000, 1_200_000)] == [2700, 3300, 2700, 2100, 2700]


def test_a_phase_is_a_start_later_in_the_period() -> None:
    assert signal_from_spec(SINE | {"phase_ms": 300_000}).value_at(0) == 3300


def test_a_sine_repeats_exactly_after_a_year() -> None:
    sine = signal_from_spec(SINE)
    year_ms = 26_280 * 1_200_000
    assert all(sine.value_at(t_ms) == sine.value_at(t_ms + year_ms) for t_ms in range(0, 99_999, 777))


def test_constants_round_half_to_even_on_what_people_wrote() -> None:
    constant = {"kind": "constant", "exp": 2, "type": "number"}
    values = [signal_from_spec(constant | {"value": value}).value_at(0) for value in (21.345, 21.355, -0.005, 27)]
    assert values == [2134, 2136, 0, 2700]


def test_steps_hold_until_the_next_and_are_instants_of_their_own() -> None:
    steps = [{"at_ms": 1000, "value": False}, {"at_ms": 2000, "value": True}]
    door = signal_from_spec({"kind": "steps", "steps": steps, "exp": 0, "type": "bool"})
    assert [door.value_at(t_ms) for t_ms in (0, 1000, 1999, 2000, 9999)] == [False, False, False, True, True]
    assert list(door.instants(1500)) == [(2000, True)]


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.integers(1, 10**9), st.integers(0, 10**9))
def test_a_ramp_stays_between_its_ends_and_reaches_them(start: int, end: int, over_ms: int, t_ms: int) -> None:
    ramp = signal_from_spec(
        {"kind": "ramp", "from": start, "to": end, "over_ms": over_ms, "at_ms": 5, "exp": 0, "type": "number"}
    )
    assert (ramp.value_at(0), ramp.value_at(over_ms + 5)) == (start, end)
    assert min(start, end) <= int(ramp.value_at(t_ms)) <= max(start, end)


def test_noise_depends_on_seed_and_time_and_on_no_order_of_calls() -> None:
    one, other = signal_from_spec(NOISY), signal_from_spec(NOISY)
    times = range(0, 60_000, 1000)
    assert [one.value_at(t) for t in times] == [other.value_at(t) for t in reversed(times)][::-1]
    assert one.value_at(1) != signal_from_spec(NOISY | {"seed": 8}).value_at(1)


def test_noise_has_the_standard_deviation_that_was_asked_for_and_no_bias() -> None:
    noisy = signal_from_spec(NOISY)
    values = [int(noisy.value_at(t)) for t in range(20_000)]
    assert statistics.fmean(values) == pytest.approx(2000, abs=1.5)
    assert statistics.pstdev(values) == pytest.approx(50, rel=0.03)


def test_noise_is_pinned_so_that_recorded_runs_stay_reproducible() -> None:
    assert [signal_from_spec(NOISY).value_at(t) for t in (0, 60_000, 120_000)] == [1968, 1940, 2003]


def test_a_specification_survives_json() -> None:
    for spec in (SINE, NOISY):
        assert signal_from_spec(json.loads(json.dumps(spec))).value_at(77) == signal_from_spec(spec).value_at(77)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"kind": "cosine"},
        {"kind": "sine"},
        {"kind": "constant", "value": "x", "exp": 2, "type": "number"},
        {"kind": "constant", "value": 1, "exp": 2, "type": "bool"},
        SINE | {"period_ms": 0},
        {"kind": "steps", "steps": [], "exp": 0, "type": "number"},
        NOISY | {"seed": 2**64},
    ],
)
def test_a_specification_that_makes_no_sense_is_a_signal_error(spec: dict[str, Any]) -> None:
    with pytest.raises(SignalError):
        signal_from_spec(spec)


def _csv(folder: Path, *lines: str) -> str:
    path = folder / "r.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_a_recording_counts_from_its_first_row_and_holds_each_value(tmp_path: Path) -> None:
    path = _csv(tmp_path, "time,x", "2026-01-01T00:00:10Z,1.25", "2026-01-01T00:01:10+00:00,2.5")
    spec = {"kind": "recording", "path": path, "column": "x", "time": "time", "exp": 1, "type": "number"}
    signal = signal_from_spec(spec)
    assert list(signal.instants()) == [(0, 12), (60_000, 25)]
    assert [signal.value_at(t_ms) for t_ms in (0, 59_999, 60_000, 10**9)] == [12, 12, 25, 25]


def test_a_start_leaves_out_the_rows_before_it(tmp_path: Path) -> None:
    path = _csv(tmp_path, "time,x", "2026-01-01T00:00:00,1", "2026-01-01T01:00:00,2")
    found = read_recording(path, "x", start="2026-01-01T00:30:00Z")
    assert found.times_ms == (1_800_000,)


def test_a_looping_recording_goes_on_for_ever_with_even_spacing(tmp_path: Path) -> None:
    path = _csv(tmp_path, "time,x", *(f"2026-01-01T00:0{n}:00,{n}" for n in range(3)))
    spec = {"kind": "recording", "path": path, "column": "x", "time": "time", "loop": True, "exp": 0, "type": "number"}
    signal = signal_from_spec(spec)
    expected = [(n * 60_000, n % 3) for n in range(1000)]
    assert list(itertools.islice(signal.instants(), 1000)) == expected
    assert list(itertools.islice(signal.instants(59_999_000), 2)) == [(60_000_000, 1), (60_060_000, 2)]
    assert all(signal.value_at(t_ms) == value for t_ms, value in expected)


def test_a_recording_of_one_row_can_loop_without_going_round_for_ever(tmp_path: Path) -> None:
    path = _csv(tmp_path, "time,x", "2026-01-01T00:00:00,1")
    spec = {"kind": "recording", "path": path, "column": "x", "time": "time", "loop": True, "exp": 0, "type": "number"}
    assert list(signal_from_spec(spec).instants()) == [(0, 1)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([""], "is empty; the first row must name the columns|has no column"),
        (["time,y", "2026-01-01,1"], ":1: has no column 'x'; its columns are: time, y"),
        (["time,X1,xx", "2026-01-01,1,1"], ":1: has no column 'x'; did you mean 'xx'?"),
        (["time,x", "2026-01-01,"], ":2: no value in column 'x'; fill it, or leave such rows out with `gaps: skip`"),
        (["time,x", "2026-01-01,warm"], ":2: 'warm' in column 'x' is not a number"),
        (["time,x", "2026-01-01,nan"], ":2: 'nan' in column 'x' is not a number"),
        (["time,x", "2026-01-01"], ":2: has 1 cells where the header has 2"),
        (["time,x", "yesterday,1"], ":2: 'yesterday' is not an ISO 8601 time such as"),
        (["time,x", "2026-01-02,1", "2026-01-02,1"], ":3: time '2026-01-02' is not after the row before it"),
        (["time,x"], "no row is left to replay"),
    ],
)
def test_a_recording_that_cannot_be_used_says_where_and_what_to_do(
    tmp_path: Path, lines: list[str], expected: str
) -> None:
    with pytest.raises(RecordingError) as caught:
        read_recording(_csv(tmp_path, *lines), "x")
    assert any(part in str(caught.value) for part in expected.split("|"))


def test_gaps_are_left_out_when_the_scenario_says_so_but_text_never_is(tmp_path: Path) -> None:
    path = _csv(tmp_path, "time,x", "2026-01-01T00:00:00,1", "2026-01-01T00:01:00,", "2026-01-01T00:02:00,3")
    assert read_recording(path, "x", gaps="skip").times_ms == (0, 120_000)
    wrong = tmp_path / "text.csv"
    wrong.write_text("time,x\n2026-01-01T00:00:00,n/a\n")
    with pytest.raises(RecordingError, match="is not a number"):
        read_recording(str(wrong), "x", gaps="skip")


def test_only_the_first_problems_of_a_hopeless_file_are_listed(tmp_path: Path) -> None:
    path = _csv(tmp_path, "time,x", *["never,1"] * 1000)
    with pytest.raises(RecordingError) as caught:
        read_recording(path, "x")
    assert len(caught.value.problems) == 11


def test_files_that_are_no_csv_say_so(tmp_path: Path) -> None:
    (tmp_path / "bytes.csv").write_bytes(b"time,x\n\xff\xfe,1\n")
    for path, expected in (
        (tmp_path / "none.csv", "no such file"),
        (tmp_path, "is a directory"),
        (tmp_path / "bytes.csv", "not UTF-8"),
        (Path("/dev/zero"), "not a regular file"),
        (Path("nul\0"), "null"),
    ):
        with pytest.raises(RecordingError, match=expected):
            read_recording(str(path), "x")


@given(st.binary(max_size=200))
def test_no_content_of_a_csv_file_raises_anything_but_a_recording_error(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "r.csv"
    path.write_bytes(b"time,x\n2026-01-01," + content)
    with contextlib.suppress(RecordingError):
        read_recording(str(path), "x")


OFFICE = Path(__file__).parents[2].parent / "shared" / "data" / "office-room.csv"


@pytest.mark.skipif(not OFFICE.exists(), reason="the office recording is not beside this checkout")
def test_the_office_recording_replays_every_row_at_its_own_time() -> None:
    spec = {"kind": "recording", "path": str(OFFICE), "column": "co2_ppm", "time": "time", "exp": 1, "type": "number"}
    found = list(signal_from_spec(spec).instants())
    lines = OFFICE.read_text().splitlines()[1:]
    assert len(found) == len(lines)
    first_ms = parse_time(lines[0].split(",")[0])
    for (t_ms, value), line in zip(found, lines, strict=True):
        cells = line.split(",")
        assert t_ms == parse_time(cells[0]) - first_ms
        assert value == round(float(cells[4]) * 10)
