"""Rare garbage collections, for as long as a world lasts."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def rare_collections() -> Iterator[None]:
    """Hardly anything in a world is garbage in cycles and all lives long: looking often costs a tenth of a virtual run,
    and a look at everything that the process holds stops a live one for half a second of the wall clock."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
