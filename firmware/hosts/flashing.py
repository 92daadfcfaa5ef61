"""`firmware flash`: a bundle, a configuration and a key to a board, so that at no moment something half copied runs.

The board has two slots. What is new is copied into the one that does not run, read back and compared, and only then
named in the file that `main.py` reads, by one rename. When the new firmware does not say hello the old one is named
again. Readings on the board's flash are in neither slot and stay.
"""

import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

from firmware.hosts.build import NODE_FILE
from firmware.hosts.bundle import MAIN_FILE, MANIFEST_FILE, MPY_VERSION, Bundle
from firmware.hosts.micro.main import HOLD_FILE, SLOT_FILE
from firmware.hosts.port import BoardPort, PortError, lines

SLOTS = ("clawland.a", "clawland.b")
OLD_MAIN = "main.py.old"
HELLO_WITHIN_S = 40.0
_MAIN_MARK = '"""What a board does at power-on, as `main.py`'
_BLOCK_BYTES = 4096  # littlefs gives no file less than a block
_KINDS = {"esp32": "esp32", "rp2": "pico-w"}  # by sys.platform
_LAST_LINES = 12
_FACTS = """
import binascii, machine, os, sys
about, room = sys.implementation, os.statvfs("/")
print(repr((getattr(about, "_mpy", 0) & 255, sys.platform, "%d.%d.%d" % tuple(about.version[:3]),
    binascii.hexlify(machine.unique_id()).decode(), room[1] * room[3])))
"""

Say = Callable[[str], None]


def flash(url: str, bundle: Bundle, node: dict[str, Any], say: Say, wait_s: float = 10.0, replace: bool = False) -> str:
    """Bring `bundle` and the configuration `node` to the board at `url`, and give the hello that it then says.

    `replace` puts the main.py of another program aside. Raises `PortError`; then what ran before runs again.
    """
    board = BoardPort(url, wait_s)
    try:
        _check(board, bundle, say)
        _check_main(board, replace)
        board = _hold(board, wait_s)
        current, target = _slots(board)
        board.remove(target)
        _check_room(board, bundle)
        _copy(board, bundle, node, target, say)
        _install_main(board, bundle)
        _switch(board, target)
    finally:
        board.reset()
    say("the board restarts")
    hello, last = _hello(url, bundle, str(node["core"]["id"]), wait_s)
    if not hello:
        _back(url, current, wait_s)
        raise PortError(_silent(url, current, last))
    return hello


def _check(board: BoardPort, bundle: Bundle, say: Say) -> None:
    """Whether the bundle can run there."""
    mpy, platform, version, unique_id, _ = board.answer(_FACTS)
    kind = _KINDS.get(platform, bundle.kind)
    say(f"{board.url}: {platform} {unique_id} with MicroPython {version}")
    if mpy != MPY_VERSION:
        raise PortError(
            f"{board.url}: MicroPython {version} reads .mpy files of version {mpy}, and the bundle has version "
            f"{MPY_VERSION}: put MicroPython 1.23 or later on the board (micropython.org/download)"
        )
    if kind != bundle.kind:
        raise PortError(f"{board.url}: the board is of kind {kind}, and the bundle is for {bundle.kind}")


def _check_main(board: BoardPort, replace: bool) -> None:
    main = board.text(MAIN_FILE)
    if not main or main.startswith(_MAIN_MARK):
        return
    if not replace:
        raise PortError(
            f"{board.url}: the board has the {MAIN_FILE} of another program: --replace keeps it as {OLD_MAIN}"
        )
    board.remove(OLD_MAIN)
    board.rename(MAIN_FILE, OLD_MAIN)


def _hold(board: BoardPort, wait_s: float) -> BoardPort:
    """Restart a board that runs our firmware without it: its watchdog cannot be stopped otherwise."""
    if board.text(SLOT_FILE) is None or not board.text(MAIN_FILE):
        return board
    board.write(HOLD_FILE, b"")
    board.reset()
    time.sleep(1)  # it is gone before it is back
    held = BoardPort(board.url, wait_s)
    held.remove(HOLD_FILE)  # should it not have been taken
    return held


