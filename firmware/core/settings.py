"""What can be set from afar: tried out at once, kept once the gateway is heard under it, taken back if it is not.

Nothing of a trial is on flash, so a node that restarts in the middle of one has its old settings.
"""

CONFIRM_S = 120  # four beacons
_ENVELOPE = ("action", "id", "ttl_ms", "by", "confirm_s")
# In seconds, from and to. A gateway believes three intervals, so a heartbeat is no rarer than an hour.
_BOUNDS = {"interval_s": (1, 86400), "heartbeat_s": (10, 3600), "confirm_s": (10, 3600)}


class Settings:
    """The values in force: `interval_s` of all periodic sensors, `heartbeat_s`, and `thresholds` of local rules by
    name. What is not set is as the node was configured with."""

    def __init__(self, core, slot: "dict | None", heartbeat_ms: int, now_ms: int) -> None:
        """`slot`: what was kept on flash. The core's sensors, rules and presence exist already."""
        self._core = core
        self._every_ms = [sensor.every_ms for sensor in core.sensors]
        self._heartbeat_ms = heartbeat_ms
        self._stretch = 1
        self._trial: tuple | None = None  # the command's id, the values
        self.due_ms: int | None = None  # until when the gateway has to be heard
        self.values: dict = slot if isinstance(slot, dict) and not self.problem(slot) else {}
        if self.values:
            self._judge_and_pace(self.values, now_ms)
            core.presence.heartbeat_ms = self._interval_ms(self.values)

    def problem(self, wanted: dict) -> str:
        """What is wrong with the settings in a command, or nothing."""
        for name in sorted(wanted):
            if name in _BOUNDS:
                low, high = _BOUNDS[name]
                if type(wanted[name]) is not int or not low <= wanted[name] <= high:
                    return "%s is not from %d to %d" % (name, low, high)
            elif name == "thresholds":
                reason = self._core.rules.problem_of_thresholds(wanted[name])
                if reason:
                    return reason
            elif name not in _ENVELOPE:
                return "cannot set " + name[:32]
        return ""

    def begin(self, command: dict, now_ms: int) -> None:
        """Put what the command sets in force, and ask the gateway for a sign of life.

        No trial is under way, for the command was a word of the gateway and ended it."""
        values = dict(self.values)
        for name in command:
            if name == "thresholds":
                values[name] = dict(values.get(name, {}))
                values[name].update(command[name])
            elif name not in _ENVELOPE:
                values[name] = command[name]
        self._trial = (command["id"], values)
        self.due_ms = now_ms + 1000 * command.get("confirm_s", CONFIRM_S)
        self._apply(values, now_ms)
        self._core.presence.beacon(now_ms)

    def heard(self, now_ms: int) -> None:
        """The gateway was heard during a trial: keep the settings, together with the command's answer."""
        if self._trial is None:
            return
        command_id, values = self._trial
        self._trial = self.due_ms = None
        before, self.values = self.values, values
        self._core.commands.conclude(
            command_id, ("put", "config", values), lambda at_ms: self._take_back(command_id, before, "flash", at_ms)
        )

    def on_timer(self, now_ms: int) -> None:
        """Take a trial back when its time is over."""
        if self._trial is not None and self.due_ms is not None and now_ms >= self.due_ms:
            command_id = self._trial[0]
            self._trial = self.due_ms = None
            self._take_back(command_id, self.values, "the gateway was not heard", now_ms)

    def stretch(self, factor: int, now_ms: int) -> None:
        """Make all intervals `factor` times as long as they are set."""
        self._stretch = factor
        self._apply(self._trial[1] if self._trial else self.values, now_ms)

    def _take_back(self, command_id: str, values: dict, reason: str, now_ms: int) -> None:
        self.values = values
        self._apply(values, now_ms)
        self._core.event("config.rolled-back", {"id": command_id, "reason": reason})
        self._core.commands.fail(command_id, "rolled back: " + reason, now_ms)

    def _apply(self, values: dict, now_ms: int) -> None:
        self._judge_and_pace(values, now_ms)
        interval_ms = self._interval_ms(values)
        if interval_ms != self._core.presence.heartbeat_ms:
            self._core.presence.announce(interval_ms, now_ms)

    def _judge_and_pace(self, values: dict, now_ms: int) -> None:
        self._core.rules.set_thresholds(values.get("thresholds", {}))
        every_s = values.get("interval_s")
        for sensor, own_ms in zip(self._core.sensors, self._every_ms):
            if own_ms is not None:
                sensor.pace((own_ms if every_s is None else 1000 * every_s) * self._stretch, now_ms)

    def _interval_ms(self, values: dict) -> int:
        every_s = values.get("heartbeat_s")
        own_ms = self._heartbeat_ms if every_s is None else 1000 * every_s
        return self._core.heartbeat_interval_ms(own_ms * self._stretch)
