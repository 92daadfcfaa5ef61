"""L1, the node: wire formats, logic and hosts; `wire` and `core` keep to the MicroPython subset."""
