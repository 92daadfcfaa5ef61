"""Random small fleets under random faults: whatever happens, every reading is accounted for."""

from typing import Any

from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from tests.conftest import FULL
from tests.virtual.scenes import HOT_RULE, node, run, scene

NODES, GATEWAYS = ("sensor-01", "sensor-02", "sensor-03"), ("gateway-01", "gateway-02")
LINKS = [f"{low} <-> *" for low in NODES] + [f"{low} <-> cloud" for low in GATEWAYS] + ["hub <-> fleet"]
SECONDS = st.integers(1, 500)


@st.composite
def timelines(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Faults of every kind, one after another on each target, and some requests for a restart."""
    entries: list[dict[str, Any]] = []
    busy: dict[str, int] = {}
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["cut", "delay", "loss", "kill", "stop", "power", "restart"]))
        at_s, for_s = draw(SECONDS), draw(st.integers(1, 260))
        if kind == "restart":
            entries.append({"at": f"{at_s} s", "call": f"POST /api/nodes/{draw(st.sampled_from(NODES))}/restart"})
            continue
        on = draw(st.sampled_from(LINKS if kind in ("cut", "delay", "loss") else [*NODES, *GATEWAYS, "hub", "fleet"]))
        at_s = max(at_s, busy.get(on, 0) + 1)
        if at_s > 560:
            continue
        busy[on] = at_s + for_s
        more = {"delay": {"add": f"{draw(st.integers(1, 40))} s"}, "loss": {"rate": f"{draw(st.integers(1, 90))} %"}}
        entries.append({"at": f"{at_s} s", "for": f"{for_s} s", "fault": kind, "on": on} | more.get(kind, {}))
    return entries


# Worlds are too costly to shrink for minutes: a failure is told as it was found, unless there is time.
PHASES = list(Phase) if FULL else [Phase.explicit, Phase.reuse, Phase.generate]


@settings(max_examples=1500 if FULL else 40, phases=PHASES)
@given(
    timeline=timelines(),
    seed=st.integers(0, 2**32),
    every_s=st.sampled_from([7, 20, 60]),
    backlog=st.sampled_from([4, 1000]),
    loss=st.sampled_from(["0 %", "20 %"]),
)
def test_every_reading_is_accounted_for(
    timeline: list[dict[str, Any]], seed: int, every_s: int, backlog: int, loss: str
) -> None:
    hot = {
        "metric": "temp",
        "every": f"{every_s} s",
        "signal": {"sine": {"mean": 28, "amplitude": 5, "period": "4 min"}},
    }
    plan = scene(
        seed=seed,
        duration="10 min",
        settle="15 min",
        gateways=[{"id": "gateway-01"}, {"id": "gateway-02", "role": "secondary"}],
        nodes=[node(count=3, sensors=[hot], backlog=backlog, stagger="20 s")],
        links={"wifi": {"loss": loss}},
        rules=[HOT_RULE],
        timeline=timeline,
    )
    seen = run(plan)
    account = seen.outcome.account
    note(f"{account.as_json()} {account.examples}")
    assert (account.unaccounted, account.phantom, account.duplicated) == (0, 0, 0)
    assert (account.conflict, account.reused) == (0, 0)
    assert account.produced == account.delivered + account.lost.total() + account.buffered.total()
    assert account.lost.total() == 0 or backlog == 4
    assert account.buffered.total() == 0, "fifteen minutes after the last fault everything has arrived"
    executed = [event.fields["id"] for event in seen.of("command.executed")]
    assert len(executed) == len(set(executed)), "no command ran twice"
    # A gateway that never heard the cloud acknowledge may raise what the cloud raised: the same episode, by its id.
    raised = [(event.who, event.fields["id"]) for event in seen.of("alert.raised")]
    assert len(raised) == len(set(raised)), "nobody raised an episode twice"
