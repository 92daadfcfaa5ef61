"""Commands at a node: written down, then carried out, then answered; a copy is answered again and changes nothing."""

from firmware.core.attachment import UP
from firmware.core.journal import Journal
from firmware.wire.messages import encode_ack
from firmware.wire.outputs import Identify, Restart

ACTIONS = ("alert", "restart", "config", "identify", "rejoin")
IDENTIFY_S = 10
MAX_IDENTIFY_S = 3600


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
        reason = self._problem(command)
        if reason:
            self._answer(command_id, "failed", now_ms, reason)
            return
        if not self._journal.begin(command_id, action, command["ttl_ms"], now_ms):
            return  # it comes again when there is room for its id
        self._core.stores.persist(
            ("put", "journal", self._journal.as_slot()),
            lambda at_ms: self._act(command, at_ms),
            lambda at_ms: self._journal.forget(command_id),
        )

    def conclude(self, command_id: str, write: tuple, failed) -> None:
        """The command has acted: its outcome `write` and its answer become durable together, or `failed(now_ms)`."""
        self._journal.finish(command_id, "done")
        self._core.stores.together(
            [write, ("put", "journal", self._journal.as_slot())],
            lambda at_ms: self._answer(command_id, "done", at_ms),
            failed,
        )

    def fail(self, command_id: str, reason: str, now_ms: int) -> None:
        """The command had no lasting effect."""
        self._journal.finish(command_id, "failed")
        self.keep()
        if self._core.link.state == UP:
            self._answer(command_id, "failed", now_ms, reason)
        else:
            self._answers.append((command_id, "failed"))

    def keep(self) -> None:
        """Put the state of all commands on flash."""
        self._core.stores.later(("put", "journal", self._journal.as_slot()))

    def _act(self, command: dict, now_ms: int) -> None:
        core, action = self._core, command["action"]
        core.event("command.executed", {"id": command["id"], "action": action})
        if action == "restart":
            core.emit(Restart())  # the answer follows after the boot, from the journal
            return
        if action == "config":
            core.settings.begin(command, now_ms)  # the answer follows when the gateway was heard under it
            return
        if action == "rejoin":
            self._journal.finish(command["id"], "done")
            self.keep()
            self._answer(command["id"], "done", now_ms)
            self._answers.append((command["id"], "done"))  # and there, for the way from here ends with this
            core.move(core.home, now_ms)
            return
        if action == "identify":
            core.emit(Identify(1000 * command.get("for_s", IDENTIFY_S)))
        else:
            fields = {"id": command["id"]}
            if "rule" in command:
                fields["rule"] = command["rule"]
            core.sound(command.get("state", "on") != "off", command["by"], fields)
        self._journal.finish(command["id"], "done")
        self.keep()
        self._answer(command["id"], "done", now_ms)

    def _problem(self, command: dict) -> str:
        """Why the command cannot be carried out, or nothing."""
        if command["action"] not in ACTIONS:
            return "unknown action"
        if command["action"] == "config":
            return self._core.settings.problem(command)
        if command["action"] == "rejoin" and command.get("gateway") != self._core.home["id"]:
            return "not its home"
        for_s = command.get("for_s", IDENTIFY_S)
        if command["action"] == "identify" and (type(for_s) is not int or not 0 < for_s <= MAX_IDENTIFY_S):
            return "for_s is not from 1 to %d" % MAX_IDENTIFY_S
        return ""

    def _answer(self, command_id: str, status: str, now_ms: int, reason: str = "") -> None:
        core = self._core
        core.publish(core.topics["ack"], encode_ack(command_id, status, reason), now_ms)
