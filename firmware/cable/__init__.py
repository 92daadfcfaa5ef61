"""A serial port on CPython, for whoever sits at an end of the cable: a node as a process, or a gateway."""
