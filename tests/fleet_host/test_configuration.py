"""What a user configures, and what they read when it is wrong."""

import json
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from firmware.hosting.lifecycle import CannotRun
from fleet.host.inventory import load
from fleet.host.json_place import line_and_column
from fleet.host.lock import DirectoryLock
from fleet.host.settings import ServeSettings, SettingsError, read_lines, read_secret, read_toml
from tests.fleet_host.stand import INVENTORY, NODE_KEY, command


def changed(path: str, value: Any) -> dict[str, Any]:
    """The inventory with one value replaced, or removed when the value is `...`."""
    found: Any = json.loads(json.dumps(INVENTORY))
    inner = found
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in way:
        inner = inner[step]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return dict(found)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("fleet", "Not An Id", "fleet: expected an id"),
        ("nodse", [], "nodse: unknown key; known are fleet, gateways, nodes, rules"),
        ("nodes", {}, "nodes: expected a list"),
        ("nodes.1", 7, "nodes.1: expected an object"),
        ("nodes.1.id", "Sensor 2", "nodes.1.id: 'Sensor 2' is not an id"),
        ("nodes.1.id", "sensor-01", "nodes.1.id: 'sensor-01' is taken by nodes.0"),
        ("nodes.1.id", "gateway-01", "nodes.1.id: 'gateway-01' is taken by gateways.0"),
        ("nodes.1.key", "abcd", "nodes.1.key: expected a key of 64 hexadecimal digits"),
        ("nodes.1.key", ..., "nodes.1.key: expected a key of 64 hexadecimal digits"),
        ("nodes.1.type", "toaster", "nodes.1.type: expected one of microclaw"),
        ("nodes.1.gateway", "gateway-09", "nodes.1.gateway: 'gateway-09' is not among the gateways"),
        ("gateways.0.id", ..., "gateways.0.id: None is not an id"),
        ("rules", 3, "rules: expected a list"),
        ("sensitive", {}, "sensitive: expected a list"),
        ("nodes.1.sealed", "co2", "nodes.1.sealed: expected a list of metrics"),
        ("nodes.1.sealing_key", "abcd", "nodes.1.sealing_key: expected a key of 64 hexadecimal digits"),
        ("nodes.1.sealing_key", "44" * 32, "nodes.1.sealing_key: of no use without `sealed`"),
        ("nodes.0.sealing_key", NODE_KEY, "nodes.0.sealing_key: is the node's other key, too"),
    ],
)
def test_a_mistake_in_the_inventory_is_named_by_file_line_column_path_and_message(
    tmp_path: Path, path: str, value: Any, message: str
) -> None:
    file = tmp_path / "fleet.json"
    file.write_text(json.dumps(changed(path, value)))
    with pytest.raises(SettingsError) as error:
        load(file)
    assert re.match(rf"{re.escape(f'{file}:')}1:\d+: {re.escape(message)}", str(error.value))
    assert NODE_KEY not in str(error.value)


def test_the_line_and_column_of_a_mistake_are_those_of_the_member(tmp_path: Path) -> None:
    file = tmp_path / "fleet.json"
    text = json.dumps(changed("nodes.1.type", "toaster"), indent=2)
    file.write_text(text)
    lines = text.splitlines()
    line = next(number for number, each in enumerate(lines, 1) if "toaster" in each)
    column = lines[line - 1].index('"toaster"') + 1
    with pytest.raises(SettingsError, match=rf"fleet\.json:{line}:{column}: nodes\.1\.type: expected one of"):
        load(file)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("a", (1, 7)),
        ("b.0", (2, 7)),
        ("b.1", (2, 10)),
        ("b.9", (2, 6)),
        ("c", (1, 1)),
        ("b.1.x y", (3, 3)),
        ("", (1, 1)),
        ("b.0.z", (2, 7)),
    ],
)
def test_a_member_of_a_json_text_is_found_by_its_path(path: str, place: tuple[int, int]) -> None:
    assert line_and_column('{"a": {},\n"b": [5, {"x y":\n  true}]}', path) == place


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "\udcff", "null", "[]"])
def test_an_inventory_that_is_no_object_is_a_clear_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "fleet.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SettingsError, match=r"fleet\.json"):
        load(file)


