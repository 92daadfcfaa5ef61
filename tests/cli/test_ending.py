"""However a run ends, nothing of it stays behind: no process, no port, no temporary file."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.command import (
    CLAWSIM,
    EXPECT_ALL,
    TINY,
    Running,
    assert_refused,
    clawsim,
    nobody_listens,
    running,
    scenario,
    until,
)

ENDING = [signal.SIGINT, signal.SIGTERM]
GONE_S = 10


def _assert_nothing_left(run: Running, ports: set[int]) -> None:
    until(lambda: not run.children(), "every child is gone", GONE_S)
    until(lambda: nobody_listens(ports), "every port is free", GONE_S)


# --- virtual ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ENDING)
def test_a_virtual_run_that_is_interrupted_is_exit_code_130_and_what_it_wrote_is_whole(
    tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    events = out / "events.jsonl"
    arguments = ["run", scenario(tmp_path), "--set", "duration=300 d", "--set", "fleet.nodes.0.count=20", "--out", out]
    with running(tmp_path, *arguments) as run:
        until(lambda: events.exists() and events.stat().st_size > 1_000_000, "the run is under way")
        run.send(number)
        code, said, complained = run.end()
    assert (code, said, complained) == (130, "", "interrupted: nothing was left running\n")
    assert all(json.loads(line)["kind"] for line in events.read_text().splitlines())
    assert not (out / "summary.json").exists()
    assert list(run.temporary.iterdir()) == []


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("after_s", [0.03, 0.1, 0.2, 0.35])
def test_whoever_interrupts_while_it_still_loads_gets_the_same_word(
    tmp_path: Path, number: signal.Signals, after_s: float
) -> None:
    with running(tmp_path, "run", scenario(tmp_path), "--set", "duration=300 d") as run:
        until(lambda: _handles_signals(run), "the interpreter runs our first lines")
        time.sleep(after_s)  # somewhere among the imports, wherever that is on this machine
        run.send(number)
        assert run.end() == (130, "", "interrupted: nothing was left running\n")


def _handles_signals(run: Running) -> bool:
    """Whether the process catches SIGTERM: that is its own first act; until then any signal is the interpreter's."""
    status = Path(f"/proc/{run.process.pid}/status").read_text()
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_run_that_ends_early_leaves_no_verdict_of_the_run_before(tmp_path: Path) -> None:
    out, report = tmp_path / "out", tmp_path / "junit.xml"
    assert clawsim("run", scenario(tmp_path), "--out", out, "--junit", report).returncode == 0
    arguments = ["--set", "duration=300 d", "--set", "fleet.nodes.0.count=20", "--out", out, "--junit", report]
    with running(tmp_path, "run", scenario(tmp_path), *arguments) as run:
        until(lambda: (out / "events.jsonl").stat().st_size > 1_000_000, "the second run is under way")
        run.send(signal.SIGINT)
        assert run.end()[0] == 130
    assert not (out / "summary.json").exists()
    assert "interrupted" in report.read_text()
    assert_refused(clawsim("compare", out, out), 2, r"summary\.json: No such file")


# --- live -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Running]:
    """A live run of a quarter of an hour, which nobody waits for."""
    file = scenario(tmp_path, TINY.replace("5 min", "15 min"))
    with running(tmp_path, "run", file, "--world", "live") as run:
        yield run


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Running]:
    """The same, with results in `out`."""
    file = scenario(tmp_path, TINY.replace("5 min", "15 min") + EXPECT_ALL)
    out = tmp_path / "out"
    with running(tmp_path, "run", file, "--world", "live", "--out", out, "--junit", out / "junit.xml") as run:
        yield run


def _has_stored(run: Running, out: Path) -> set[int]:
    """Waits until the fleet manager has stored a reading, and gives the ports of all."""
    trace = out / "run" / "trace" / "fleet.1.jsonl"
    until(lambda: run.ended() or (trace.exists() and "reading.stored" in trace.read_text()), "a reading is stored")
    assert not run.ended(), run.end()
    return run.ports()


def _events(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]


def _under_way(run: Running) -> set[int]:
    """Waits until every tier runs and gives the ports of all."""
    for tier in ("fleet.cli import main; main() hub", "main() serve", "nanoclaw.cli", "firmware.cli"):
        until(lambda tier=tier: run.ended() or run.child(tier), f"{tier} runs")
    until(lambda: run.ended() or len(run.ports()) >= 5, "hub, fleet manager, gateway and two proxies listen")
    assert not run.ended(), run.end()
    return run.ports()


