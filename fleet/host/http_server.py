"""The HTTP side of a server process: uvicorn on a loop and a socket of ours."""

import contextlib
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

# After a signal: requests under way get this long, then the database gets its own time-out.
REQUESTS_S = 3.0


class HttpServer(uvicorn.Server):
    """uvicorn on our loop and socket; signals are the process's own business."""

    def __init__(self, app: ASGIApp, proxies: list[str]) -> None:
        """`proxies`: whose word on a caller's address is believed."""
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=True,
                forwarded_allow_ips=proxies,
                timeout_graceful_shutdown=int(REQUESTS_S),
            )
        )
        self.config.load()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
