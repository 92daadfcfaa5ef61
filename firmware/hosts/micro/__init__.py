"""Hosts of the node core on MicroPython: what they share, and one that runs as a process on Linux.

All but the latter also runs on CPython, which is how it is tested.
"""
