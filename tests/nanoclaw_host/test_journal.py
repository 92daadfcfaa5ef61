"""`nanoclaw journal`: what a gateway decided, from its disk, in words."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nanoclaw.host.journal_view import lines, look
from nanoclaw.host.outbox_store import OutboxStore

NANOCLAW = [str(Path(sys.executable).with_name("nanoclaw"))]
AT_MS = 1_767_225_600_000
RAISED: dict[str, Any] = {
    "utc_ms": AT_MS,
    "what": "alert-raised",
    "alert": "hot:sensor-01:1:1",
    "rule": "hot",
    "node": "sensor-01",
    "value": 31.5,
    "commands": [{"id": "gateway-01:1:1", "action": "alert", "target": "sensor-01"}],
    "item": "gateway-01-1-r5",
}
PENS: dict[str, Any] = RAISED | {"node": None, "scope": "group:pens", "judged": 2, "members": 5, "item": "gone"}
ENTRIES: list[dict[str, Any]] = [
    {"utc_ms": None, "what": "offline", "reason": "heartbeat timeout", "silent_ms": 90_001},
    RAISED,
    PENS,
    {"utc_ms": AT_MS, "what": "cooldown-over", "rule": "hot", "node": "sensor-01", "commands": []},
    {"utc_ms": AT_MS, "what": "command-refused", "rule": "hot", "target": "yard", "reason": "not here"},
    {"utc_ms": AT_MS, "what": "command-failed", "id": "c", "action": "identify", "target": "yard", "reason": "busy"},
    {"utc_ms": AT_MS, "what": "command-expired", "id": "c", "action": "identify", "target": "yard"},
    {"utc_ms": AT_MS, "what": "online", "offline_ms": 600_000},
]
SHOWN = """\
time not known              decides alone: heartbeat timeout, silent for 90 s
2026-01-01 00:00:00  waits  hot on sensor-01: raised, value 31.5; alert for sensor-01
2026-01-01 00:00:00  told   hot on group:pens: raised, value 31.5, over 2 of 5 nodes; alert for sensor-01
2026-01-01 00:00:00         hot on sensor-01: still there after its cooldown
2026-01-01 00:00:00         hot cannot command yard: not here
2026-01-01 00:00:00         identify for yard failed: busy
2026-01-01 00:00:00         identify for yard expired
2026-01-01 00:00:00         reached the cloud after 600 s"""


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    store = OutboxStore(tmp_path)
    body = json.dumps({"verb": "status", "message": {"item": RAISED["item"]}}).encode()
    entries = [("put", f"journal:{number}", entry) for number, entry in enumerate(ENTRIES, 8)]
    await store.write([*entries, ("add", 5, "report", body)])
    store.close()
    return tmp_path


async def test_it_reads_as_a_story_and_says_what_the_cloud_does_not_know_yet(data: Path) -> None:
    assert "\n".join(line.rstrip() for line in lines(look(data, 50))) == SHOWN


async def test_the_latest_are_shown(data: Path) -> None:
    assert [entry["what"] for entry in look(data, 2)] == ["command-expired", "online"]


async def test_the_command_prints_it_and_as_json(data: Path) -> None:
    def run(*more: str) -> str:
        done = subprocess.run([*NANOCLAW, "journal", "--data", str(data), *more], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run().splitlines()[1].startswith("2026-01-01 00:00:00  waits  hot on sensor-01: raised")
    assert [entry["told"] for entry in json.loads(run("--json", "--last", "7"))][:2] == [False, True]


def test_an_empty_journal_says_so(tmp_path: Path) -> None:
    done = subprocess.run([*NANOCLAW, "journal", "--data", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "nothing was decided here yet\n")


def test_a_disk_that_cannot_be_read_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "outbox.sqlite").write_bytes(b"no database at all, but long enough to be one" * 40)
    done = subprocess.run([*NANOCLAW, "journal", "--data", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 3 and done.stderr.startswith("error: the outbox cannot be read: ")
