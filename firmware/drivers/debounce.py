"""From a bouncing contact to one event, by pushed time."""


class Debounce:
    """A level counts once it has lasted: `rise_ms` for true, `fall_ms` for false. The first to last counts too."""

    def __init__(self, rise_ms: int, fall_ms: int) -> None:
        self._lasts_ms = (fall_ms, rise_ms)
        self.level: bool | None = None  # what counts
        self._seen: bool | None = None
        self._since_ms = 0

    def push(self, level: bool, now_ms: int) -> bool:
        """The contact is at `level`; whether that is news."""
        if level != self._seen:
            self._seen, self._since_ms = level, now_ms
        if level == self.level or now_ms - self._since_ms < self._lasts_ms[level]:
            return False
        self.level = level
        return True
