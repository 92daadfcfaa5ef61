"""`fleet check` says what is wrong before a server runs, takes what `fleet serve` takes, and changes nothing."""

import json
import socket
import sqlite3
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.cli import app
from fleet.host.checks import exit_code, run
from fleet.host.checks.finding import Finding
from fleet.host.lock import DirectoryLock, running_at
from fleet.host.pki import certificates
from fleet.host.pki.authority import Authority
from fleet.host.settings import ServeSettings
from tests.fleet_host.stand import INVENTORY, NODE_KEY, Database, command, files_of_a_fleet, fleet_with_hub
from tests.servers import PostgresServer, RedisServer, free_port

pytestmark = pytest.mark.usefixtures("own_logging")


def settings(directory: Path, **changes: object) -> ServeSettings:
    """Of a server on free ports."""
    given: dict[str, object] = {"data": directory / "data", "port": 0, "hub_port": 0} | changes
    return ServeSettings(**given)  # type: ignore[arg-type]


def about(what: str, findings: list[Finding]) -> Finding:
    return next(finding for finding in findings if finding.what == what)


def test_a_server_that_never_ran_can_run_and_nothing_was_made(tmp_path: Path) -> None:
    findings = run(settings(tmp_path))
    assert exit_code(findings) == 0
    assert {finding.state for finding in findings} == {"ok", "warn"}
    assert about("notification", findings).state == "warn"
    assert list(tmp_path.iterdir()) == []


def test_a_good_fleets_files_are_good(tmp_path: Path) -> None:
    fleet = files_of_a_fleet(tmp_path)
    fleet.data.chmod(0o700)
    (tmp_path / "urls").write_text("# whom\njson://localhost\n")
    (tmp_path / "urls").chmod(0o600)
    findings = run(settings(tmp_path, inventory=fleet.inventory, notify_file=tmp_path / "urls"))
    assert {finding.state for finding in findings} == {"ok"}
    assert "gateways 1, nodes 2, rules 0" in about("inventory", findings).found


def test_a_directory_and_files_that_others_can_read_are_warnings(tmp_path: Path) -> None:
    fleet = files_of_a_fleet(tmp_path)
    for path, mode in ((fleet.data, 0o755), (fleet.inventory, 0o640)):
        path.chmod(mode)
    findings = run(settings(tmp_path, inventory=fleet.inventory))
    assert (about("data directory", findings).state, exit_code(findings)) == ("warn", 0)
    assert f"chmod 600 {fleet.inventory}" in about("rights", findings).found


