"""The outbox: one store is one transaction, a crash loses nothing committed, a broken file never stops the gateway."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from nanoclaw.host import outbox_store
from nanoclaw.host.outbox_store import (
    OUTBOX_FILE,
    OutboxBroken,
    OutboxStore,
    OutboxUnusable,
    StoreError,
    read_outbox,
)

ROW = (1, "reading", b'{"sensor":"sensor-01","boot":1,"seq":0}')


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path


async def test_what_was_written_is_there_after_reopening_in_order(data: Path) -> None:
    store = OutboxStore(data)
    assert store.load() == {"slots": {}, "outbox": []}
    await store.write([("put", "boot", 7), ("add", 2, "report", b"two"), ("add", *ROW)])
    await store.write([("put", "snapshot", {"version": 1}), ("put", "boot", None), ("add", 3, "reading", b"three")])
    await store.write([("remove", [2, 99])])
    store.close()
    expected = {"slots": {"snapshot": {"version": 1}}, "outbox": [ROW, (3, "reading", b"three")]}
    reopened = OutboxStore(data)
    assert reopened.load() == expected
    assert read_outbox(data) == read_outbox(data / OUTBOX_FILE) == expected
    reopened.close()
    assert read_outbox(data) == expected


async def test_a_transaction_that_fails_leaves_nothing_of_itself(data: Path) -> None:
    store = OutboxStore(data)
    await store.write([("add", *ROW)])
    with pytest.raises(StoreError, match="UNIQUE"):
        await store.write([("put", "boot", 1), ("add", *ROW)])
    await store.write([("put", "boot", 2)])
    store.close()
    assert read_outbox(data) == {"slots": {"boot": 2}, "outbox": [ROW]}


async def test_a_full_disk_is_a_store_error_and_what_was_stored_stays(data: Path) -> None:
    store = OutboxStore(data)
    await store.write([("add", *ROW)])
    store._writer.submit(lambda: store._database.execute("PRAGMA max_page_count=1")).result()
    with pytest.raises(StoreError, match="full"):
        await store.write([("add", 2, "reading", bytes(100_000))])
    store._writer.submit(lambda: store._database.execute("PRAGMA max_page_count=100000")).result()
    await store.write([("add", 2, "reading", b"now it fits")])
    store.close()
    assert len(read_outbox(data)["outbox"]) == 2


async def test_a_slow_disk_does_not_stop_the_loop(data: Path) -> None:
    store = OutboxStore(data)
    gate = threading.Event()
    store._writer.submit(gate.wait)
    write = asyncio.create_task(store.write([("put", "boot", 1)]))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not write.done()
    gate.set()
    await write
    store.close()


@pytest.mark.parametrize("broken", [b"this is no database at all" * 500, b"SQLite format 3\x00" + bytes(5000)])
async def test_a_broken_file_is_moved_aside_and_reported(
    data: Path, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (data / OUTBOX_FILE).write_bytes(broken)
    store = OutboxStore(data)
    assert store.load() == {"slots": {}, "outbox": []}
    await store.write([("put", "boot", 1)])
    store.close()
    assert "broken" in caplog.text
    assert (data / f"{OUTBOX_FILE}.broken-1").read_bytes() == broken
    assert read_outbox(data)["slots"] == {"boot": 1}


async def test_a_page_damaged_in_the_middle_is_found_at_the_start(data: Path) -> None:
    store = OutboxStore(data)
    await store.write([("add", number, "reading", bytes(2000)) for number in range(1, 200)])
    store.close()
    path = data / OUTBOX_FILE
    content = bytearray(path.read_bytes())
    for offset in range(8 * 4096, 40 * 4096):
        content[offset] ^= 0x5A
    path.write_bytes(content)
    store = OutboxStore(data)
    assert store.load()["outbox"] == []
    store.close()


def break_while_it_runs(store: OutboxStore, directory: Path) -> None:
    """Damage every page but the first, and let the connection forget what it has read."""

    def fill() -> None:
        database = store._database
        rows = [(number, "reading", bytes(2000)) for number in range(1_000, 1_200)]
        database.executemany("INSERT INTO outbox VALUES (?, ?, ?)", rows)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        database.execute("PRAGMA shrink_memory").fetchall()

    store._writer.submit(fill).result()
    content = bytearray((directory / OUTBOX_FILE).read_bytes())
    content[4096:] = bytes(byte ^ 0x5A for byte in content[4096:])
    (directory / OUTBOX_FILE).write_bytes(content)


async def test_a_file_that_breaks_while_it_is_open_is_no_full_disk_and_is_moved_aside_at_the_next_start(
    data: Path,
) -> None:
    store = OutboxStore(data)
    break_while_it_runs(store, data)
    with pytest.raises(OutboxBroken, match=r"outbox\.sqlite: .*; the next start moves it aside"):
        await store.write([("add", *ROW)])
    store.close()
    store = OutboxStore(data)
    await store.write([("add", *ROW)])
    store.close()
    assert read_outbox(data) == {"slots": {}, "outbox": [ROW]}
    assert (data / f"{OUTBOX_FILE}.broken-1").exists()


async def test_a_database_that_somebody_else_holds_is_not_broken(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_store, "_BUSY_S", 0.05)
    store = OutboxStore(data)
    with closing(sqlite3.connect(data / OUTBOX_FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            await store.write([("add", *ROW)])
    await store.write([("add", *ROW)])
    store.close()


def test_an_outbox_of_a_newer_version_is_left_alone(data: Path) -> None:
    with sqlite3.connect(data / OUTBOX_FILE) as database:
        database.execute("PRAGMA user_version=99")
    with pytest.raises(OutboxUnusable, match="newer"):
        OutboxStore(data)
    assert not list(data.glob("*.broken*"))


def test_a_directory_that_cannot_hold_a_database_is_an_error_for_the_user(data: Path) -> None:
    (data / OUTBOX_FILE).mkdir()
    with pytest.raises(OutboxUnusable, match="unable to open"):
        OutboxStore(data)


def test_no_outbox_yet_reads_as_empty(data: Path) -> None:
    assert read_outbox(data) == {"slots": {}, "outbox": []}


CRASH = """
import asyncio, os, sys
from pathlib import Path
from nanoclaw.host.outbox_store import OutboxStore
async def main():
    store = OutboxStore(Path(sys.argv[1]))
    for number in range(1, 1000):
        await store.write([("add", 2 * number, "reading", b"x"), ("add", 2 * number + 1, "reading", b"y")])
        os.write(1, b"%d\\n" % number)
asyncio.run(main())
"""


@pytest.mark.live
def test_sigkill_at_any_moment_keeps_every_answered_transaction_whole(data: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CRASH, str(data)], stdout=subprocess.PIPE, env=dict(os.environ))
    assert child.stdout is not None
    answered = 0
    while answered < 50:
        answered = int(child.stdout.readline())
    child.kill()
    answered = max([answered, *map(int, child.stdout.read().split(b"\n")[:-1])])
    child.wait()
    rows = [item_id for item_id, _, _ in read_outbox(data)["outbox"]]
    assert rows == list(range(2, len(rows) + 2))
    assert len(rows) % 2 == 0
    assert len(rows) // 2 >= answered
