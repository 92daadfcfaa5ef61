"""The fleet of a scenario, handed out to be run for good: keys, configuration files, and what to type to start it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clawsim.enumeration import listed
from clawsim.live.deploy import DeployError, Deployment
from clawsim.scenario.plan import FLEET, LORA, Plan

MOST_COMMANDS = 12


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on loopback; gateways listen at ``first_gateway`` and the ports after it."""

    http: int = 8080
    hub: int = 1883
    first_gateway: int = 1884


def hand_out(plan: Plan, directory: Path, ports: Ports) -> list[str]:
    """Writes everything into ``directory``, which must be empty or not exist; the lines that tell how to go on.

    Raises :class:`~clawsim.live.deploy.DeployError`.
    """
    on_radio = [node.id for node in plan.nodes if node.link == LORA]
    if on_radio:
        raise DeployError(f"on the radio, and to be set up by hand (docs/firmware.md, LoRa): {listed(on_radio)}")
    deployment = Deployment(plan, directory.resolve(), for_good=True)
    deployment.prepare()
    listening = {gateway.id: ports.first_gateway + number for number, gateway in enumerate(plan.gateways)}
    for gateway in plan.gateways:
        port = listening[gateway.id]
        deployment.write_gateway(gateway, ports.hub, port, "embedded", port)
    for node in plan.nodes:
        deployment.write_node(node, listening[node.gateway])
    return [*_cloud(deployment, ports, directory), *_site(deployment, directory)]


def _cloud(deployment: Deployment, ports: Ports, directory: Path) -> list[str]:
    data = directory / deployment.data(FLEET).relative_to(deployment.directory)
    inventory = directory / deployment.inventory().relative_to(deployment.directory)
    serve = f"fleet serve --data {data} --inventory {inventory} --port {ports.http} --hub-port {ports.hub}"
    if deployment.data_key:
        serve += f" --data-key-file {directory / deployment.data_keys().relative_to(deployment.directory)}"
    token = f"fleet token --data {data} --role operator --for YOUR-NAME"
    return [
        "# the cloud, with its own Event Hub; a token for its API",
        serve,
        token,
        "",
    ]


def _site(deployment: Deployment, directory: Path) -> list[str]:
    plan = deployment.plan
    gateways = [f"nanoclaw run --config {directory / 'config' / gateway.id}.toml" for gateway in plan.gateways]
    nodes = [f"firmware run --config {directory / 'config' / node.id}.toml" for node in plan.nodes]
    return ["# the gateways", *_some(gateways), "", "# the nodes, as processes", *_some(nodes)]


def _some(commands: list[str]) -> list[str]:
    if len(commands) <= MOST_COMMANDS:
        return commands
    return [*commands[: MOST_COMMANDS - 1], f"# … and {len(commands) - MOST_COMMANDS + 1} more like these"]
