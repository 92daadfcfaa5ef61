"""The firmware on a board: from `main.py` to the node's life, and what becomes of it when that fails."""

import gc
import json
import sys

from firmware.drivers.wiring import Hardware
from firmware.hosts.micro import esp32, pico
from firmware.hosts.micro.aes import with_keys
from firmware.hosts.micro.board import Board
from firmware.hosts.micro.life import Life

GC_THRESHOLD_BYTES = 8192
AGAIN_MS = 10000  # a person at the serial port can read what is wrong, and interrupt
KINDS = {"esp32": esp32, "pico-w": pico}


def main(directory: str) -> None:
    """Run the node in `directory` for ever; at any error say what it is and start the board anew."""
    import time

    import machine
    import network

    try:
        gc.threshold(GC_THRESHOLD_BYTES)  # type: ignore[attr-defined]  # MicroPython has it
        life = begin(directory, machine, time, network)
        while not life.over:
            life.turn()
    except KeyboardInterrupt:
        print("interrupted: the watchdog starts the board anew unless it is held; see `firmware flash`")
        return
    except Exception as error:
        sys.print_exception(error)  # type: ignore[attr-defined]  # MicroPython has it
        print("the firmware has failed, and starts anew in %d s" % (AGAIN_MS // 1000))
        time.sleep_ms(AGAIN_MS)  # type: ignore[attr-defined]  # MicroPython has it
    machine.reset()


def begin(directory: str, machine, time, network) -> Life:
    """The life of the node that is configured in `directory`."""
    with open(directory + "/node.json") as file:
        config = json.load(file)
    with open(directory + "/manifest.json") as file:
        firmware = json.load(file)["firmware"]
    with_keys(config["core"])
    hardware = Hardware(machine, time, _slots())
    return Life(Board(config, KINDS[config["board"]["kind"]], hardware, network), machine, time, firmware)


def _slots():
    """The driver of one-wire slots that stock MicroPython has."""
    try:
        import _onewire
    except ImportError:
        return None
    return _onewire
