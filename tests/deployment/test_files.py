"""The systemd unit and the nginx site: what is printed fits the programs that read it, and takes nothing odd."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.cli import app
from fleet.deployment.nginx import MAX_BODY_BYTES, Site, nginx_alone, nginx_site
from fleet.deployment.template import DeploymentError
from fleet.host import gate

CREDENTIAL = ("--credential", "database-password-file=/etc/clawland/database-password")
MOST_EXPOSED = 20  # tenths; systemd calls up to 50 medium, and an ordinary service has 96


def printed(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    return done.stderr


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program, "make setup, or sudo apt-get install systemd"
    # Ours alone, whatever lies about on the machine.
    environment = {
        "PATH": os.environ["PATH"],
        "SYSTEMD_LOG_LEVEL": "warning",
        "SYSTEMD_UNIT_PATH": "/usr/lib/systemd/system:",
    }
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60, env=environment)


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unit with a configuration and a secret."""
    file = tmp_path_factory.mktemp("unit") / "clawland-fleet.service"
    file.write_text(printed("unit", "--config", "/etc/clawland/fleet.toml", *CREDENTIAL))
    return file


def test_systemd_takes_the_unit_without_a_word(unit: Path) -> None:
    done = analyze("verify", unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_service_is_locked_in(unit: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", unit)
    assert done.returncode == 0, done.stdout


def test_a_secret_reaches_the_server_as_a_credential_and_its_variable_names_it(unit: Path) -> None:
    text = unit.read_text()
    assert "LoadCredential=database-password-file:/etc/clawland/database-password\n" in text
    assert "Environment=CLAWLAND_DATABASE_PASSWORD_FILE=%d/database-password-file\n" in text
    assert "serve --config /etc/clawland/fleet.toml\n" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--credential", "data=/etc/x"], "expected OPTION=FILE with one of data-key-file, database-password-file"),
        (["--credential", "hub-password-file"], "expected OPTION=FILE"),
        (["--credential", "hub-password-file=etc/x"], "is not an absolute path"),
        (["--config", "fleet.toml"], "is not an absolute path"),
        (["--config", "/etc/x\nExecStartPre=/bin/evil"], "cannot stand there"),
        (["--program", "/opt/with space/fleet"], "cannot stand there"),
    ],
)
def test_what_cannot_stand_in_a_unit_is_refused(arguments: list[str], said: str) -> None:
    message = refused("unit", *arguments)
    assert said in message and message.startswith("error: ")


# --- nginx -----------------------------------------------------------------------------------------------------------

SITE = Site("fleet.example.org", Path("/etc/ssl/fleet.pem"), Path("/etc/ssl/private/fleet.key"))


def test_the_site_names_every_server_and_the_servers_own_limit() -> None:
    assert gate.MAX_BODY_BYTES == MAX_BODY_BYTES
    several = Site(SITE.name, SITE.certificate, SITE.key, ("10.0.0.1:8080", "10.0.0.2:8080"))
    text = nginx_site(several)
    assert "server 10.0.0.1:8080 max_fails" in text and "server 10.0.0.2:8080 max_fails" in text
    assert f"client_max_body_size {MAX_BODY_BYTES};" in text and "listen 443 ssl http2;" in text
    assert "@" not in text.replace("@too_large", "").replace("@unavailable", "")


def test_http_sends_on_to_https_unless_told_otherwise() -> None:
    common = ("nginx", "--name", SITE.name, "--certificate", SITE.certificate, "--key", SITE.key)
    assert "return 308 https://$host$request_uri;" in printed(*common)
    assert "return 308" not in printed(*common, "--redirect-from", "none")


@pytest.mark.parametrize(
    "arguments", [("--name", "a;b"), ("--upstream", "h:1; evil"), ("--listen", "$x"), ("--key", "a b"), ("--name", "")]
)
def test_what_would_be_read_as_something_else_is_refused(arguments: tuple[str, str]) -> None:
    common = ["--name", "a", "--certificate", "/c", "--key", "/k"]
    assert f"{arguments[0]}: {arguments[1]!r} cannot stand there" in refused("nginx", *common, *arguments)


def test_an_nginx_of_its_own_keeps_everything_in_one_directory(tmp_path: Path) -> None:
    text = nginx_alone(SITE, tmp_path)
    assert f"pid {tmp_path}/nginx.pid;" in text and "upstream clawland_fleet" in text
    with pytest.raises(DeploymentError):
        nginx_alone(SITE, Path("/a dir"))
