"""A process that keeps the `--sim-clock` protocol and does what its argument says: it stands in for a daemon."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time


def main() -> None:
    how = sys.argv[1]
    if how == "broken":
        print("error: the key file is missing", file=sys.stderr)
        raise SystemExit(2)
    if how == "mute":
        time.sleep(60)
    if how == "babbling":
        print("hello there", flush=True)
    ready: dict[str, object] = {"ready": True, "pid": os.getpid()}
    listening = socket.create_server(("127.0.0.1", 0))
    ready["mqtt_port"] = listening.getsockname()[1]
    if how == "parent":
        ready["grandchild"] = subprocess.Popen(["sleep", "15"]).pid
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(json.dumps(ready), flush=True)
    clock = json.loads(sys.stdin.readline())
    print("the clock runs", clock["timescale"], file=sys.stderr, flush=True)
    if how == "crashing":
        print("fatal: out of coffee", file=sys.stderr, flush=True)
        raise SystemExit(7)
    sys.stdin.read()


if __name__ == "__main__":
    main()
