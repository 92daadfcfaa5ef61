"""Sensors on one side, the uplink on the other: what a gateway's machine lets through, in real network namespaces."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware.hosting.client import connect_through
from nanoclaw.host.config import load_settings
from nanoclaw.host.examples import example
from nanoclaw.host.networks import Interfaces, forwarding, way_problems
from tests.namespaces import Machine, cable, machines
from tests.nanoclaw_host.rig import gateway_config, write_key

pytestmark = pytest.mark.live

CLOUD, GATEWAY_OUT, GATEWAY_IN, SENSOR, OTHER_IN, OTHER = (
    "10.9.0.2", "10.9.0.1", "10.1.0.1", "10.1.0.2", "10.2.0.1", "10.2.0.2",
)  # fmt: skip


class Barn:
    """A gateway with an uplink (eth0) and two cables to sensors (eth1, eth2) that would route through it."""

    def __init__(self, gateway: Machine, cloud: Machine, sensor: Machine, other: Machine) -> None:
        self.gateway, self.cloud, self.sensor, self.other = gateway, cloud, sensor, other
        cable(gateway, "eth0", f"{GATEWAY_OUT}/24", cloud, "eth0", f"{CLOUD}/24")
        cable(gateway, "eth1", f"{GATEWAY_IN}/24", sensor, "eth0", f"{SENSOR}/24")
        cable(gateway, "eth2", f"{OTHER_IN}/24", other, "eth0", f"{OTHER}/24")
        for machine, way in ((sensor, GATEWAY_IN), (other, OTHER_IN), (cloud, GATEWAY_OUT)):
            machine.ip(f"route add default via {way}")

    def forward(self) -> None:
        """Somebody has made a router of the gateway."""
        self.gateway.set("ipv4/ip_forward", 1)

    def protect(self) -> None:
        """Load the example as it is shipped, for the interfaces of this barn."""
        text = example("firewall").replace('define sensors = "eth1"', 'define sensors = { "eth1", "eth2" }')
        self.gateway.command("nft", "-f", "-", stdin=text)


@pytest.fixture
def barn() -> Iterator[Barn]:
    with machines(4) as (gateway, cloud, sensor, other):
        yield Barn(gateway, cloud, sensor, other)


def reaches(machine: Machine, at: Machine, address: str, port: int, patience_s: float = 0.3) -> bool:
    """Whether a TCP connection from one machine comes about to a listener on the other."""
    listener = at.run(lambda: socket.create_server((address, port)))
    try:
        machine.run(lambda: socket.create_connection((address, port), timeout=patience_s)).close()
    except OSError:
        return False
    finally:
        listener.close()
    return True


def test_without_the_firewall_a_gateway_that_forwards_lets_sensors_through(barn: Barn) -> None:
    assert not reaches(barn.sensor, barn.cloud, CLOUD, 8883)
    barn.forward()
    assert reaches(barn.sensor, barn.cloud, CLOUD, 8883), "or the tests below would prove nothing"
    assert reaches(barn.sensor, barn.other, OTHER, 80)


def test_with_it_a_sensor_reaches_its_gateway_and_nothing_else_even_if_the_gateway_forwards(barn: Barn) -> None:
    barn.forward()
    barn.protect()
    assert reaches(barn.sensor, barn.gateway, GATEWAY_IN, 1883)
    assert reaches(barn.sensor, barn.gateway, GATEWAY_IN, 8883)
    assert not reaches(barn.sensor, barn.gateway, GATEWAY_IN, 22)
    assert not reaches(barn.sensor, barn.gateway, GATEWAY_OUT, 9109)
    assert not reaches(barn.sensor, barn.cloud, CLOUD, 8883)
    assert not reaches(barn.sensor, barn.other, OTHER, 80)


def test_with_it_the_gateway_reaches_the_cloud_and_nobody_reaches_the_gateway_from_there(barn: Barn) -> None:
    barn.forward()
    barn.protect()
    assert reaches(barn.gateway, barn.cloud, CLOUD, 8883)
    assert not reaches(barn.cloud, barn.gateway, GATEWAY_OUT, 1883)
    assert not reaches(barn.cloud, barn.sensor, SENSOR, 80)
    assert not reaches(barn.gateway, barn.sensor, SENSOR, 80), "a gateway begins nothing on the sensors' side"


def test_the_example_can_be_loaded_twice_and_leaves_other_tables_alone(barn: Barn) -> None:
    barn.gateway.command("nft", "add table inet mine")
    barn.protect()
    barn.protect()
    assert "table inet mine" in barn.gateway.command("nft", "list", "ruleset")


def test_check_sees_forwarding_on_the_machine_itself(barn: Barn, tmp_path: Path) -> None:
    write_key(tmp_path / "gateway.key", bytes(32))
    text = gateway_config(tmp_path, 1883).read_text()
    text = text.replace("[uplink]", '[uplink]\ninterface = "eth0"').replace(
        "[local]", f'[local]\nhost = "{GATEWAY_IN}"\nplain = true'
    )
    (tmp_path / "barn.toml").write_text(text)
    settings = load_settings(tmp_path / "barn.toml", environ={})

    def look() -> list[str]:
        interfaces = Interfaces.of_this_machine()
        return [*way_problems(settings, interfaces), *forwarding(settings, interfaces)]

    assert barn.gateway.run(look) == []
    barn.gateway.set("ipv4/conf/eth1/forwarding", 1)
    assert barn.gateway.run(look) == ["net.ipv4.conf.eth1.forwarding"]
    barn.forward()
    assert "net.ipv4.ip_forward" in barn.gateway.run(look)
    barn.gateway.set("ipv4/ip_forward", 0)
    barn.gateway.set("ipv6/conf/all/forwarding", 1)
    assert "net.ipv6.conf.all.forwarding" in barn.gateway.run(look)


def test_a_line_goes_through_its_own_interface_whatever_the_routes_say() -> None:
    with machines(2) as (gateway, cloud):
        cable(gateway, "eth0", "10.9.0.1/24", cloud, "eth0", "10.9.0.2/24")
        cable(gateway, "wwan0", "10.8.0.1/24", cloud, "wwan0", "10.8.0.2/24")
        cloud.ip("address add 10.7.0.2/32 dev lo")
        gateway.ip("route add default via 10.9.0.2 dev eth0 metric 100")
        gateway.ip("route add default via 10.8.0.2 dev wwan0 metric 700")
        listener = cloud.run(lambda: socket.create_server(("10.7.0.2", 8883)))
        made = gateway.run(lambda: connect_through("wwan0", "10.7.0.2", 8883))
        assert made.getsockname()[0] == "10.8.0.1"
        made.close()
        with pytest.raises(OSError, match="through eth7: "):
            gateway.run(lambda: connect_through("eth7", "10.7.0.2", 8883))
        listener.close()


def test_the_firewall_is_one_that_nft_takes() -> None:
    done = subprocess.run(["nft", "-c", "-f", "-"], input=example("firewall"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
