"""Many names in few words: a run of ids that count up is a range, and a long list is cut."""

import re

MOST_NAMES = 4
LEAST_RUN = 3
_NUMBERED = re.compile(r"(.*?)([a-z0-9-]*?)(\d+)(\D*)", re.DOTALL)


def listed(names: list[str]) -> str:
    """Sorted names for a reader: `sensor-01 … sensor-05` for a run of three or more, and only so many of them."""
    parts: list[str] = []
    counts: list[int] = []
    for run in _runs(names):
        short = len(run) >= LEAST_RUN
        parts += [_spanning(run[0], run[-1])] if short else run
        counts += [len(run)] if short else [1] * len(run)
    if len(parts) <= MOST_NAMES + 1:  # "and 1 more" says less than its name
        return ", ".join(parts)
    return ", ".join(parts[:MOST_NAMES]) + f" and {sum(counts[MOST_NAMES:])} more"


def _runs(names: list[str]) -> list[list[str]]:
    """Neighbours that differ in nothing but a number, which goes up by one."""
    runs: list[list[str]] = []
    for name in names:
        if runs and _follows(runs[-1][-1], name):
            runs[-1].append(name)
        else:
            runs.append([name])
    return runs


def _follows(name: str, other: str) -> bool:
    one, two = _NUMBERED.fullmatch(name), _NUMBERED.fullmatch(other)
    if one is None or two is None or one.group(1, 2, 4) != two.group(1, 2, 4):
        return False
    return int(two[3]) == int(one[3]) + 1


def _spanning(first: str, last: str) -> str:
    """What the two share, once: `hot on sensor-01 … sensor-05: raised`."""
    one, two = _NUMBERED.fullmatch(first), _NUMBERED.fullmatch(last)
    assert one is not None and two is not None  # noqa: S101 - they follow each other, see `_runs`
    return f"{one[1]}{one[2]}{one[3]} … {two[2]}{two[3]}{one[4]}"
