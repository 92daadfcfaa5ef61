"""The live line of a run on a terminal: how far it is, and what happened last; whatever does not fit is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.text import Text

from clawsim.run import Status
from clawsim.scenario.units import clock
from clawsim.wording import headline

NEWS_US = 5 * 60_000_000
"""For so long what happened last is worth a place on the line."""
LONGEST_NAME = 20
LEAST_STATE = 12
"""Columns below which a text that was cut says nothing."""


@contextmanager
def live_line(name: str, end_us: int) -> Iterator[Callable[[Status], None]]:
    """A line on standard error about the run `name` of `end_us`, for whoever calls what is given with its status.

    It vanishes at the end. Where standard error is no terminal, or one that cannot move its cursor, nothing is shown.
    """
    console = Console(stderr=True, markup=False, highlight=False)
    if not console.is_interactive:
        yield lambda status: None
        return
    column = _Column(console, name)
    with Progress(column, console=console, transient=True) as bar:
        task = bar.add_task(name, total=end_us)

        def update(status: Status) -> None:
            column.update(status)
            bar.update(task, completed=min(status.t_us, end_us))

        yield update


class _Column(ProgressColumn):
    """The whole line as one column: how wide its parts are is decided here, not by a table."""

    def __init__(self, console: Console, name: str) -> None:
        super().__init__()
        self._console = console
        self._name = name
        self._status = Status()
        self._news = ""
        self._news_us = 0

    def update(self, status: Status) -> None:
        """The run is further."""
        if status.last is not None and (told := headline(status.last)):
            self._news, self._news_us = told, status.last.t_us
        self._status = status

    def render(self, task: Task) -> Text:
        """The line by now."""
        news = self._news if self._status.t_us - self._news_us < NEWS_US else ""
        return line(self._console.width - 1, self._name, task.percentage, task.time_remaining, self._status, news)


def line(width: int, name: str, percent: float, left_s: float | None, status: Status, news: str) -> Text:
    """At most `width` columns: name, bar and percentage always; the rest in the order of its use, as far as it fits."""
    text = Text(name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…", no_wrap=True)
    bar_width = 24 if width >= 110 else 12 if width >= 60 else 6
    done = int(bar_width * percent / 100)
    text.append(" ").append("━" * done, "green").append("─" * (bar_width - done), "dim").append(f" {percent:3.0f} %")
    for part in _parts(left_s, status):
        if text.cell_len + 2 + len(part) <= width:
            text.append("  " + part, "dim")
    for part in (f"{status.produced:,} readings, {status.stored:,} stored", news):
        room = width - text.cell_len - 2
        if part and room >= min(len(part), LEAST_STATE):
            text.append("  " + (part if len(part) <= room else part[: room - 1] + "…"))
    return text


def _parts(left_s: float | None, status: Status) -> Iterator[str]:
    if status.t_us >= status.end_us > 0:
        yield "settling"
    elif left_s is not None:
        minutes, seconds = divmod(round(left_s), 60)
        yield f"{minutes}:{seconds:02d} left"
    yield clock(status.t_us // 1_000_000 * 1_000_000)
