"""The entities of the virtual world: what each is made of, how its power comes and goes."""

from clawsim.virtual.machines.base import Machine
from clawsim.virtual.machines.cores import Cores
from clawsim.virtual.machines.fleet import FleetMachine
from clawsim.virtual.machines.gateway import MAX_NODE_BYTES, GatewayMachine
from clawsim.virtual.machines.hub import HubMachine
from clawsim.virtual.machines.node import NodeMachine

__all__ = ["MAX_NODE_BYTES", "Cores", "FleetMachine", "GatewayMachine", "HubMachine", "Machine", "NodeMachine"]
