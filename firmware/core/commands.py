"""Commands at a node: written down, then carried out, then answered; a copy is answered again and changes nothing."""

from firmware.core.journal import Journal
from firmware.wire.messages import encode_ack
from firmware.wire.outputs import Alarm, Restart

ACTIONS = ("alert", "restart")


class Commands:
    """What the node was told to do of late."""

    def __init__(self, core, slot: "list | None", now_ms: int) -> None:
        """`slot`: what `keep` stored before the power went."""
        self._core = core
        self._journal = Journal(slot, now_ms)
        self._answers = self._journal.after_power_on()

    def answer_old(self, now_ms: int) -> None:
        """Connected: answer what was pending when the power went."""
        for command_id, status in self._answers:
            self._answer(command_id, status, now_ms)
        self._answers = []

    def on_command(self, command: dict, now_ms: int) -> None:
        """A checked command from the gateway."""
        command_id, action = command["id"], command["action"]
        status = self._journal.status(command_id)
        if status == "pending":
            return  # its answer follows when it has acted
        if status:
            self._answer(command_id, status, now_ms)
            return
        self._core.on_heard(now_ms)
        if action not in ACTIONS:
            self._answer(command_id, "failed", now_ms, "unknown action")
            return
        if not self._journal.begin(command_id, action, command["ttl_ms"], now_ms):
            return  # it comes again when there is room for its id
        self._core.stores.persist(
            ("put", "journal", self._journal.as_slot()),
            lambda at_ms: self._act(command, at_ms),
            lambda at_ms: self._journal.forget(command_id),
        )

    def keep(self) -> None:
        """Put the state of all commands on flash."""
        self._core.stores.later(("put", "journal", self._journal.as_slot()))

    def _act(self, command: dict, now_ms: int) -> None:
        core, action = self._core, command["action"]
        core.event("command.executed", {"id": command["id"], "action": action})
        if action == "restart":
            core.emit(Restart())  # the answer follows after the boot, from the journal
            return
        on = command.get("state", "on") != "off"
        core.emit(Alarm(on, command["by"]))
        fields = {"by": command["by"], "id": command["id"]}
        if "rule" in command:
            fields["rule"] = command["rule"]
        core.event("alarm.local" if on else "alarm.silenced", fields)
        self._journal.finish(command["id"], "done")
        self.keep()
        self._answer(command["id"], "done", now_ms)

    def _answer(self, command_id: str, status: str, now_ms: int, reason: str = "") -> None:
        core = self._core
        core.publish(core.topics["ack"], encode_ack(command_id, status, reason), now_ms)
