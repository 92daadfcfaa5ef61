"""How long a person at a terminal looks at nothing."""

import os
import pty
import select
import sys
import time
from pathlib import Path
from subprocess import Popen

SCENARIO = Path(__file__).parents[1] / "scenarios" / "big-day.yaml"
WITHIN_S = 2.0


def test_a_500_node_hour_shows_its_first_progress_within_two_seconds(benchmark) -> None:
    def first_progress() -> None:
        terminal, child_end = pty.openpty()
        command = [sys.executable, "-m", "clawsim.cli", "run", str(SCENARIO), "--set", "duration=1 h"]
        with Popen(command, stdin=child_end, stdout=child_end, stderr=child_end, close_fds=True) as child:
            os.close(child_end)
            shown, started_s = b"", time.monotonic()
            while b" readings, " not in shown and time.monotonic() - started_s < 30:
                if select.select([terminal], [], [], 0.1)[0]:
                    shown += os.read(terminal, 65536)
            child.kill()
        os.close(terminal)
        assert b" readings, " in shown, shown[-500:]

    benchmark.pedantic(first_progress, rounds=1, iterations=1)
    assert benchmark.stats.stats.min <= WITHIN_S
