"""Where this machine dials what listens on it."""

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
"""What listens on all addresses is reached by loopback."""


def dialled(host: str) -> str:
    """The address to dial for something that listens on `host`."""
    return EVERYWHERE.get(host, host)


def dialled_at(host: str, port: int) -> str:
    """The same as HOST:PORT, an IPv6 address in brackets (RFC 3986 section 3.2.2)."""
    found = dialled(host)
    return f"[{found}]:{port}" if ":" in found else f"{found}:{port}"
