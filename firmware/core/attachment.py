"""Which gateway a node talks to, and when it looks for another.

States of the connection: `down` (a retry is due), `connecting`, `up`. Beside it runs the silence clock: a gateway from
which nothing authentic was heard for more than 90 s is lost, whatever the connection says, and the node scans. It
joins the best other gateway of its own fleet; with none in sight it goes on trying the one it knows and scans again.
"""

from firmware.wire.backoff import Backoff

SILENT_MS = 90000  # specification, failure scenario 2
SCAN_EVERY_MS = 30000
CONNECT_TIMEOUT_MS = 20000

DOWN, CONNECTING, UP = "down", "connecting", "up"


def first_attachment(kept: "dict | None", home: dict, wired: bool) -> dict:
    """Gateway and join count to begin with: those of before, `{"n", "gateway"}`, as far as they still hold.

    Where home is now, the configuration knows. A node at a cable has joined whoever is at its other end.
    """
    if kept is None:
        return {"n": 1, "gateway": home}
    if kept["gateway"]["id"] == home["id"]:
        return {"n": kept["n"], "gateway": home}
    return {"n": kept["n"] + 1, "gateway": home} if wired else kept


class Attachment:
    """The node's current gateway `{"id", "target"}`, its connection and its silence clock."""

    def __init__(self, gateway: dict, attach: int, rng, now_ms: int) -> None:
        self.gateway = gateway
        self.attach = attach
        self.state = DOWN
        self.joining = False  # no authentic answer yet since the node chose this gateway
        self.heard_ms = now_ms
        self.silent_ms = SILENT_MS
        self._backoff = Backoff(rng)
        # When down: the next attempt; when connecting: give up; None: waiting for flash.
        self.connect_due_ms: int | None = now_ms
        self.scan_due_ms = now_ms + SILENT_MS + 1

    def connecting(self, now_ms: int) -> None:
        """An attempt starts."""
        self.state = CONNECTING
        self.connect_due_ms = now_ms + CONNECT_TIMEOUT_MS

    def up(self) -> None:
        """The attempt succeeded."""
        self.state = UP
        self._backoff.reset()

    def down(self, now_ms: int) -> None:
        """The attempt failed or the connection is gone: retry with exponential back-off and jitter."""
        self.state = DOWN
        self.connect_due_ms = now_ms + self._backoff.next_ms()

    def heard(self, now_ms: int) -> None:
        """Something authentic and new came from the gateway."""
        self.heard_ms = now_ms
        self.scan_due_ms = now_ms + self.silent_ms + 1

    def rest(self) -> None:
        """No connection and no attempt, until somebody sets `connect_due_ms`."""
        self.state = DOWN
        self.connect_due_ms = None
        self._backoff.reset()

    def scanning(self, now_ms: int) -> None:
        """A scan starts; if it finds nothing the next one follows."""
        self.scan_due_ms = now_ms + SCAN_EVERY_MS

    def choose(self, found: "list[dict]", fleet: str) -> "dict | None":
        """The best gateway of our fleet other than the silent one: primaries first, then the least loaded."""
        best, best_rank = None, None
        for gateway in found:
            if gateway.get("fleet") != fleet or gateway["id"] == self.gateway["id"]:
                continue
            rank = (gateway.get("role") != "primary", gateway.get("load", 0), gateway["id"])
            if best_rank is None or rank < best_rank:
                best, best_rank = gateway, rank
        return best and {"id": best["id"], "target": best["target"]}

    def move(self, gateway: dict, now_ms: int) -> None:
        """The node belongs to `gateway` from now on; connect at once and give it the whole silence to answer."""
        self.gateway = gateway
        self.attach += 1
        self.state = DOWN
        self.joining = True
        self._backoff.reset()
        self.connect_due_ms = now_ms
        self.heard(now_ms)
