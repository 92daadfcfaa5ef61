"""What is frozen into a board: all of the firmware that is in the MicroPython subset, and the check of its vectors."""

import os
from pathlib import Path

PROJECT = Path(os.environ["PROJECT"])
TREES = ("wire", "core", "drivers", "hosts/micro")

found = [PROJECT / "firmware/__init__.py", PROJECT / "firmware/hosts/__init__.py"]
for tree in TREES:
    found += sorted((PROJECT / "firmware" / tree).glob("*.py"))
freeze(str(PROJECT), tuple(str(path.relative_to(PROJECT)) for path in found))  # noqa: F821 # makemanifest.py brings it
freeze(str(PROJECT / "tests/vectors"), "vectors.py")  # noqa: F821