@pytest.mark.live
@pytest.mark.parametrize("number", ENDING)
def test_a_live_run_that_is_interrupted_leaves_nothing(live: Running, number: signal.Signals) -> None:
    ports = _under_way(live)
    live.send(number)
    code, said, complained = live.end()
    assert (code, said, complained) == (130, "", "interrupted: nothing was left running\n")
    _assert_nothing_left(live, ports)
    assert list(live.temporary.iterdir()) == []


@pytest.mark.live
def test_a_live_run_that_is_interrupted_leaves_the_events_of_so_far_and_no_summary(
    kept: Running, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _has_stored(kept, out)
    kept.send(signal.SIGINT)
    code, said, complained = kept.end()
    assert (code, said, complained) == (130, "", "interrupted: nothing was left running\n")
    kinds = [event["kind"] for event in _events(out)]
    assert {"fleet.started", "node.started", "reading.produced", "reading.stored"} <= set(kinds)
    assert "process.died" not in kinds
    assert not (out / "summary.json").exists()
    assert "interrupted" in (out / "junit.xml").read_text(), "a CI system is told why there is no verdict"


@pytest.mark.live
@pytest.mark.parametrize("number", ENDING)
def test_a_live_run_that_is_interrupted_while_it_starts_leaves_nothing(live: Running, number: signal.Signals) -> None:
    until(live.children, "the first process starts")
    live.send(number)
    code, _, complained = live.end()
    assert (code, complained) == (130, "interrupted: nothing was left running\n")
    _assert_nothing_left(live, set())
    assert list(live.temporary.iterdir()) == []


@pytest.mark.live
def test_an_impatient_second_ctrl_c_leaves_no_process_either(live: Running) -> None:
    ports = _under_way(live)
    live.send(signal.SIGINT)
    live.send(signal.SIGINT)
    code, _, complained = live.end()
    assert code == 130
    assert "Traceback" not in complained
    _assert_nothing_left(live, ports)


@pytest.mark.live
def test_a_live_run_that_is_killed_takes_its_processes_with_it(live: Running) -> None:
    ports = _under_way(live)
    [keys] = live.temporary.glob("*/run/config/gateway-01.key")
    assert (keys.stat().st_mode & 0o777, keys.parents[2].stat().st_mode & 0o777) == (0o600, 0o700)
    live.send(signal.SIGKILL)
    live.end()
    _assert_nothing_left(live, ports)
    until(lambda: not list(live.temporary.iterdir()), "its keys are gone", GONE_S)


@pytest.mark.live
@pytest.mark.parametrize(
    ("command_line", "name"),
    [("main() hub", "hub"), ("main() serve", "fleet"), ("nanoclaw.cli", "gateway-01"), ("firmware.cli", r"sensor-0\d")],
)
def test_a_process_that_somebody_else_kills_ends_the_run_with_its_name_and_all_the_evidence(
    kept: Running, tmp_path: Path, command_line: str, name: str
) -> None:
    out = tmp_path / "out"
    ports = _has_stored(kept, out)
    child = kept.child(command_line)
    assert child is not None
    child.kill()
    code, said, complained = kept.end()
    assert code == 1
    assert re.match(rf"{name} ended unexpectedly \(killed by SIGKILL\)", complained), complained
    assert "Traceback" not in said + complained
    assert re.search(rf"{name} died: killed by SIGKILL", said) and re.search(r"FAIL +tiny, live world", said), said
    _assert_nothing_left(kept, ports)
    assert list(kept.temporary.iterdir()) == []

    summary, events = json.loads((out / "summary.json").read_text()), _events(out)
    assert summary["verdict"] == "FAIL"
    assert re.fullmatch(rf"{name} ended unexpectedly .*: the run was broken off", summary["reasons"][0])
    assert [event["reason"] for event in events if event["kind"] == "process.died"] == ["killed by SIGKILL"]
    assert max(event["t_us"] for event in events) <= summary["simulated_s"] * 1e6
    readings = summary["readings"]
    assert (readings["unaccounted"], readings["phantom"], readings["lost"]) == (0, 0, {})
    assert readings["delivered"] + sum(readings["buffered"].values()) == readings["produced"] > 0
    assert readings["delivered"] >= len([event for event in events if event["kind"] == "reading.stored"]) > 0
    assert "the run was broken off" in (out / "junit.xml").read_text()


@pytest.mark.live
def test_a_process_that_is_killed_before_the_story_has_begun_is_named_and_nothing_is_left(live: Running) -> None:
    child = until(lambda: live.child("main() serve"), "the fleet manager loads its libraries")
    child.kill()
    code, said, complained = live.end()
    assert (code, said) == (1, "")
    assert re.match(r"fleet ended (unexpectedly|before it was ready) \(killed by SIGKILL\)", complained), complained
    _assert_nothing_left(live, set())
    assert list(live.temporary.iterdir()) == []


@pytest.mark.live
def test_a_live_run_whose_disk_is_full_names_the_disk_and_is_exit_code_3(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    _needs_a_mount(mount)
    file = scenario(tmp_path, TINY.replace("5 min", "15 min"))
    fill = "while [ ! -s $0/run/trace/fleet.1.jsonl ]; do sleep 0.1; done; head -c 64M /dev/zero > $0/filler"
    command = f"mount -t tmpfs -o size=8M none {mount}; (sh -c '{fill}' {mount}/out 2>/dev/null) & exec {CLAWSIM}"
    arguments = f"run {file} --world live --out {mount}/out"
    done = subprocess.run([*MOUNTING, f"{command} {arguments}"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert re.fullmatch(rf"{mount}/out/\S+: No space left on device\n", done.stderr), done.stderr


MOUNTING = ("unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c")


def _needs_a_mount(place: Path) -> None:
    """A disk of a known size is a file system of the test's own, which not every machine lets it have."""
    tried = subprocess.run([*MOUNTING, f"mount -t tmpfs -o size=1M none {place}"], capture_output=True)
    if tried.returncode:
        pytest.skip("this machine lets nobody mount a small file system")


@pytest.mark.live
def test_a_run_that_passes_leaves_nothing(tmp_path: Path) -> None:
    file = scenario(tmp_path, TINY.replace("5 min", "2 min") + EXPECT_ALL)
    with running(tmp_path, "run", file, "--world", "live") as run:
        ports = _under_way(run)
        code, said, complained = run.end()
    assert (code, complained) == (0, ""), said
    _assert_nothing_left(run, ports)
    assert list(run.temporary.iterdir()) == []


@pytest.mark.live
def test_a_live_run_may_be_told_a_relative_directory_and_not_start_into_the_results_of_another(tmp_path: Path) -> None:
    scenario(tmp_path, TINY.replace("5 min", "1 min") + EXPECT_ALL)
    arguments = ["run", "scenario.yaml", "--world", "live", "--out", "deep/results"]
    assert clawsim(*arguments, cwd=tmp_path).returncode == 0
    results = tmp_path / "deep" / "results"
    assert json.loads((results / "summary.json").read_text())["verdict"] == "PASS"
    (results / "run" / "inventory.json").rename(results / "run" / "precious.json")
    assert_refused(clawsim(*arguments, cwd=tmp_path), 2, "is not the state of an earlier run")
    assert not (results / "summary.json").exists()


@pytest.mark.live
def test_two_live_runs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    outs = [tmp_path / "a", tmp_path / "b"]
    file = scenario(tmp_path, TINY.replace("5 min", "2 min") + EXPECT_ALL)
    arguments = ["run", file, "--world", "live", "--timescale", "10", "--out"]
    with running(tmp_path, *arguments, outs[0]) as one, running(tmp_path, *arguments, outs[1]) as other:
        _under_way(one)
        _under_way(other)
        assert not one.ports() & other.ports()
        ended = [one.end(), other.end()]
    assert [code for code, _, _ in ended] == [0, 0], ended
    summaries = [json.loads((out / "summary.json").read_text()) for out in outs]
    assert [summary["readings"]["phantom"] for summary in summaries] == [0, 0]
    assert clawsim("compare", *outs).returncode == 0


@pytest.mark.live
def test_a_clock_that_a_process_cannot_follow_is_exit_code_5(tmp_path: Path) -> None:
    file = scenario(tmp_path, TINY.replace("5 min", "3 min"))
    with running(tmp_path, "run", file, "--world", "live", "--json") as run:
        _under_way(run)
        node = run.child("firmware.cli")
        assert node is not None
        until(node.net_connections, "the node's time has begun")
        node.suspend()  # as on a machine that has more to do than it can: no fault of the scenario says so
        time.sleep(2)  # a simulated minute, in which it should have sampled three times
        node.resume()
        code, said, complained = run.end()
    assert (code, json.loads(said)["verdict"]) == (5, "LAGGED"), complained
    assert json.loads(said)["lag_p99_ms"] > 5_000
    assert not run.children()


@pytest.mark.live
def test_no_process_of_a_run_listens_beyond_loopback(live: Running) -> None:
    _under_way(live)
    for process in [psutil.Process(live.process.pid), *live.children()]:
        listening = [c for c in process.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN]
        assert all(each.laddr.ip.startswith("127.") for each in listening), (process.cmdline(), listening)
