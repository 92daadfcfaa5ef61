"""The command ``clawsim``: run a scenario, check one, print the schema of scenario files."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from clawsim.scenario import ScenarioError, json_schema, load
from clawsim.scenario.errors import Mark, Problem
from clawsim.scenario.show import show
from clawsim.terminal import Output, complain, say, stdout_is_plain, use_plain_signs
from firmware.hosting.program import version_option

EXIT_BAD_SCENARIO = 2
TIMESCALE = 30.0


class World(StrEnum):
    """Which world a scenario runs in."""

    virtual = "virtual"
    live = "live"


class Broker(StrEnum):
    """Which brokers a live run uses."""

    embedded = "embedded"
    mosquitto = "mosquitto"


class NodesAs(StrEnum):
    """What runs the real nodes' firmware."""

    cpython = "cpython"
    micropython = "micropython"


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

ScenarioFile = Annotated[Path, typer.Argument(metavar="FILE", help="A scenario, such as scenarios/cloud-outage.yaml")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Replace a value, such as fleet.nodes.0.count=50; repeatable"),
]


@app.callback()
def clawsim(
    _: Annotated[bool, version_option("clawsim")] = False,
) -> None:
    """Rehearse a Clawland fleet: outages, failovers, commands, in a virtual or a live world."""


@app.command()
def run(
    file: ScenarioFile,
    overrides: Overrides = None,
    world: Annotated[
        World, typer.Option(help="virtual: simulated, as fast as it goes; live: real processes on this machine")
    ] = World.virtual,
    timescale: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1000,
            show_default="30",
            help="Live: simulated seconds a second of the clock on the wall. Up to 30 suits two cores; what is too "
            "fast for its machine ends as LAGGED, or fails because the machine was late",
        ),
    ] = None,
    broker: Annotated[Broker | None, typer.Option(show_default="embedded", help="Live: the MQTT brokers")] = None,
    nodes_as: Annotated[
        NodesAs | None,
        typer.Option(
            show_default="cpython",
            help="Live: what runs the nodes' firmware; micropython has the heap of a board (48 KB) and comes from "
            "`make boards`",
        ),
    ] = None,
    real: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="Make only this real (fleet, hub, gateways, nodes or an id) and keep the rest virtual; repeatable",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Replace the scenario's seed")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write events.jsonl and summary.json there")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON instead of the report")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a JUnit report")] = None,
) -> None:
    """Run FILE and judge it.

    Exit codes: 0 pass, 1 an expectation failed, 2 bad usage or scenario, 3 something the run needs is missing,
    4 invalid (a fault that had no effect, an expectation that matched nothing), 5 the live run lagged behind its clock,
    130 interrupted.
    """
    from clawsim.command import Request, execute, unfinished

    try:
        if world is World.virtual and not real:
            refuse_live_options({"--timescale": timescale, "--broker": broker, "--nodes-as": nodes_as})
        plan = load(file, (overrides or []) + ([f"seed={seed}"] if seed is not None else []))
    except ScenarioError as error:
        complain(error)
        unfinished(junit, file.stem, str(error))
        raise typer.Exit(EXIT_BAD_SCENARIO) from error
    broker, nodes_as = broker or Broker.embedded, nodes_as or NodesAs.cpython
    options = {"timescale": timescale or TIMESCALE, "broker": broker.value, "nodes_as": nodes_as.value}
    request = Request(world.value, options, tuple(real or ()), out, as_json, junit)
    raise typer.Exit(execute(plan, request))


@app.command()
def check(file: ScenarioFile, overrides: Overrides = None) -> None:
    """Validate FILE and print its expanded timeline, without running it."""
    try:
        show(load(file, overrides or []), Output())
    except ScenarioError as error:
        complain(error)
        raise typer.Exit(EXIT_BAD_SCENARIO) from error


RunDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="What `clawsim run --out DIR` wrote")]


@app.command()
def compare(a: RunDirectory, b: RunDirectory) -> None:
    """Say whether two runs tell the same story, and what differs.

    The same story: each entity has the same milestones in the same order, at times within the tolerance of their kind,
    and the same readings were lost by the same cause.

    Exit codes: 0 the same, 1 different, 2 a directory that holds no run.
    """
    from clawsim.compare_report import compare_directories
    from clawsim.tale import BadRun

    try:
        raise typer.Exit(compare_directories(a, b, Output()))
    except BadRun as error:
        complain(error)
        raise typer.Exit(EXIT_BAD_SCENARIO) from error


@app.command()
def deploy(
    file: ScenarioFile,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; empty, or not there yet")],
    overrides: Overrides = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The fleet manager's API")] = 8080,
    hub_port: Annotated[int, typer.Option(min=1, max=65535, help="The Event Hub")] = 1883,
    gateway_port: Annotated[
        int, typer.Option(min=1, max=65000, help="The first gateway's broker; the others' follow")
    ] = 1884,
) -> None:
    """Write the fleet of FILE as keys and configuration files, and print what to type to run it for good.

    Each tier then runs as the process that a real deployment runs, here on loopback; the files show what to change for
    machines of their own. Secrets are readable by their owner alone.
    """
    from clawsim.live.deploy import DeployError
    from clawsim.live.handout import Ports, hand_out

    try:
        plan = load(file, overrides or [])
        say("\n".join(hand_out(plan, directory, Ports(port, hub_port, gateway_port))))
    except (ScenarioError, DeployError) as error:
        complain(error)
        raise typer.Exit(EXIT_BAD_SCENARIO) from error


@app.command()
def events() -> None:
    """List the events that a scenario can expect: when each happens, who says it, which fields it has."""
    from clawsim.scenario.show import show_events

    show_events(Output())


@app.command()
def schema() -> None:
    """Print the JSON Schema of scenario files, for editors."""
    say(json.dumps(json_schema(), indent=2, ensure_ascii=stdout_is_plain()))


def refuse_live_options(given: dict[str, object]) -> None:
    """A wholly virtual run has neither a clock nor brokers: :class:`ScenarioError` for whoever asks for some."""
    asked = [option for option, value in given.items() if value is not None]
    if asked:
        raise ScenarioError(Problem(Mark(option), "only with --world live or --real") for option in asked)


def main() -> None:
    """The command, once its outputs take every sign."""
    use_plain_signs()
    app()


if __name__ == "__main__":
    main()
