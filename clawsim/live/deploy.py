"""Puts a scenario's fleet into a run directory: keys, passwords, inventory, one configuration file a process.

```
RUN/  inventory.json  hub.json  fleet.password      RUN/config/  ID.toml  ID.key
      data/ID/  (flash, outbox, database)           RUN/trace/   ID.N.jsonl  (N: the process's number)
      log/ID.log                                    RUN/cable/   NODE.END  (a serial line's devices)
```

Everything that holds a secret is readable by its owner alone. Where all is real keys are drawn anew each run: a
scenario's seed decides what happens, never who may do it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from clawsim.randomness import stream
from clawsim.scenario.plan import FLEET, GatewayPlan, NodePlan, Plan
from clawsim.sealing import inventory_of, sealed_by, sealing_name, sealing_nodes, sensitive
from firmware.hosting.config import ConfigError
from firmware.hosts.build import MOST_READINGS, write_node
from firmware.hosts.settings import load_settings
from firmware.wire.auth import KEY_BYTES, mqtt_password

LOOPBACK = "127.0.0.1"
MOST_CLIENTS = 250 * 250
_FIRST_BLOCK = 77  # 127.77.0.0 and up: away from 127.0.0.1, and from 127.0.1.1, which Debian gives to the host's name

Entropy = Callable[[int], bytes]


class DeployError(Exception):
    """The run directory cannot be used, or the plan does not fit into it; the message is for the user."""


@dataclass(frozen=True)
class Addresses:
    """The source address of each client on the loopback network, by which a proxy knows whose connection it has."""

    of: Mapping[str, str]

    @classmethod
    def for_clients(cls, clients: list[str]) -> Addresses:
        """One address for each of ``clients``; :class:`DeployError` when there are too many."""
        if len(clients) > MOST_CLIENTS:
            raise DeployError(f"{len(clients)} clients are too many for the loopback network ({MOST_CLIENTS})")
        return cls({client: _address(number) for number, client in enumerate(clients)})

    def owners(self) -> dict[str, str]:
        """Client by address, as a fault proxy wants it."""
        return {address: client for client, address in self.of.items()}


def _megabytes(count: int | None) -> int | None:
    return None if count is None else count // 1_000_000


def _address(number: int) -> str:
    block, host = divmod(number, 250)
    return f"127.{_FIRST_BLOCK + block // 250}.{block % 250}.{host + 1}"


class Deployment:
    """The run directory of one live run of ``plan``; ``entropy`` makes keys and passwords.

    ``keys`` are those that virtual parts of the same run have already.

    The fleet's id gets a suffix of its own, so that two runs on one machine do not discover each other's gateways.
    ``for_good`` leaves out what only a run wants: that suffix, source addresses, an end of the sampling.
    """

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        keys: Mapping[str, bytes] | None = None,
        entropy: Entropy = secrets.token_bytes,
        for_good: bool = False,
    ) -> None:
        self.plan = plan
        self.directory = directory
        self._for_good = for_good
        self.fleet_id = plan.fleet_id if for_good else f"{plan.fleet_id[:24].rstrip('-')}-{entropy(3).hex()}"
        devices = [gateway.id for gateway in plan.gateways] + [node.id for node in plan.nodes]
        backups = [gateway.backup_end for gateway in plan.gateways if gateway.backup]
        names = devices + [sealing_name(node) for node in sealing_nodes(plan)]
        self.keys = {name: (keys or {}).get(name) or entropy(KEY_BYTES) for name in names}
        self.data_key = entropy(KEY_BYTES) if sealing_nodes(plan) else None
        self.manager_password = entropy(KEY_BYTES).hex().encode()
        self.addresses = Addresses.for_clients([FLEET, *devices, *backups])
        self._incarnations: dict[str, int] = {}

    # places

    def data(self, who: str) -> Path:
        """The directory that survives the restarts of ``who``: flash, outbox or database."""
        return self.directory / "data" / who

    def log_directory(self) -> Path:
        return self.directory / "log"

    def config(self, who: str) -> Path:
        return self.directory / "config" / f"{who}.toml"

    def cable_end(self, node: str, at: str) -> Path:
        """The device at one end of the cable of ``node``: ``at`` the node itself, or ``at`` its gateway."""
        return self.directory / "cable" / f"{node}.{at}"

    def hub_credentials(self) -> Path:
        return self.directory / "hub.json"

    def fleet_password(self) -> Path:
        return self.directory / "fleet.password"

    def inventory(self) -> Path:
        return self.directory / "inventory.json"

    def data_keys(self) -> Path:
        """The data key of a fleet manager that keeps what nodes sealed."""
        return self.directory / "data.key"

    def next_trace(self, who: str) -> Path:
        """The trace file of the next process of ``who``: each has its own, for a killed one may leave a torn line."""
        self._incarnations[who] = number = self._incarnations.get(who, 0) + 1
        return self.directory / "trace" / f"{who}.{number}.jsonl"

    # secrets

    def password(self, who: str) -> bytes:
        """What ``who`` says to the broker: the hub if it is a gateway or the fleet manager, else its gateway's."""
        return self.manager_password if who == FLEET else mqtt_password(self.keys[who])

    # files

    def prepare(self) -> None:
        """Makes the directory and all that does not depend on ports; :class:`DeployError` when it is not empty."""
        wired = [node.id for node in self.plan.nodes if node.wired]
        if self._for_good and wired:
            raise DeployError(
                f"{wired[0]} is at a serial cable, and between processes there is none: give it link wifi"
            )
        try:
            self._make_directories()
        except OSError as error:
            raise DeployError(f"cannot use {error.filename or self.directory}: {error.strerror}") from None
        for who, key in self.keys.items():
            write_private(self._key_file(who), key.hex() + "\n")
        if not self._for_good:
            write_private(self.hub_credentials(), json.dumps(self._hub_credentials()))
            write_private(self.fleet_password(), self.manager_password.decode() + "\n")
        write_private(self.inventory(), json.dumps(self._inventory()))
        if self.data_key is not None:
            write_private(self.data_keys(), self.data_key.hex() + "\n")

    def write_gateway(
        self, gateway: GatewayPlan, hub_port: int, advertise_port: int, broker: str, local_port: int = 0
    ) -> Path:
        """The configuration of one gateway, to reach the hub at ``hub_port`` and be reached at ``advertise_port``."""
        identity = {"id": gateway.id, "fleet": self.fleet_id, "site": gateway.site, "role": gateway.role}
        document = {
            "gateway": {**identity, "key_file": str(self._key_file(gateway.id))},
            "uplink": {
                "host": LOOPBACK,
                "port": hub_port,
                "bind_address": self._source_address(gateway.id),
                "daily_mb": _megabytes(gateway.daily_bytes),
            },
            "backup": self._backup(gateway),
            "local": {
                "host": LOOPBACK,
                "port": local_port,
                "broker": broker,
                "advertise_port": advertise_port,
                "data": str(self.data(gateway.id)),
            },
            "serial": [
                {"name": node.id, "url": str(self.cable_end(node.id, gateway.id))}
                for node in self.plan.nodes
                if node.wired and node.gateway == gateway.id
            ],
            "discovery": {"enabled": True, "interface": LOOPBACK},
            "modes": dict(gateway.modes),
            "failback": {"policy": gateway.failback},
            "tuning": {
                "failback_after_ms": gateway.failback_after_ms,
                "failback_hold_ms": gateway.failback_hold_ms,
            },
        }
        return self._write_config(gateway.id, document)

    def write_node(self, node: NodePlan, gateway_port: int) -> Path:
        """The configuration of one node, whose home is reached at ``gateway_port``."""
        return self._write_config(node.id, self._node_document(node, gateway_port))

    def write_board(self, node: NodePlan, gateway_port: int) -> Path:
        """The same for MicroPython; :class:`DeployError` for what it cannot do."""
        document = self._node_document(node, gateway_port)
        document["node"]["seed"] = stream(self.plan.seed, node.id, "board").getrandbits(30)
        document["node"]["backlog_readings"] = min(node.backlog_readings, MOST_READINGS)
        path = self._write_config(node.id, document)
        directory = path.parent / node.id
        directory.mkdir(mode=0o700, exist_ok=True)
        try:
            return write_node(load_settings(path), path, directory)
        except ConfigError as error:
            raise DeployError(f"{node.id} cannot run on MicroPython: {error}") from None

    def _node_document(self, node: NodePlan, gateway_port: int) -> dict[str, Any]:
        return {
            "node": {
                "id": node.id,
                "fleet": self.fleet_id,
                "type": node.type,
                "key_file": str(self._key_file(node.id)),
                "sealing_key_file": str(self._key_file(sealing_name(node.id))) if sealed_by(node) else None,
                "data": str(self.data(node.id)),
                "backlog_readings": node.backlog_readings,
                "sleep": node.sleep or None,
                "seed": f"{self.plan.seed}/{node.id}",
                "sample_until_ms": None if self._for_good else self.plan.duration_us // 1000,
            },
            "gateway": {"id": node.gateway, **self._way_home(node, gateway_port)},
            "discovery": {"interface": LOOPBACK},
            "sensors": [self._sensor(sensor) for sensor in node.sensors],
        }

    def _backup(self, gateway: GatewayPlan) -> dict[str, Any]:
        """The second uplink. For good it is left out: which of the machine's interfaces it is, nobody here can say."""
        if gateway.backup is None or self._for_good:
            return {}
        source, daily_mb = self._source_address(gateway.backup_end), _megabytes(gateway.backup.daily_bytes)
        return {"name": gateway.backup.name, "bind_address": source, "daily_mb": daily_mb}

    def _way_home(self, node: NodePlan, gateway_port: int) -> dict[str, Any]:
        if node.wired:
            return {"serial": str(self.cable_end(node.id, node.id))}
        return {"host": LOOPBACK, "port": gateway_port, "bind_address": self._source_address(node.id)}

    def _source_address(self, who: str) -> str | None:
        return None if self._for_good else self.addresses.of[who]

    def _sensor(self, sensor: Any) -> dict[str, Any]:
        signal = dict(sensor.signal)
        if isinstance(signal.get("path"), str):
            signal["path"] = str((Path(self.plan.source_path).parent / signal["path"]).resolve())
        return {
            "metric": sensor.metric,
            "unit": sensor.unit,
            "exp": sensor.resolution_exp,
            "low": sensor.low,
            "high": sensor.high,
            "every_ms": sensor.every_ms,
            "event": sensor.event,
            "sealed": True if sensor.sealed else None,
            "signal": signal,
        }

    def _make_directories(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(self.directory.iterdir()):
            raise DeployError(f"{self.directory} is not empty: a fleet wants a directory of its own")
        for name in ("config", "data") if self._for_good else ("config", "data", "trace", "log", "cable"):
            (self.directory / name).mkdir(mode=0o700)

    def _key_file(self, who: str) -> Path:
        return self.directory / "config" / f"{who}.key"

    def _write_config(self, who: str, document: Mapping[str, Any]) -> Path:
        path = self.config(who)
        write_private(path, tomli_w.dumps(_without_none(document)))
        return path

    def _hub_credentials(self) -> dict[str, Any]:
        gateways = {gateway.id: self.password(gateway.id).decode() for gateway in self.plan.gateways}
        return {"manager": {"id": FLEET, "password": self.manager_password.decode()}, "gateways": gateways}

    def _inventory(self) -> dict[str, Any]:
        return {
            "fleet": self.fleet_id,
            "gateways": [
                {"id": each.id, "site": each.site, "role": each.role, "key": self.keys[each.id].hex()}
                for each in self.plan.gateways
            ],
            "nodes": [self._inventory_node(node) for node in self.plan.nodes],
            "rules": [rule.record() for rule in self.plan.rules],
            "sensitive": sensitive(self.plan),
        }

    def _inventory_node(self, node: NodePlan) -> dict[str, Any]:
        where: dict[str, Any] = {"site": node.site, "gateway": node.gateway}
        where |= {"groups": list(node.groups)} if node.groups else {}
        where |= inventory_of(node, self.keys.get(sealing_name(node.id), b""))
        return {"id": node.id, "type": node.type, **where, "key": self.keys[node.id].hex()}


def _without_none(value: Any) -> Any:
    """TOML has no null: a setting that is None is left out."""
    if isinstance(value, Mapping):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, list | tuple) else value


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, from the first byte on."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
