"""Hosts of the node core on MicroPython: what they share, and one that runs as a process on Linux. All of it also runs on
CPython, which is how its parts are tested."""
