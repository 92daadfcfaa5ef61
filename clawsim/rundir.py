"""Where the processes of a live run keep their state, keys and passwords included: it goes with the run."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

RELEASE = b"released\n"
_WARDEN = """
if read -r _; then exit; fi
for _ in 1 2 3 4 5; do rm -rf -- "$1" && exit; sleep 1; done
"""
"""A line ends its watch. The end of its input says that the run is gone without a word: what the run leaves is removed,
again while processes that are just dying with it still write."""


class NotOurs(Exception):
    """The place holds something else than the state of an earlier run."""


@contextmanager
def temporary() -> Iterator[Path]:
    """A directory that is gone at the end, also when this process is killed. Raises OSError."""
    path = Path(tempfile.mkdtemp(prefix="clawsim-"))
    with _warden(path):
        try:
            yield path / "run"
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _warden(path: Path) -> Iterator[None]:
    """A process that removes `path` when this one dies before the end: no handler of ours would run on SIGKILL."""
    command = ["/bin/sh", "-c", _WARDEN, "sh", str(path)]
    # A session of its own: Ctrl-C at the terminal is for the run, which tidies up by itself.
    nowhere = subprocess.DEVNULL
    warden = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, bufsize=0, start_new_session=True
    )
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            warden.communicate(RELEASE)


@contextmanager
def beside(results: Path) -> Iterator[Path]:
    """The directory `run` in `results`, which stays; one of an earlier run is removed. Raises :class:`NotOurs`.

    The path is absolute: the processes of a run have a working directory of their own.
    """
    path = results.resolve() / "run"
    if path.exists() and any(path.iterdir()) and not (path / "inventory.json").exists():
        raise NotOurs(f"{path} exists and is not the state of an earlier run; choose another place")
    shutil.rmtree(path, ignore_errors=True)
    yield path
