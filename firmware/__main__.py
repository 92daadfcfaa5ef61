"""`python -m firmware` is the command `firmware`."""

from firmware.cli import main

if __name__ == "__main__":
    main()
