"""`clawsim` and `python -m clawsim`: from the first instant on Ctrl-C and SIGTERM end it with a word and exit code 130.

The libraries take a good part of a second to load, and meanwhile there is nothing to tidy up: so the process ends at
once. A run takes both signals over while it works (`clawsim.command`).
"""

import os
import signal


def main() -> None:
    """The console command."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    from clawsim.cli import main as run

    run()


def _leave(number: int, frame: object) -> None:
    os.write(2, b"interrupted: nothing was left running\n")
    os._exit(130)


if __name__ == "__main__":
    main()
