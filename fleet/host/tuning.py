"""How the interpreter treats a server that holds a whole fleet in memory and writes on a second thread."""

import gc
import sys

YOUNG, MIDDLE, OLD = 100_000, 50, 100
SWITCH_S = 0.000_5


def tune() -> None:
    """To be called before the fleet is read into memory.

    Rows come and go by the thousand and no cycle holds them, so collecting garbage after every 700 objects finds
    nothing: half of the time in which a batch is taken went into it. And the writer needs the interpreter for a moment
    after each of the database's answers: with the usual turns of 5 ms it would wait for longer than the database.
    """
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    sys.setswitchinterval(SWITCH_S)


def settle() -> None:
    """To be called when everything is made that lives as long as the process: no collection looks at it again."""
    gc.freeze()


def unsettle() -> None:
    """To be called when that ends before the process does: another core may follow."""
    gc.unfreeze()
