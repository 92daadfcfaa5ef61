"""Which classes the machines are made of: the cores that also run for real."""

from typing import Any

from clawsim.virtual.memory import FleetDatabase
from firmware.core.lora import LoraNode
from firmware.core.node import NodeCore
from firmware.core.sleeper import SleepingNode
from fleet.core.manager import FleetCore
from nanoclaw.core.gateway import GatewayCore


class Cores:
    """Tests plant bugs by replacing one."""

    node: Any = NodeCore
    sleeper: Any = SleepingNode
    lora: Any = LoraNode
    gateway: Any = GatewayCore
    fleet: Any = FleetCore
    database: Any = FleetDatabase
