"""What the scenario's side knows of a recording: where spreadsheets and CSV files part, and when its rows happen."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from clawsim.scenario.plan import Json
from firmware.hal.recording import MAX_BYTES, parse_time, read_recording

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def of_header(path: str, *columns: str) -> list[str]:
    """What in the first row keeps `columns` from being found; each begins with the file and line.

    Nothing for a file that cannot be read: whoever replays it says why.
    """
    place = Path(path)
    try:
        if not place.is_file():
            return []
        with place.open(encoding="utf-8-sig", newline="") as file:
            header = [cell.strip() for cell in next(csv.reader(file), [])]
    except (OSError, ValueError, csv.Error):
        return []
    return [f"{path}:1: {what}" for what in _misfits(header, columns)]


def _misfits(header: list[str], columns: tuple[str, ...]) -> Iterator[str]:
    separator = next((each for each in _SEPARATORS if each in header[0]), None) if len(header) == 1 else None
    if separator is not None:
        yield f"its columns are separated by {_SEPARATORS[separator]}; save it with commas"
        return
    for column in dict.fromkeys(columns):
        if header.count(column) > 1:
            yield f"has the column '{column}' {header.count(column)} times; rename all but one"


def of_encoding(path: str) -> list[str]:
    """The first line that is not UTF-8, where there is one."""
    place = Path(path)
    try:
        if not place.is_file() or place.stat().st_size > MAX_BYTES:
            return []
        with place.open("rb") as file:
            for number, line in enumerate(file, 1):
                if _is_not_utf8(line):
                    return [f"{path}:{number}: is not UTF-8 text (perhaps Latin-1); save the file as UTF-8"]
    except (OSError, ValueError):
        pass
    return []


def _is_not_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False


def replayed(signal: Json, epoch_utc_ms: int) -> str:
    """How the rows of a recording that can be used lie in a run that begins at `epoch_utc_ms`."""
    how = [signal["path"], signal["column"], signal["time"]]
    rest = [signal["gaps"], signal["type"]]
    start = signal.get("start")
    first_utc_ms = read_recording(*how, "1970-01-01T00:00:00Z", *rest).times_ms[0]
    recording = read_recording(*how, start, *rest)
    zero_utc_ms = first_utc_ms if start is None else parse_time(start)
    rows = f"{len(recording.times_ms):,} rows"
    if zero_utc_ms == epoch_utc_ms:
        return f"{rows} at their own times"
    why = "the first row" if start is None else "`start`"
    return f"{rows}, shifted: {why}, {_iso(zero_utc_ms)}, is replayed as {_iso(epoch_utc_ms)}, the scenario's `epoch`"


def _iso(utc_ms: int) -> str:
    return datetime.fromtimestamp(utc_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
