"""The nginx site before one server, or before several that share a database."""

import getpass
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.deployment.template import filled, word

# As `fleet.host.gate` has it; a test compares the two.
MAX_BODY_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Site:
    """`upstreams` are servers as HOST:PORT; `listen` and `redirect_from` are nginx's words, as in [::]:443."""

    name: str
    certificate: Path
    key: Path
    upstreams: Sequence[str] = ("127.0.0.1:8080",)
    listen: Sequence[str] = ("443",)
    redirect_from: str | None = "80"


def nginx_site(site: Site) -> str:
    """The text for nginx's http block. Raises DeploymentError."""
    servers = (word("--upstream", each) for each in site.upstreams)
    values = {
        # One that refuses or stays silent is left alone for a moment, and the next is asked.
        "upstreams": "\n".join(f"    server {each} max_fails=1 fail_timeout=2s;" for each in servers),
        "name": word("--name", site.name),
        "certificate": word("--certificate", str(site.certificate)),
        "key": word("--key", str(site.key)),
        "listen": "\n".join(f"    listen {word('--listen', each)} ssl http2;" for each in site.listen),
        "redirect": "" if site.redirect_from is None else _redirect(site),
        "body_bytes": str(MAX_BODY_BYTES),
    }
    return filled("nginx.conf", values)


def nginx_alone(site: Site, directory: Path) -> str:
    """A whole configuration for an nginx that keeps everything in `directory`. Raises DeploymentError."""
    user = f"user {word('the user', getpass.getuser())};" if os.getuid() == 0 else ""  # else its workers are nobody's
    values = {"directory": word("--alone", str(directory.absolute())), "user": user}
    return filled("nginx_alone.conf", values | {"site": textwrap.indent(nginx_site(site), "    ")})


def _redirect(site: Site) -> str:
    lines = [
        "server {",
        f"    listen {word('--redirect-from', site.redirect_from or '')};",
        f"    server_name {word('--name', site.name)};",
        "    server_tokens off;",
        "    return 308 https://$host$request_uri;",
        "}",
    ]
    return "\n" + "\n".join(lines) + "\n"
