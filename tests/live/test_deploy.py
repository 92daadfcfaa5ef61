"""What is deployed is complete, private, and understood by the programs it is for."""

import json
import stat
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from clawsim.live.deploy import Addresses, DeployError, Deployment
from clawsim.live.micropython import VARIABLE, NoInterpreter, interpreter
from firmware.hosts.settings import load_settings
from firmware.wire.auth import mqtt_password
from fleet.host import inventory
from tests.live.plans import TEMP, node, plan


def deployed(directory: Path) -> Deployment:
    deployment = Deployment(plan(nodes=3, gateways=2), directory)
    deployment.prepare()
    for gateway in deployment.plan.gateways:
        deployment.write_gateway(gateway, 1001, 1002, "embedded")
    for each in deployment.plan.nodes:
        deployment.write_node(each, 1002)
    return deployment


def test_every_file_is_its_owners_alone(tmp_path: Path) -> None:
    deployed(tmp_path / "run")
    for path in tmp_path.rglob("*"):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path


def test_a_node_on_micropython_is_given_what_a_board_can_hold_and_all_is_its_owners_alone(tmp_path: Path) -> None:
    deployment = deployed(tmp_path / "run")
    noisy = replace(TEMP, signal={**TEMP.signal, "noise": 0.2, "seed": 5})
    path = deployment.write_board(node(1, sensors=(noisy,)), 1002)
    found = json.loads(path.read_text())
    assert found["core"]["backlog_readings"] == 100
    assert found["signals"][0][0] == "noisy"
    assert found["core"]["key"] == deployment.keys["sensor-01"].hex()
    assert deployment.write_board(node(1, sensors=(noisy,)), 1002) == path, "and again after a restart"
    for each in tmp_path.rglob("*"):
        assert not each.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), each
    steps = [{"at_ms": at_ms, "value": 1} for at_ms in range(201)]
    long = replace(TEMP, signal={"kind": "steps", "steps": steps, "exp": 2, "type": "number"})
    with pytest.raises(DeployError, match=r"sensor-01 cannot run on MicroPython: .*201 values are more"):
        deployment.write_board(node(1, sensors=(long,)), 1002)


def test_without_its_interpreter_a_run_on_micropython_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/micropython")
    with pytest.raises(NoInterpreter, match=f"{VARIABLE} names /nowhere/micropython.*make boards"):
        interpreter()


def test_every_key_is_another_and_none_comes_from_the_seed(tmp_path: Path) -> None:
    first, second = deployed(tmp_path / "1"), deployed(tmp_path / "2")
    keys = [*first.keys.values(), *second.keys.values(), first.manager_password, second.manager_password]
    assert len(set(keys)) == len(keys) == 12
    assert all(len(key) == 32 for key in first.keys.values())


def test_two_runs_are_two_fleets(tmp_path: Path) -> None:
    assert deployed(tmp_path / "1").fleet_id != deployed(tmp_path / "2").fleet_id
    long = Deployment(replace(plan(), fleet_id="a" * 32), tmp_path / "3").fleet_id
    assert len(long) <= 32


def test_the_fleet_manager_understands_its_inventory(tmp_path: Path) -> None:
    deployment = deployed(tmp_path / "run")
    found = inventory.load(deployment.inventory())
    assert found.fleet == deployment.fleet_id
    assert [gateway["id"] for gateway in found.gateways] == ["gateway-01", "gateway-02"]
    assert [each["gateway"] for each in found.nodes] == ["gateway-01"] * 3
    assert found.rules[0]["when"] == {"metric": "temp", "op": ">", "value": 30}


def test_a_node_understands_its_configuration(tmp_path: Path) -> None:
    deployment = deployed(tmp_path / "run")
    settings = load_settings(deployment.config("sensor-02"))
    assert settings.core["key"] == deployment.keys["sensor-02"]
    assert settings.core["home"] == {"id": "gateway-01", "target": "127.0.0.1:1002"}
    assert settings.core["fleet"] == deployment.fleet_id
    assert settings.sample_until_ms == 300_000
    assert settings.bind_address == deployment.addresses.of["sensor-02"]


def test_a_recording_is_found_from_wherever_the_scenario_lies(tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_text("time,co2\n0,400\n60,500\n")
    signal = {"kind": "recording", "path": "day.csv", "column": "co2", "time": "time", "gaps": "skip", "loop": False}
    sensor = replace(TEMP, metric="co2", unit="ppm", resolution_exp=0, every_ms=None, signal=signal)
    recorded = node(1, sensors=(sensor,))
    here = replace(plan(), source_path=str(tmp_path / "office.yaml"), nodes=(recorded,))
    deployment = Deployment(here, tmp_path / "run")
    deployment.prepare()
    written = tomllib.loads(deployment.write_node(recorded, 1).read_text())
    assert written["sensors"][0]["signal"]["path"] == str(tmp_path / "day.csv")


def test_hub_and_gateways_agree_on_passwords(tmp_path: Path) -> None:
    deployment = deployed(tmp_path / "run")
    hub = json.loads(deployment.hub_credentials().read_text())
    key = bytes.fromhex((tmp_path / "run/config/gateway-02.key").read_text())
    assert hub["gateways"]["gateway-02"].encode() == mqtt_password(key) == deployment.password("gateway-02")
    assert hub["manager"]["password"] == deployment.fleet_password().read_text().strip()


def test_each_process_of_an_entity_has_a_trace_of_its_own(tmp_path: Path) -> None:
    deployment = Deployment(plan(), tmp_path / "run")
    paths = [deployment.next_trace(who) for who in ("sensor-01", "sensor-01", "gateway-01")]
    assert [path.name for path in paths] == ["sensor-01.1.jsonl", "sensor-01.2.jsonl", "gateway-01.1.jsonl"]


def test_a_node_at_a_serial_cable_and_its_gateway_are_told_the_two_ends_of_it(tmp_path: Path) -> None:
    here = replace(plan(), nodes=(node(1, link="serial"), node(2)))
    deployment = Deployment(here, tmp_path / "run")
    deployment.prepare()
    written = tomllib.loads(deployment.write_node(here.nodes[0], 1).read_text())
    assert written["gateway"] == {"id": "gateway-01", "serial": str(tmp_path / "run/cable/sensor-01.sensor-01")}
    written = tomllib.loads(deployment.write_gateway(here.gateways[0], 1, 2, "embedded").read_text())
    assert written["serial"] == [{"name": "sensor-01", "url": str(tmp_path / "run/cable/sensor-01.gateway-01")}]


def test_a_fleet_that_is_handed_out_has_no_cables(tmp_path: Path) -> None:
    here = replace(plan(), nodes=(node(1, link="serial"),))
    with pytest.raises(DeployError, match="sensor-01 is at a serial cable, and between processes there is none"):
        Deployment(here, tmp_path / "run", for_good=True).prepare()


def test_a_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DeployError, match="not empty"):
        Deployment(plan(), tmp_path).prepare()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeployError, match=r"cannot use .*file"):
        Deployment(plan(), tmp_path / "file" / "run").prepare()


def test_every_client_has_an_address_of_its_own() -> None:
    addresses = Addresses.for_clients([f"sensor-{i}" for i in range(62_500)])
    assert len(addresses.owners()) == 62_500
    assert addresses.of["sensor-0"] == "127.77.0.1" and addresses.of["sensor-62499"] == "127.77.249.250"
    with pytest.raises(DeployError, match="too many"):
        Addresses.for_clients([str(i) for i in range(62_501)])
