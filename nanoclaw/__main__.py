"""`python -m nanoclaw` is the command `nanoclaw`."""

from nanoclaw.cli import main

if __name__ == "__main__":
    main()
