"""Files for the machine that a gateway runs on, as `nanoclaw example` prints them."""

from importlib.resources import files

from nanoclaw.host.config import EXAMPLE

KINDS = {"config": "", "service": "nanoclaw.service", "firewall": "nanoclaw.nft"}


def example(kind: str) -> str:
    """The text of one of `KINDS`."""
    name = KINDS[kind]
    return EXAMPLE if not name else files(__name__).joinpath(name).read_text(encoding="utf-8")
