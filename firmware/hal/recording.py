"""A recording: a CSV file with a column of ISO 8601 times and a column of values, read whole and checked row by row.

CPython only, standard library only.
"""

from __future__ import annotations

import csv
import difflib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

MAX_ROWS = 2_000_000
"""More rows than a year at one every 20 s."""
MAX_BYTES = 256 * 2**20
MAX_PROBLEMS = 10
"""Problems of one file that are worth listing."""
MAX_TEXT_CHARS = 64

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BOOLEANS = {"0": False, "1": True, "false": False, "true": True}


class RecordingError(ValueError):
    """Why a recording cannot be used: ``problems`` are lines that begin with ``file:line:`` and say what to do."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Recording:
    """``times_ms`` count from the start; values are booleans, texts or exact decimals; ``loop_ms`` is its length.

    The length is the time from the first row to the last, plus the last interval again.
    """

    times_ms: tuple[int, ...]
    values: tuple[Any, ...]
    loop_ms: int


@lru_cache(maxsize=64)
def read_recording(
    path: str, column: str, time: str = "time", start: str | None = None, gaps: str = "error", kind: str = "number"
) -> Recording:
    """The rows of the CSV file at ``path``: times from column ``time``, values from ``column``.

    Times are ISO 8601 and increase; without an offset they are UTC. Instant 0 is ``start``, or else the first row; rows
    before ``start`` are left out. ``gaps`` is ``error`` or ``skip`` (rows with an empty value are left out). ``kind``
    is ``number``, ``bool`` (0, 1, true, false) or ``text``. Raises :class:`RecordingError`. The result is remembered:
    many nodes replay one file.
    """
    return _Reader(path, column, time, gaps, kind).read(start)


def parse_time(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time, UTC without an offset. Raises :class:`ValueError`."""
    found = datetime.fromisoformat(text.strip())
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(milliseconds=1)


class _Reader:
    def __init__(self, path: str, column: str, time: str, gaps: str, kind: str) -> None:
        self._path, self._column, self._time, self._gaps, self._kind = path, column, time, gaps, kind
        self._problems: list[str] = []
        self._last_ms: int | None = None

    def read(self, start: str | None) -> Recording:
        rows = self._checked_rows()
        if self._problems:
            raise RecordingError(self._problems)
        zero_ms = self._zero_ms(start, rows)
        kept = [(t_ms - zero_ms, value) for t_ms, value in rows if t_ms >= zero_ms]
        if not kept:
            raise RecordingError([f"{self._path}: no row is left to replay; check `start` and the column"])
        times_ms, values = zip(*kept, strict=True)
        last_interval_ms = times_ms[-1] - times_ms[-2] if len(times_ms) > 1 else 0
        return Recording(times_ms, values, times_ms[-1] - times_ms[0] + last_interval_ms)

    def _zero_ms(self, start: str | None, rows: list[tuple[int, Any]]) -> int:
        if start is None:
            return rows[0][0] if rows else 0
        try:
            return parse_time(start)
        except (ValueError, OverflowError):
            raise RecordingError([f"{self._path}: `start` '{start}' is not an ISO 8601 time"]) from None

    def _checked_rows(self) -> list[tuple[int, Any]]:
        found: list[tuple[int, Any]] = []
        try:
            _require_sane_file(self._path)
            with open(self._path, encoding="utf-8-sig", newline="") as file:
                for line, when, cell in self._cells(csv.reader(file)):
                    self._take(found, line, when, cell)
                    if len(self._problems) >= MAX_PROBLEMS:
                        self._problems.append(f"{self._path}: … and perhaps more; reading stopped here")
                        break
        except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
            raise RecordingError([f"{self._path}: {_why_unreadable(error)}"]) from error
        return found

    def _cells(self, reader: Any) -> Iterator[tuple[int, str, str]]:
        header = next(reader, None)
        if header is None:
            self._problems.append(f"{self._path}:1: is empty; the first row must name the columns")
            return
        time_at, column_at = self._find(header, self._time), self._find(header, self._column)
        if time_at is None or column_at is None:
            return
        for row in reader:
            if not row:
                continue  # a blank line, most often the last
            if len(row) <= max(time_at, column_at):
                self._note(
                    reader.line_num, f"has {len(row)} cells where the header has {len(header)}; complete the row"
                )
                continue
            yield reader.line_num, row[time_at], row[column_at].strip()

    def _find(self, header: list[str], name: str) -> int | None:
        names = [cell.strip() for cell in header]
        if name in names:
            return names.index(name)
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else f"; its columns are: {', '.join(names[:20])}"
        self._note(1, f"has no column '{name}'{hint}")
        return None

    def _take(self, found: list[tuple[int, Any]], line: int, when: str, cell: str) -> None:
        t_ms = self._time_of(line, when)
        if t_ms is None:
            return
        earlier_ms, self._last_ms = self._last_ms, t_ms
        if earlier_ms is not None and t_ms <= earlier_ms:
            self._note(line, f"time '{when}' is not after the row before it; sort the rows and remove repeated times")
        elif cell or self._gaps != "skip":
            found.append((t_ms, self._value_of(line, cell)))
        if len(found) > MAX_ROWS:
            raise ValueError(f"has more than {MAX_ROWS} rows; split it")

    def _time_of(self, line: int, when: str) -> int | None:
        try:
            return parse_time(when)
        except (ValueError, OverflowError):
            self._note(line, f"'{when}' is not an ISO 8601 time such as 2015-02-04T17:51:00Z")
            return None

    def _value_of(self, line: int, cell: str) -> Any:
        if not cell:
            self._note(line, f"no value in column '{self._column}'; fill it, or leave such rows out with `gaps: skip`")
        elif self._kind == "text":
            return self._text(line, cell)
        elif self._kind == "bool":
            return self._boolean(line, cell)
        else:
            return self._number(line, cell)
        return None

    def _text(self, line: int, cell: str) -> str:
        if len(cell) > MAX_TEXT_CHARS:
            self._note(line, f"the text in column '{self._column}' has more than {MAX_TEXT_CHARS} characters")
        return cell

    def _boolean(self, line: int, cell: str) -> bool | None:
        if cell.lower() not in _BOOLEANS:
            self._note(line, f"'{cell}' in column '{self._column}' is not one of 0, 1, false, true")
        return _BOOLEANS.get(cell.lower())

    def _number(self, line: int, cell: str) -> Decimal | None:
        try:
            number = Decimal(cell)
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite() and abs(number) < 10**12:
            return number
        self._note(line, f"'{cell[:40]}' in column '{self._column}' is not a number; correct it, or empty the cell and "
                         "set `gaps: skip`")  # fmt: skip
        return None

    def _note(self, line: int, what: str) -> None:
        self._problems.append(f"{self._path}:{line}: {what}")


def _require_sane_file(path: str) -> None:
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise ValueError("is not a regular file")
    if found.st_size > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES // 2**20} MiB; split it")


def _why_unreadable(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file; paths are relative to the scenario file"
    if isinstance(error, IsADirectoryError):
        return "is a directory, not a CSV file"
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8 text; save it as UTF-8"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return f"is not a CSV file: {error}" if isinstance(error, csv.Error) else str(error)
