"""The node's logic: pushed time and bytes, reads nothing. MicroPython subset; imports only `firmware.wire`."""
