"""A start of a board that is a process: `main.py` if there is one, then the prompt until a reset."""

import sys

import clawland_repl

print("MPY: start")
sys.path.insert(0, "")
try:
    with open("main.py") as file:
        program = file.read()
except OSError:
    program = ""
try:
    exec(program, {"__name__": "__main__"})
except SystemExit:
    raise
except BaseException as error:
    sys.print_exception(error)
clawland_repl.serve()
print("MPY: soft reboot")
sys.exit(75)