@pytest.mark.parametrize("options", [("--port",), ("--hub-port",)])
def test_a_port_in_use_is_bad_and_names_its_option(tmp_path: Path, options: tuple[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        name = options[0].removeprefix("--").replace("-", "_")
        findings = run(settings(tmp_path, **{name: taken.getsockname()[1]}))
    bad = about("ports", findings)
    assert (bad.state, bad.code) == ("BAD", 3)
    assert "address already in use" in bad.found and options[0] in bad.found


def test_a_directory_with_a_server_in_it_is_bad_and_says_where_that_is(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "data")
    assert running_at(tmp_path / "data") is None
    lock.tell("http://127.0.0.1:8080")
    assert running_at(tmp_path / "data") == "http://127.0.0.1:8080"
    findings = run(settings(tmp_path))
    assert "already, at http://127.0.0.1:8080" in about("server", findings).found and exit_code(findings) == 3
    lock.release()
    assert running_at(tmp_path / "data") is None


def test_a_mistake_in_the_inventory_is_bad_with_its_place_and_without_a_key(tmp_path: Path) -> None:
    fleet = files_of_a_fleet(tmp_path)
    rules = [{"name": "hot", "when": {"metric": "temp", "op": ">", "value": "warm"}, "action": "notify"}]
    fleet.inventory.write_text(json.dumps(INVENTORY | {"rules": rules}, indent=1))
    bad = about("inventory", run(settings(tmp_path, inventory=fleet.inventory)))
    assert (bad.state, bad.code) == ("BAD", 2)
    assert ": rules: rule hot: " in bad.found and f"{fleet.inventory}:" in bad.found and NODE_KEY not in bad.found


def test_a_wrong_line_of_the_notify_file_is_named_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "urls"
    file.write_text("# whom\n\njson://localhost\nsmoke://user:hunter22@signals\n")
    bad = about("notification", run(settings(tmp_path, notify_file=file)))
    assert bad.found == f"{file}:4: smoke:… is no URL that apprise understands"


def test_the_database_of_a_newer_program_is_bad(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(0o700)
    file = tmp_path / "data" / "fleet.sqlite"
    Database(f"sqlite+pysqlite:///{file}").open().close()
    assert about("database", run(settings(tmp_path))).found.startswith(f"{file}, version 0")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    bad = about("database", run(settings(tmp_path)))
    assert (bad.state, bad.code) == ("BAD", 3) and "9999, made by a newer program" in bad.found


def test_a_file_that_is_no_database_is_bad(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(0o700)
    (tmp_path / "data" / "fleet.sqlite").write_text("no database" * 100)
    assert "not a database" in about("database", run(settings(tmp_path))).found


def test_a_postgresql_is_asked_and_its_encryption_is_declared_not_verified(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    reached = {"database_url": postgres.make_database(), "database_password_file": postgres.password_file}
    findings = run(settings(tmp_path, encryption_declared="disk", **reached))
    assert "empty: the first start brings it to version" in about("database", findings).found
    assert about("disk encryption", findings) == Finding("disk encryption", "declared, not verified")
    assert about("backup encryption", findings).state == "warn"
    (tmp_path / "wrong").write_text("hunter22\n")
    bad = about("database", run(settings(tmp_path, **reached | {"database_password_file": tmp_path / "wrong"})))
    assert bad.code == 3 and "password authentication failed" in bad.found and "hunter22" not in bad.found


def test_a_redis_that_is_away_is_a_warning_since_the_server_runs_without(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "password").write_text(redis_server.password or "")
    found = settings(tmp_path, redis_url=redis_server.url, redis_password_file=tmp_path / "password")
    assert about("Redis", run(found)).state == "ok"
    away = settings(tmp_path, redis_url=f"redis://127.0.0.1:{free_port()}/0")
    assert about("Redis", run(away)).state == "warn"


def test_certificates_are_present_valid_and_not_about_to_end(tmp_path: Path) -> None:
    missing = about("certificates", run(settings(tmp_path, hub_tls=True)))
    assert missing.code == 2 and "fleet pki init" in missing.found
    authority = Authority(tmp_path / "data")
    authority.init([])
    authority.issue("gateway-01", certificates.new_key().public_key(), days=90)
    good = run(settings(tmp_path, hub_tls=True))
    assert {about(f"certificate of {name}", good).state for name in ("fleet", "hub")} == {"ok"}
    assert "certified gateways: 1" in about("authority", good).found
    Authority(tmp_path / "data").issue("gateway-02", certificates.new_key().public_key(), days=5)
    assert "gateway-02" in about("certificates of gateways", run(settings(tmp_path, hub_tls=True))).found


def test_an_expired_certificate_is_bad(tmp_path: Path) -> None:
    Authority(tmp_path / "data", lambda: datetime.now(UTC) - timedelta(days=500)).init([])
    bad = about("certificates", run(settings(tmp_path, hub_tls=True)))
    assert (bad.state, bad.code) == ("BAD", 2) and "ran out on" in bad.found and "fleet pki renew" in bad.found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--forwarded-allow-ips", "*"], "'*' is neither an address nor a network"),
        (["--encryption-declared", "tapes"], "'tapes' is not one of disk, backup"),
        (["--hub", "127.0.0.1:1"], "--hub needs --hub-password-file"),
        (["--retention", "soon"], "'soon' is not a duration"),
    ],
)
def test_wrong_settings_are_exit_2_in_words(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["check", "--data", str(tmp_path), "--port", "0", "--hub-port", "0", *arguments])
    assert (done.exit_code, done.output.count("BAD")) == (2, 1)
    assert said in done.output


def test_check_reads_the_table_of_serve_and_the_same_variables(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text('[serve]\nport = 0\nhub-port = 0\ndata = "from-the-file"\nretention = "90d"\n')
    arguments = ["check", "--config", str(file), "--json"]
    found = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert {"what": "retention", "found": "readings are removed after 90d", "state": "ok"} in found
    assert found[0]["found"] == "from-the-file will be made"
    found = json.loads(CliRunner().invoke(app, arguments, env={"CLAWLAND_DATA": "from-the-variable"}).stdout)
    assert found[0]["found"] == "from-the-variable will be made"


@pytest.mark.live
def test_a_hub_elsewhere_is_reached_with_the_right_password_only(tmp_path: Path) -> None:
    with fleet_with_hub(tmp_path) as fleet:
        common = {"hub": fleet.hub, "hub_password_file": fleet.password}
        assert about("Event Hub", run(settings(tmp_path, **common))).state == "ok"
        (tmp_path / "wrong").write_text("hunter22\n")
        bad = about("Event Hub", run(settings(tmp_path, **common | {"hub_password_file": tmp_path / "wrong"})))
        assert (bad.state, bad.code) == ("BAD", 3) and "hunter22" not in bad.found
    assert about("Event Hub", run(settings(tmp_path, **common))).code == 3


@pytest.mark.live
def test_the_command_itself_ends_with_the_code(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(command("check", "--data", tmp_path / "file"), capture_output=True, text=True, timeout=30)
    assert done.returncode == 3 and done.stderr == ""
    assert f"BAD   data directory: {tmp_path / 'file'} is not a directory" in done.stdout