def _slots(board: BoardPort) -> tuple[str | None, str]:
    """The slot that runs, and the other."""
    current = (board.text(SLOT_FILE) or "").strip()
    if current not in SLOTS:
        return None, SLOTS[0]
    return current, SLOTS[1 - SLOTS.index(current)]


def _check_room(board: BoardPort, bundle: Bundle) -> None:
    needed = sum(-(-size // _BLOCK_BYTES) * _BLOCK_BYTES for size, _ in bundle.files.values())
    free = board.answer(_FACTS)[4]
    if free < needed:
        raise PortError(f"{board.url}: the board has {free >> 10} KB free, and the firmware needs {needed >> 10} KB")


def _copy(board: BoardPort, bundle: Bundle, node: dict[str, Any], target: str, say: Say) -> None:
    """Into the slot that does not run; what the board reads back must be what was sent."""
    names = [name for name in (*bundle.files, MANIFEST_FILE) if name != MAIN_FILE]
    data = {name: (bundle.directory / name).read_bytes() for name in names}
    data[NODE_FILE] = json.dumps(node).encode()
    say(f"copying {len(data)} files, {sum(map(len, data.values())) >> 10} KB, into {target}")
    board.make_directories([target, *(f"{target}/{each}" for each in _directories(data))])
    for name, content in data.items():
        board.write(f"{target}/{name}", content)
    _compare(board, {f"{target}/{name}": content for name, content in data.items()})


def _compare(board: BoardPort, wanted: dict[str, bytes]) -> None:
    found = board.hashes(wanted)
    for path, content in wanted.items():
        if found.get(path) != sha256(content).hexdigest():
            raise PortError(f"{board.url}: {path} arrived damaged: try again, perhaps with another cable")


def _directories(names: Iterable[str]) -> list[str]:
    parents = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return sorted(parents - {"."})


def _install_main(board: BoardPort, bundle: Bundle) -> None:
    content = (bundle.directory / MAIN_FILE).read_bytes()
    new = MAIN_FILE + ".new"
    board.write(new, content)
    _compare(board, {new: content})
    board.rename(new, MAIN_FILE)


def _switch(board: BoardPort, slot: str | None) -> None:
    """Name the slot that runs from the next start on; None: none."""
    if slot is None:
        board.remove(SLOT_FILE)
        return
    new = SLOT_FILE + ".new"
    board.write(new, slot.encode())
    board.rename(new, SLOT_FILE)


def _hello(url: str, bundle: Bundle, who: str, wait_s: float) -> tuple[str, list[str]]:
    """The hello of the new firmware, empty when none came; and the last lines that the board said."""
    last: list[str] = []
    until_s = time.monotonic() + HELLO_WITHIN_S
    while time.monotonic() < until_s:
        with suppress(PortError):
            for line in lines(url, until_s, wait_s):
                last = [*last, line][-_LAST_LINES:]
                if is_hello(line, bundle.firmware, who):
                    return line, last
                if line.startswith("the firmware has failed"):
                    return "", last
    return "", last


def is_hello(line: str, firmware: str, who: str) -> bool:
    """Whether `line` is the hello of the node `who` with this firmware."""
    if not line.startswith("hello "):
        return False
    try:
        found = json.loads(line.removeprefix("hello "))
    except ValueError:
        return False
    return isinstance(found, dict) and (found.get("firmware"), found.get("id")) == (firmware, who)


def _back(url: str, current: str | None, wait_s: float) -> None:
    """What ran before is named again."""
    with suppress(PortError):
        board = BoardPort(url, wait_s)
        try:
            board = _hold(board, wait_s)
            _switch(board, current)
        finally:
            board.reset()


def _silent(url: str, current: str | None, last: list[str]) -> str:
    before = "what ran before runs again" if current else "nothing runs on it"
    said = "\n".join(f"  | {line}" for line in last) or "  (nothing)"
    return f"{url}: the new firmware does not say hello, so {before}. The last that the board said:\n{said}"