def test_a_hub_elsewhere_needs_a_password_and_the_reverse() -> None:
    with pytest.raises(SettingsError, match="--hub needs --hub-password-file"):
        ServeSettings(Path("d"), hub="hub:1883")
    with pytest.raises(SettingsError, match="give its address"):
        ServeSettings(Path("d"), hub_password_file=Path("f"))


def test_a_secret_is_the_first_line_of_its_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "secret"
    file.write_text("hunter2\n\n")
    file.chmod(0o600)
    assert (read_secret(file), caplog.text) == (b"hunter2", "")
    file.chmod(0o644)
    assert read_secret(file) == b"hunter2"
    assert "others can read it" in caplog.text and "hunter2" not in caplog.text
    file.write_text("\n")
    with pytest.raises(SettingsError, match="one line with a secret"):
        read_secret(file)


def test_notification_urls_are_lines_without_comments(tmp_path: Path) -> None:
    file = tmp_path / "urls"
    file.write_text("# who is told\nmailto://user:pass@example.org\n\n  json://localhost \n")
    assert read_lines(file) == ["mailto://user:pass@example.org", "json://localhost"]


def test_a_toml_file_may_only_hold_flags(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text('[serve]\nhub-port = 1884\ndata = "d"\n')
    assert read_toml(file, "serve", ["hub_port", "data"]) == {"hub_port": 1884, "data": "d"}
    with pytest.raises(SettingsError, match=r"serve\.hub_port: unknown key"):
        read_toml(file, "serve", ["data"])


def test_one_server_works_in_a_directory(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "data")
    with pytest.raises(CannotRun, match=rf"another fleet server .*process {os.getpid()}"):
        DirectoryLock(tmp_path / "data")
    lock.release()
    DirectoryLock(tmp_path / "data").release()


def fails(*arguments: str | Path, **variables: str) -> tuple[int, str]:
    """The exit code and the message of a command that cannot run."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("CLAWLAND_")} | variables
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=30, env=env)
    assert done.stdout == "" and "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.live
def test_flags_come_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text('[serve]\ninventory = "from-the-file"\n')
    common = ("serve", "--data", tmp_path / "d", "--config", file)
    assert "from-the-file" in fails(*common)[1]
    assert "from-the-environment" in fails(*common, CLAWLAND_INVENTORY="from-the-environment")[1]
    both = fails(*common, "--inventory", "from-a-flag", CLAWLAND_INVENTORY="from-the-environment")
    assert both == (2, "error: from-a-flag: No such file or directory\n")


@pytest.mark.live
def test_a_port_in_use_is_one_line_and_exit_3(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments in (["--port", port, "--hub-port", "0"], ["--port", "0", "--hub-port", port]):
            code, message = fails("serve", "--data", tmp_path / "d", *arguments)
            assert (code, message.count("\n")) == (3, 1)
            assert f"port {port} on 127.0.0.1" in message and "in use" in message


@pytest.mark.live
def test_a_bad_hub_file_is_named_by_its_key(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    for content, place in (
        ({}, "manager"),
        ({"manager": {"password": ""}}, "manager.password"),
        ({"manager": {"password": "x"}, "gateways": {"A": "x"}}, "gateways.A"),
        ({"manager": {"password": "x"}, "gateways": {"fleet": "x"}}, "gateways.fleet"),
    ):
        file.write_text(json.dumps(content))
        file.chmod(0o600)
        code, message = fails("hub", "--port", "0", "--credentials", file)
        assert code == 2 and message.startswith(f"error: {file}: {place}: ")
