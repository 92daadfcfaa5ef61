"""The scenarios of the project, and what every run promises: the ledger adds up, the log is the same again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clawsim.scenario import Plan
from tests.virtual.scenes import ROOT, SCENARIOS, node, run, scenario, scene

RUN_ALL = """
import sys
from pathlib import Path
from clawsim.run import run_virtual
from clawsim.scenario import load
for name in sys.argv[2:]:
    run_virtual(load(f"scenarios/{name}.yaml"), Path(sys.argv[1]) / name)
"""


@pytest.mark.parametrize("name", SCENARIOS)
def test_it_passes_and_its_ledger_adds_up(name: str) -> None:
    seen = run(scenario(name))
    outcome, account = seen.outcome, seen.outcome.account
    assert outcome.verdict == "PASS", outcome.reasons
    assert account.produced == len(seen.of("reading.produced")) > 0
    reduced = account.summarised + account.suppressed
    assert account.produced == account.delivered + account.lost.total() + account.buffered.total() + reduced
    assert (account.unaccounted, account.phantom, account.duplicated) == (0, 0, 0)


def runs_of(folder: Path, hash_seed: str, *names: str) -> dict[str, bytes]:
    """`events.jsonl` of each scenario, run in a process of its own."""
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    subprocess.run([sys.executable, "-c", RUN_ALL, str(folder), *names], cwd=ROOT, env=environment, check=True)
    return {name: (folder / name / "events.jsonl").read_bytes() for name in names}


def test_the_same_seed_gives_the_same_bytes_in_another_process_with_another_hash_seed(tmp_path: Path) -> None:
    first = runs_of(tmp_path / "a", "1", *SCENARIOS)
    second = runs_of(tmp_path / "b", "4242", *SCENARIOS)
    assert all(len(log) > 1000 for log in first.values())
    assert {name: log == second[name] for name, log in first.items()} == dict.fromkeys(SCENARIOS, True)


def test_events_are_in_order_of_time_and_hashed_as_they_are_written(tmp_path: Path) -> None:
    import hashlib

    outcome = run(scenario("upload"), out=tmp_path).outcome
    log = (tmp_path / "events.jsonl").read_bytes()
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["t_us"] for line in lines] == sorted(line["t_us"] for line in lines)
    assert all({"t_us", "kind", "who"} <= line.keys() for line in lines)
    assert hashlib.sha256(log).hexdigest() == outcome.events_sha256
    assert json.loads((tmp_path / "summary.json").read_text())["events_sha256"] == outcome.events_sha256


def test_another_seed_gives_another_run() -> None:
    noisy = [node(sensors=[{"metric": "temp", "every": "20 s", "signal": {"constant": 21, "noise": 0.5}}])]
    assert (
        run(scene(nodes=noisy, seed=1)).outcome.events_sha256 != run(scene(nodes=noisy, seed=2)).outcome.events_sha256
    )


def said_by_nodes(plan: Plan) -> dict[str, list[tuple[int, int, int, object]]]:
    """What each node produced, and when."""
    found: dict[str, list[tuple[int, int, int, object]]] = {}
    for event in run(plan).of("reading.produced"):
        fields = event.fields
        found.setdefault(event.who, []).append((event.t_us, fields["boot"], fields["seq"], fields["value"]))
    return found


def test_adding_a_node_changes_no_other_nodes_draws() -> None:
    sensors = [
        {
            "metric": "temp",
            "every": "20 s",
            "signal": {"sine": {"mean": 25, "amplitude": 3, "period": "5 min"}, "noise": 0.5},
        }
    ]
    links = {"wifi": {"latency": "20 ms", "jitter": "15 ms", "loss": "5 %"}}
    few = said_by_nodes(scene(nodes=[node(count=2, sensors=sensors, stagger="30 s")], links=links))
    more = said_by_nodes(scene(nodes=[node(count=4, sensors=sensors, stagger="30 s")], links=links))
    assert len(more) == 4 and few == {who: more[who] for who in few}


def test_a_node_added_in_front_changes_no_other_nodes_draws_either() -> None:
    alone = said_by_nodes(scene(nodes=[node("zulu", count=None)]))
    behind = said_by_nodes(scene(nodes=[node("alpha", count=None), node("zulu", count=None)]))
    assert alone["zulu"] == behind["zulu"]


def test_an_expectation_that_fails_fails_the_run_and_one_that_counts_from_nothing_is_invalid() -> None:
    failing = scene(expect=[{"readings": "delivered", "equals": 3}])
    assert run(failing).outcome.verdict == "FAIL"
    nothing = scene(expect=[{"event": "node.up", "who": "sensor-01", "after": {"event": "node.down"}}])
    outcome = run(nothing).outcome
    assert outcome.verdict == "INVALID" and outcome.exit_code == 4
