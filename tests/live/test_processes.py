"""Children start, are faulted and end as told; whatever happens to their parent, none of them outlives it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from clawsim.live.processes import Child, ProcessFailed, Supervisor
from tests.live.stage import eventually, gone, nobody_listens

pytestmark = pytest.mark.live
ROOT = Path(__file__).resolve().parents[2]
CLOCK = {"t0_monotonic_ns": 0, "timescale": 30, "epoch_utc_ms": 0}


def puppet(how: str = "obedient") -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("puppet.py")), how]


async def test_a_child_says_what_it_bound_and_waits_for_the_clock(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        child = await supervisor.spawn("gateway-01", puppet())
        assert child.ready["pid"] == child.pid and not nobody_listens(child.ready["mqtt_port"])
        assert not child.log_path.read_text()
        child.give_clock(CLOCK)
        assert eventually(lambda: "the clock runs 30" in child.log_path.read_text())


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("broken", r"gateway-01 ended before it was ready \(exit code 2\).*\n    error: the key file is missing"),
        ("babbling", "gateway-01 did not say that it is ready, but b'hello there"),
    ],
)
async def test_a_child_that_cannot_start_is_an_error_that_says_why(tmp_path: Path, how: str, said: str) -> None:
    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(ProcessFailed, match=said):
            await supervisor.spawn("gateway-01", puppet(how))


async def test_a_child_that_never_gets_ready_is_an_error_not_a_hang(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(ProcessFailed, match=r"not ready after 0\.2 s"):
            await supervisor.spawn("gateway-01", puppet("mute"), ready_timeout_s=0.2)


async def test_a_program_that_is_not_installed_is_named(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(ProcessFailed, match="no-such-broker: No such file"):
            await supervisor.spawn("hub", ["/usr/bin/no-such-broker"])


async def test_an_unexpected_end_breaks_the_work_off_with_the_end_of_the_log(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        child = await supervisor.spawn("gateway-01", puppet("crashing"))
        child.give_clock(CLOCK)
        with pytest.raises(ProcessFailed, match=r"gateway-01 ended unexpectedly \(exit code 7\)[^$]*out of coffee"):
            await supervisor.guard(asyncio.sleep(60))


async def test_a_kill_that_was_asked_for_breaks_nothing_off(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        child = await supervisor.spawn("gateway-01", puppet())
        child.kill()

        async def work() -> int:
            return await child.wait()

        assert await supervisor.guard(work()) == -signal.SIGKILL
        assert child.how_it_ended() == "killed by SIGKILL"


async def test_a_kill_takes_the_whole_group(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        child = await supervisor.spawn("gateway-01", puppet("parent"))
        child.kill()
        await child.wait()
        assert eventually(lambda: gone(child.ready["grandchild"]))


async def test_stop_and_continue(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        child = await supervisor.spawn("gateway-01", puppet())
        child.stop()
        assert eventually(lambda: child.is_stopped)
        child.cont()
        assert eventually(lambda: not child.is_stopped)


async def test_terminate_asks_first_and_insists_after_the_grace(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        polite = await supervisor.spawn("sensor-01", puppet())
        stubborn = await supervisor.spawn("sensor-02", puppet("stubborn"))
        assert await polite.terminate()
        assert not await stubborn.terminate(grace_s=0.1)
        assert (polite.returncode, stubborn.returncode) == (-signal.SIGTERM, -signal.SIGKILL)


async def test_a_stopped_child_can_be_terminated(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        child = await supervisor.spawn("sensor-01", puppet())
        child.stop()
        assert await child.terminate()


async def spawn_one_of_each(supervisor: Supervisor) -> list[Child]:
    return [await supervisor.spawn(how, puppet(how)) for how in ("obedient", "stubborn", "parent")]


async def test_leaving_by_an_exception_leaves_no_process_and_no_port(tmp_path: Path) -> None:
    children: list[Child] = []
    with contextlib.suppress(ZeroDivisionError):
        async with Supervisor(tmp_path) as supervisor:
            children = await spawn_one_of_each(supervisor)
            children[0].stop()
            raise ZeroDivisionError
    assert all(child.returncode is not None for child in children)
    assert all(nobody_listens(child.ready["mqtt_port"]) for child in children)
    assert eventually(lambda: gone(children[2].ready["grandchild"]))


RUN = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from clawsim.live.processes import Supervisor
    from tests.live.test_processes import puppet, spawn_one_of_each

    async def main():
        async with Supervisor(Path({logs!r})) as supervisor:
            children = await spawn_one_of_each(supervisor)
            print(*(child.pid for child in children), *(child.ready["mqtt_port"] for child in children), flush=True)
            await asyncio.sleep(60)

    try:
        asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
    """
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: str(number.name))
def test_a_signal_to_the_parent_leaves_no_process_and_no_port(tmp_path: Path, number: signal.Signals) -> None:
    script = RUN.format(root=str(ROOT), logs=str(tmp_path))
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    figures = [int(word) for word in parent.stdout.readline().split()]
    os.kill(parent.pid, number)
    assert parent.wait(timeout=20) == (-9 if number == signal.SIGKILL else 130)
    assert eventually(lambda: all(gone(pid) for pid in figures[:3]))
    assert eventually(lambda: all(nobody_listens(port) for port in figures[3:]))
    parent.stdout.close()
