"""Commands run at most once: the id is on flash before the command acts, and the answer is kept for repeats.

An id is forgotten only when its command's lifetime is over, so that no copy of it can still come; when there is no
room, a new command is not taken, and comes again later.
"""

KEPT_IDS = 32


class Journal:
    """The commands of late by id with their status: `pending` until they have acted."""

    def __init__(self, slot: "list | None", now_ms: int) -> None:
        """`slot`: what `as_slot` gave before, `[[id, action, status, ttl_ms], …]` oldest first. Without a clock that
        runs through a power loss, their lifetime begins again."""
        self._entries = [list(entry) for entry in slot or []]
        self._until_ms = {entry[0]: now_ms + entry[3] for entry in self._entries}

    def as_slot(self) -> list:
        """What to keep on flash."""
        return [list(entry) for entry in self._entries]

    def status(self, command_id: str) -> "str | None":
        """The status of a command seen before, or None."""
        for entry in self._entries:
            if entry[0] == command_id:
                return str(entry[2])
        return None

    def begin(self, command_id: str, action: str, ttl_ms: int, now_ms: int) -> bool:
        """A new command: pending from now on. False when there is no room for its id."""
        if len(self._entries) >= KEPT_IDS:
            self._entries = [entry for entry in self._entries if self._until_ms[entry[0]] >= now_ms]
            self._until_ms = {entry[0]: self._until_ms[entry[0]] for entry in self._entries}
        if len(self._entries) >= KEPT_IDS:
            return False
        self._entries.append([command_id, action, "pending", ttl_ms])
        self._until_ms[command_id] = now_ms + ttl_ms
        return True

    def forget(self, command_id: str) -> None:
        """The command could not be written down, so it never came."""
        self._entries = [entry for entry in self._entries if entry[0] != command_id]
        self._until_ms.pop(command_id, None)

    def finish(self, command_id: str, status: str) -> None:
        """The command has acted, with `status`."""
        for entry in self._entries:
            if entry[0] == command_id:
                entry[2] = status

    def after_power_on(self) -> "list[tuple[str, str]]":
        """Settle what was pending when power went: a restart has just happened, anything else has failed.

        Returns `(id, status)` of the commands settled now.
        """
        settled = []
        for entry in self._entries:
            if entry[2] == "pending":
                entry[2] = "restarted" if entry[1] == "restart" else "failed"
                settled.append((entry[0], entry[2]))
        return settled
