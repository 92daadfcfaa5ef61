"""On MicroPython: one scan on an interface; prints the gateways as JSON. Usage: scan.py INTERFACE"""

import json
import random
import select
import sys
import time

from firmware.hosts.micro.scanner import Scanner

poller = select.poll()
scanner = Scanner(poller, select.POLLIN, sys.argv[1], random, print)
scanner.start(time.ticks_ms())
found = None
while found is None:
    poller.poll(max(scanner.next_deadline() - time.ticks_ms(), 0))
    found = scanner.serve(time.ticks_ms())
print(json.dumps(found))
