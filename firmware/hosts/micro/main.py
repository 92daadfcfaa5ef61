"""What a board does at power-on, as `main.py`: run the firmware in the slot that is named, unless it shall be held."""

import os
import sys

HOLD_FILE = "clawland.hold"  # for one start: whoever flashes is at work
SLOT_FILE = "clawland.slot"


def slot() -> str:
    """The directory of the firmware to run; none when there is none, or when it is held."""
    try:
        os.remove(HOLD_FILE)
        print("held: nothing runs until the next start")
        return ""
    except OSError:
        pass
    try:
        with open(SLOT_FILE) as file:
            return file.read().strip()
    except OSError:
        print("there is no firmware: `firmware flash` brings it")
        return ""


def run(directory: str) -> None:
    sys.path.insert(0, directory)
    from firmware.hosts.micro.start import main

    main(directory)


if __name__ == "__main__":
    found = slot()
    if found:
        run(found)
