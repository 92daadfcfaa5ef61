"""Drivers of real parts, in the MicroPython subset. None imports `machine`: pins, buses and waits are handed in.

A part that is asked has `exp` (by what it measures, the resolution of its values: integers of 10^-exp),
`begin(now_ms)`, which starts a measurement, `ready_ms`, when its result can be fetched, and `read(now_ms)`, which gives
the values, or None and a later `ready_ms`. A part that speaks for itself has `poll(now_ms)`, which gives a new value or
None, and `due_ms`, when to poll next. `read` and `poll` raise `Fault` or OSError for a part that fails.
`firmware.drivers.sensors` serves both.
"""


class Fault(Exception):
    """The part does not answer, or answers what cannot be; the message says what."""
