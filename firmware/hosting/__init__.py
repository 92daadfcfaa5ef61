"""What every real host shares, CPython only: the clock, the trace file, the pump, MQTT ports, the simulator's clock.

A host does what its core asks and decides nothing about the business; these are the parts it is put together from.
"""
