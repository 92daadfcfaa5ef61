"""Runs of scenarios by the command itself, each done once, and what their directories say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clawsim.verdict import EXIT_CODES, LAGGED

ROOT = Path(__file__).parents[2]
CLAWSIM = [str(Path(sys.executable).with_name("clawsim"))]
AT_ONCE = 2
"""Live runs at the same time: one that starts takes both cores of a small machine for seconds, and others lag."""
LONGEST_S = 240


@dataclass(frozen=True)
class Spec:
    """What is run: `scenario` is a file's name; `world` virtual, live, mixed with `real` parts, or micropython: live
    with nodes that have the heap of a board."""

    scenario: str
    world: str = "virtual"
    broker: str = "embedded"
    real: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The scenario's file."""
        own = Path(__file__).with_name(f"{self.scenario}.yaml")
        return own if own.exists() else ROOT / "scenarios" / f"{self.scenario}.yaml"

    def arguments(self) -> list[str]:
        """For `clawsim run`."""
        live = ["--world", "live", "--timescale", "30", "--broker", self.broker]
        world = {"live": live, "micropython": [*live, "--nodes-as", "micropython"]}.get(self.world, [])
        real = [part for name in self.real for part in ("--real", name)]
        return [str(self.file), *world, *real, *(part for one in self.overrides for part in ("--set", one))]

    def __str__(self) -> str:
        return "-".join([self.scenario, self.world, self.broker, *self.real])


@dataclass(frozen=True)
class Event:
    """One line of `events.jsonl`, its time in seconds."""

    t_s: float
    kind: str
    who: str
    fields: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


@dataclass
class Rehearsal:
    """A finished run."""

    spec: Spec
    exit_code: int
    output: str
    directory: Path
    summary: dict[str, Any]
    events: list[Event]

    def all(self, kind: str, who: str | None = None, **fields: Any) -> list[Event]:
        """Every event of `kind`, of one speaker and with these fields if given."""
        return [
            event
            for event in self.events
            if event.kind == kind
            and who in (None, event.who)
            and all(event.fields.get(name) == value for name, value in fields.items())
        ]

    def one(self, kind: str, who: str | None = None, **fields: Any) -> Event:
        """The only such event."""
        found = self.all(kind, who, **fields)
        assert len(found) == 1, f"{len(found)} times {kind} {who or ''} {fields}: {found[:5]}"
        return found[0]

    def during(self, fault: str) -> Iterator[Event]:
        """Every event while `fault` was in effect."""
        from_s, until_s = self.one("fault.effective", of=fault).t_s, self.one("fault.cleared", of=fault).t_s
        return (event for event in self.events if from_s < event.t_s < until_s)

    def readings(self, kind: str) -> dict[tuple[str, int, int], list[Event]]:
        """The events `reading.{kind}` by the reading that they are about."""
        found: dict[tuple[str, int, int], list[Event]] = {}
        for event in self.all(f"reading.{kind}"):
            found.setdefault((event.fields.get("node", event.who), event["boot"], event["seq"]), []).append(event)
        return found


class Runs:
    """Does each run once; live ones a few at a time, so that those asked for in advance are there when needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pools = {True: ThreadPoolExecutor(1), False: ThreadPoolExecutor(AT_ONCE)}
        self._done: dict[Spec, Future[Rehearsal]] = {}

    def prepare(self, spec: Spec) -> Future[Rehearsal]:
        """Starts the run as soon as there is room for it."""
        if spec not in self._done:
            self._done[spec] = self._pools[spec.world == "virtual"].submit(
                _perform, spec, self._directory / str(len(self._done))
            )
        return self._done[spec]

    def get(self, spec: Spec) -> Rehearsal:
        """The finished run."""
        return self.prepare(spec).result()

    def close(self) -> None:
        """Begins no more."""
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)


def _perform(spec: Spec, out: Path) -> Rehearsal:
    """A run that says that this machine could not keep up with its clock has shown nothing, and is done once more."""
    command = [*CLAWSIM, "run", *spec.arguments(), "--out"]
    done = _run([*command, str(out)])
    if done.returncode == EXIT_CODES[LAGGED]:
        out = out.with_name(f"{out.name}-again")
        done = _run([*command, str(out)])
    output = done.stdout + done.stderr
    assert (out / "summary.json").exists(), f"clawsim run {spec} ended with {done.returncode}:\n{output}"
    summary = json.loads((out / "summary.json").read_text())
    return Rehearsal(spec, done.returncode, output, out, summary, list(_events(out / "events.jsonl")))


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs it to its end. A kernel that could not even begin it (seen once: EFAULT of execve, in a sandbox) is asked
    again: nothing had run that could be hidden by that, and twenty claims share the one run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    except OSError:
        return subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)


def _events(path: Path) -> Iterator[Event]:
    for line in path.read_text().splitlines():
        fields = json.loads(line)
        yield Event(fields.pop("t_us") / 1e6, fields.pop("kind"), fields.pop("who"), fields)
