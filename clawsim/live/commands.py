"""The command lines of the real tiers, and the files that they are given."""

from __future__ import annotations

from pathlib import Path

from clawsim.live.deploy import LOOPBACK, Deployment
from clawsim.live.machines import Command
from clawsim.live.micropython import HEAP, interpreter
from clawsim.live.options import Broker, NodesAs
from clawsim.live.processes import python_command
from clawsim.scenario.plan import FLEET, HUB, GatewayPlan, NodePlan


def hub_command(deployment: Deployment, broker: Broker) -> Command:
    """The Event Hub, embedded or Mosquitto."""
    credentials = str(deployment.hub_credentials())
    if broker == "mosquitto":
        directory = str(deployment.data(HUB))
        return lambda trace: python_command("clawsim.live.mosquitto_hub", credentials, directory, str(trace))
    arguments = ("hub", "--port", "0", "--credentials", credentials, "--sim-clock", "--trace")
    return lambda trace: python_command("fleet.cli", *arguments, str(trace))


def fleet_command(deployment: Deployment, hub_port: int) -> Command:
    """The fleet manager, with the hub at ``hub_port``."""
    arguments = (
        *("serve", "--data", str(deployment.data(FLEET)), "--host", LOOPBACK, "--port", "0"),
        *("--hub", f"{LOOPBACK}:{hub_port}", "--hub-password-file", str(deployment.fleet_password())),
        *("--inventory", str(deployment.inventory())),
        *(("--data-key-file", str(deployment.data_keys())) if deployment.data_key else ()),
        *("--sim-clock", "--trace"),
    )
    return lambda trace: python_command("fleet.cli", *arguments, str(trace))


def gateway_command(
    deployment: Deployment, gateway: GatewayPlan, hub_port: int, own_port: int, broker: Broker
) -> Command:
    """A gateway that reaches the hub at ``hub_port`` and is reached at ``own_port``."""
    return _daemon("nanoclaw.cli", deployment.write_gateway(gateway, hub_port, own_port, broker))


def node_command(deployment: Deployment, node: NodePlan, home_port: int, nodes_as: NodesAs) -> Command:
    """A node whose home is reached at ``home_port``.

    :class:`~clawsim.live.deploy.DeployError` for one that cannot run on MicroPython, and when there is none."""
    if nodes_as == "cpython":
        return _daemon("firmware.cli", deployment.write_node(node, home_port))
    config = str(deployment.write_board(node, home_port))
    run = ("env", "MICROPYPATH=.frozen", interpreter(), "-X", f"heapsize={HEAP}", "-m", "firmware.hosts.micro.linux")
    return lambda trace: [*run, config, str(trace), "--sim-clock"]


def _daemon(module: str, config: Path) -> Command:
    run = ("run", "--config", str(config), "--sim-clock", "--trace")
    return lambda trace: python_command(module, *run, str(trace))
